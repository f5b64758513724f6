"""Several models, or other programs' results, on the same images: one column each."""

import dataclasses
import gc
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import transformers
from PIL import Image

from .. import __version__
from ..arguments import DataArguments, EvalArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from ..data.load import PhraseData
from ..metrics.average_precision import coco_ground_truth
from ..metrics.bootstrap import image_weights, interval, resampled_pairs, resampled_precision
from ..metrics.summary import measure, summarize
from ..metrics.thresholds import Thresholds, at_thresholds, read_thresholds
from ..ops.masks import polygons_to_counts, rle_to_counts
from ..report.columns import Column, as_markdown, as_plain
from ..report.page import as_page
from ..report.stages import read_metrics
from ..report.visualize import Detections, comparison_of, tile
from .build import build_sam3_trainer, load_sam3
from .evaluation import PredictionStore, Scored, by_example, read_evaluation, score_results
from .retention import Retention, agreement, build_retention, verdict
from .sam3 import Sam3Trainer


@dataclass
class Candidate:
    """What is compared: `source` is a model, or a COCO results file."""

    name: str
    source: str

    @property
    def is_results(self) -> bool:
        return self.source.endswith(".json")


@dataclass
class Evaluated:
    """
    Attributes:
        name (`str`). metrics (`dict[str, float]`): prefixed `eval_`. scored (`Scored`). detections (`Detections`): for pictures.
        thresholds (`Thresholds`, *optional*): those saved with the model. probe (`PredictionStore`, *optional*): its answers to phrases
            that are not trained; kinds, sizes: of those phrases and images.
    """

    name: str
    metrics: dict[str, float]
    scored: Scored
    detections: Detections
    thresholds: Thresholds | None = None
    probe: PredictionStore | None = None
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def candidates_of(compare: list[str], model: str) -> list[Candidate]:
    """
    What `compare` names, then the model.

    Raises:
        `ValueError`: where two have one name, or a results file is not there.
    """
    found = []
    for entry in compare:
        name, given, source = entry.partition("=")
        name, source = (name.strip(), source.strip()) if given else (_name_of(entry), entry)
        if not name or not source or "/" in name or name.startswith("."):
            raise ValueError(f"`compare`: {entry!r} has no name that a folder can have; write NAME=SOURCE")
        found.append(Candidate(name, source))
        if found[-1].is_results and not Path(source).is_file():
            raise ValueError(f"`compare`: there is no file {source!r}")
    found.append(Candidate(_name_of(model), model))
    names = [candidate.name for candidate in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise ValueError(f"`compare`: two are called {double!r}; give them names, NAME=SOURCE")
    return found


def _name_of(source: str) -> str:
    return Path(source.rstrip("/")).name.removesuffix(".json")


def evaluate_model(
    candidate: Candidate,
    data: PhraseData,
    trained: set[str] | None,
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
) -> Evaluated:
    """Loads a model, scores it, asks it the probe, and lets it go."""
    model_args = dataclasses.replace(model_args, model_name_or_path=candidate.source)
    model, processor = load_sam3(model_args, training_args.seed, to_train=False)
    trainer = build_sam3_trainer(model, processor, data, data_args, loss_args, training_args, trained_phrases=trained)
    metrics = trainer.evaluate()
    result = Evaluated(
        candidate.name, metrics, trainer.scored, detections_of(trainer.scored), read_thresholds(Path(candidate.source))
    )
    if data_args.probe_images:
        retention = build_retention(trainer, data, data_args)
        answers = retention.ask()
        result.probe, result.kinds, result.sizes = answers["probe"], retention.probe.kinds, retention.sizes()
        if "known" in answers:
            result.metrics["eval_retention_AP50"] = retention.precision(answers["known"])
    del trainer, model
    gc.collect()
    return result


def evaluate_results(
    candidate: Candidate, data: PhraseData, trained: set[str] | None, *, with_masks: bool
) -> Evaluated:
    """
    Scores a COCO results file in the data set's own image and category ids.

    Raises:
        `ValueError`: naming the file and record, where it is none, or an id is not the data set's.
    """
    rows = data.validation.remove_columns("image")
    truth = coco_ground_truth(rows, data.category_ids)
    results = _read_results(candidate.source, truth)
    with_masks &= all("segmentation" in one for one in results)
    scored = score_results(truth, results, None, with_masks=with_masks, trained=trained)
    metrics = {f"eval_{name}": value for name, value in scored.metrics.items()}
    return Evaluated(candidate.name, metrics, scored, detections_of(scored))


def _read_results(file: str, truth: dict) -> list[dict]:
    """Results of pairs that were asked; of others nobody knows what is right."""

    def refuse(record: str, problem: str):
        raise ValueError(f"`compare`: {file}, {record}: {problem}")

    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`compare`: {file} is not JSON ({error})") from error
    if not isinstance(results, list):
        refuse("the whole file", "expected a list of COCO results")
    sizes = {one["id"]: (one["height"], one["width"]) for one in truth["images"]}
    categories = {one["id"] for one in truth["categories"]}
    for i, one in enumerate(results):
        if not isinstance(one, dict) or not _is_box(one.get("bbox")) or not _is_number(one.get("score")):
            refuse(f"result {i}", "expected image_id, category_id, a score, bbox [x, y, w, h] in px, and segmentation")
        for key, known in (("image_id", sizes), ("category_id", categories)):
            if one.get(key) not in known:
                shown = ", ".join(map(str, sorted(known)[:6]))
                refuse(f"result {i}", f"`{key}` is {one.get(key)!r}; the evaluation has {shown}, …")
        if "segmentation" in one:
            try:
                height, width = sizes[one["image_id"]]
                one["segmentation"] = {
                    "size": [height, width],
                    "counts": _counts_of(one["segmentation"], height, width),
                }
            except (ValueError, TypeError, KeyError) as error:
                refuse(f"result {i}", f"`segmentation` cannot be read ({error})")
    asked = {(pair["image_id"], pair["category_id"]) for pair in truth["pairs"]}
    return [one for one in results if (one["image_id"], one["category_id"]) in asked]


def _counts_of(segmentation, height: int, width: int) -> str:
    if isinstance(segmentation, dict):
        return rle_to_counts(segmentation, height, width)
    return polygons_to_counts(segmentation, height, width)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def columns_of(evaluated: list[Evaluated], eval_args: EvalArguments) -> list[Column]:
    """The report's columns: numbers, intervals, and what is different from the first."""
    images = sorted({pair.image_id for pair in evaluated[0].scored.pairs})
    weights = image_weights(len(images), eval_args.bootstrap_samples) if eval_args.bootstrap_samples else []
    columns, first = [], evaluated[0]
    for one in evaluated:
        metrics = {name.removeprefix("eval_"): value for name, value in one.metrics.items()}
        if one.thresholds is not None:
            kept = measure(at_thresholds(one.scored.pairs, one.thresholds), one.scored.kind)
            own = summarize(kept, one.scored.kind)
            metrics |= {f"{n}@thresholds": own[n] for n in ("F1", "false_positives_per_absent") if n in own}
        if one is not first and one.probe is not None and first.probe is not None:
            metrics |= agreement(first.probe, one.probe, one.kinds, one.sizes)
        drawn = _resampled(one.scored, images, weights)
        column = Column(one.name, metrics, phrases=one.scored.phrases, curves=one.scored.curves)
        column.intervals = {name: interval(values) for name, values in drawn.items() if metrics.get(name, -1) != -1}
        if one is first:
            of_first, drawn_first = metrics, drawn
        else:
            column.differences = _differences(metrics, drawn, of_first, drawn_first)
            before = {"retention_AP50_before": of_first["retention_AP50"]} if "retention_AP50" in of_first else {}
            column.notes = verdict(metrics | before, of_first)
        columns.append(column)
    return columns


def _resampled(scored: Scored, images: list[int], weights) -> dict[str, np.ndarray]:
    if not len(weights):
        return {}
    numbers: list[Callable] = [resampled_pairs(scored.measured, images)]
    for kind in ("mask", "box"):
        if f"{kind}_AP" in scored.metrics:
            truth = scored.ground_truth
            if kind == "mask":
                truth = {**truth, "annotations": [a for a in truth["annotations"] if "segmentation" in a]}
            numbers.append(resampled_precision(truth, scored.results, kind, images))
    rows = [{name: value for part in numbers for name, value in part(row).items()} for row in weights]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _differences(metrics: dict, drawn: dict, first: dict, others: dict) -> dict[str, tuple[float, float, float]]:
    return {
        name: (metrics[name] - first[name], *interval(values - others[name]))
        for name, values in drawn.items()
        if name in others and metrics.get(name, -1) != -1 and first.get(name, -1) != -1
    }


def pictures_of(evaluated: list[Evaluated], data: PhraseData, number: int) -> dict[str, list[tuple[str, Image.Image]]]:
    """Pictures of the images that the last one answers best and worst, and that changed most since the first."""
    if not number:
        return {}
    last, first = _by_image(evaluated[-1].scored), _by_image(evaluated[0].scored)
    order = sorted(last, key=last.get)
    chosen = {"Worst pictures": order[:number], "Best pictures": order[::-1][:number]}
    if len(evaluated) > 1:
        changed = sorted(last, key=lambda image: last[image] - first.get(image, 0.0))
        chosen[f"Most lost since {evaluated[0].name}"] = [i for i in changed if last[i] < first.get(i, 0.0)][:number]
        chosen[f"Most won since {evaluated[0].name}"] = [i for i in changed[::-1] if last[i] > first.get(i, 0.0)][
            :number
        ]
    examples = {image["id"]: image["example_id"] for image in evaluated[-1].scored.ground_truth["images"]}
    places = {example: i for i, example in enumerate(data.validation["example_id"])}
    stages = {one.name: one.detections for one in evaluated}
    return {
        heading: [
            (
                _caption(examples[image], image, evaluated),
                tile([comparison_of(data.validation[places[examples[image]]], stages)]),
            )
            for image in images
        ]
        for heading, images in chosen.items()
    }


def _by_image(scored: Scored) -> dict[int, float]:
    """Mean F1 of an image's pairs; an absent phrase of which nothing is found is right."""
    values: dict[int, list[float]] = {}
    for one in scored.measured:
        if one.counts is not None:
            nothing = not one.counts.num_found and not one.counts.num_truth
            values.setdefault(one.pair.image_id, []).append(1.0 if nothing else float(one.counts.f1.mean()))
    return {image: sum(listed) / len(listed) for image, listed in values.items()}


def _caption(example: str, image: int, evaluated: list[Evaluated]) -> str:
    scores = ", ".join(f"{one.name} {_by_image(one.scored).get(image, 0.0):.2f}" for one in evaluated)
    return f"{example} · mean F1 of its phrases: {scores}"


def write_report(
    evaluated: list[Evaluated],
    data: PhraseData,
    data_args: DataArguments,
    eval_args: EvalArguments,
    folder: Path,
    *,
    num_pictures: int,
) -> list[Column]:
    """Writes `report.html`, `report.md` and `report.json` of what was evaluated into a folder; gives the columns back."""
    columns = columns_of(evaluated, eval_args)
    token = "with" if data_args.eval_geometry_token == "always" else "without"
    footer = [
        f"{data_args.dataset_name}; text-only prompts {token} the geometry token; sam-ft {__version__}, transformers {transformers.__version__}.",
        "AP as pycocotools computes it, sizes by the areas of masks. cgF1, pmF1 and IL_MCC as the official evaluator: detections count from a "
        "score of 0.5. Mean IoU, Dice and boundary F1 compare all that is found of a phrase with all that is there, where it is there.",
    ]
    contents = {
        "report.html": as_page(columns, pictures_of(evaluated, data, num_pictures), eval_args.report_title, footer),
        "report.md": as_markdown(columns, eval_args.report_title),
        "report.json": json.dumps(as_plain(columns), indent=1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        draft = folder / f".{name}"
        draft.write_text(content, encoding="utf-8")
        draft.replace(folder / name)
    return columns


def report_run(
    trainer: Sam3Trainer, metrics: dict[str, float], retention: Retention, data: PhraseData, data_args: DataArguments
) -> list[str]:
    """
    Writes the report of a run, before and after, into its folder, unless it wants no pictures.

    Args:
        trainer (`Sam3Trainer`): just evaluated. metrics (`dict[str, float]`): of that, prefixed `eval_`. retention (`Retention`): just
            compared. data (`PhraseData`), data_args (`DataArguments`): the run's.

    Returns:
        `list[str]`: what was forgotten, in words; see [`verdict`].
    """
    folder = Path(trainer.args.output_dir)
    if trainer.is_world_process_zero() and trainer.num_pictures:
        arguments = EvalArguments(report_title=f"{folder.name}: before and after")
        evaluated = before_and_after(trainer, metrics, retention)
        write_report(evaluated, data, data_args, arguments, folder, num_pictures=trainer.num_pictures)
    numbers = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    return verdict(numbers, read_metrics(folder / "before_results.json", "before_"))


def before_and_after(trainer: Sam3Trainer, metrics: dict[str, float], retention: Retention) -> list[Evaluated]:
    """A run's two evaluations, from its folder and from its trainer; the second alone where the first is missing or of other images."""
    folder, scored = Path(trainer.args.output_dir), trainer.scored
    kinds, sizes, probes = {}, {}, (None, None)
    if retention.probe is not None:
        kinds, sizes = retention.probe.kinds, retention.sizes()
        probes = retention.before["probe"], retention.after["probe"]
    after = Evaluated("after", metrics, scored, detections_of(scored), trainer.thresholds, probes[1], kinds, sizes)
    found = read_evaluation(folder / "before") if (folder / "before" / "presence.json").is_file() else None
    if found is None or found[0] != json.loads(json.dumps(scored.ground_truth)):
        return [after]
    truth, results, presence = found
    old = score_results(truth, results, presence, with_masks=scored.kind == "mask", trained=trainer.trained_phrases)
    numbers = read_metrics(folder / "before_results.json", "before_")
    named = {f"eval_{name}": value for name, value in numbers.items()}
    return [Evaluated("before", named, old, detections_of(old), None, probes[0], kinds, sizes), after]


def detections_of(scored: Scored) -> Detections:
    """Detections by (example id, phrase)."""
    return by_example(scored.ground_truth, scored.results)
