"""Several evaluations in one report: numbers with intervals, what changed, pictures."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import transformers
from PIL import Image

from .. import __version__
from ..arguments import EvalArguments
from ..arguments.dataset import SharedDataArguments
from ..data.loading import PhraseData
from ..evaluation.predictions import Scored, read_evaluation, read_objects, score_results, with_masks_only
from ..metrics.bootstrap import image_weights, interval, resampled_pairs, resampled_precision
from ..metrics.objects import resampled_objects
from ..metrics.summary import measure, summarize
from ..metrics.thresholds import at_thresholds
from ..reporting.html_report import as_page
from ..reporting.metric_table import Column, as_markdown, as_plain
from ..reporting.pictures import comparison_of, tile
from ..training.checkpoints import RUN_KIND
from ..training.evaluation_loop import ScoringTrainer
from ..utils.console import read_metrics
from ..utils.json_files import to_json
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import redact
from .candidates import Evaluated
from .retention_probe import Retention, agreement, verdict


logger = logging.getLogger("sam_ft.run")


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
                truth = with_masks_only(truth)
            numbers.append(resampled_precision(truth, scored.results, kind, images))
    if scored.objects:
        places = {
            image["example_id"]: images.index(image["id"])
            for image in scored.ground_truth["images"]
            if image["id"] in images
        }
        listed = [(one, places[example]) for (example, _), one in sorted(scored.objects.items()) if example in places]
        numbers.append(resampled_objects(*zip(*listed, strict=True)))
    rows = [{name: value for part in numbers for name, value in part(row).items()} for row in weights]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _differences(metrics: dict, drawn: dict, first: dict, others: dict) -> dict[str, tuple[float, float, float]]:
    return {
        name: (metrics[name] - first[name], *interval(values - others[name]))
        for name, values in drawn.items()
        if name in others and metrics.get(name, -1) != -1 and first.get(name, -1) != -1
    }


def pictures_of(
    evaluated: list[Evaluated], data: PhraseData, number: int, only: set[str] | None = None
) -> dict[str, list[tuple[str, Image.Image]]]:
    """
    Pictures of the images that the last one answers best and worst, and that changed most since the first.

    Args:
        evaluated (`list[Evaluated]`), data (`PhraseData`). number (`int`): of pictures of each kind.
        only (`set[str]`, *optional*): phrases that count and are drawn, on images that show one of them; all where not given.
    """
    if not number:
        return {}
    prompted = all(one.scored.objects for one in evaluated)
    by_image = {one.name: _by_object(one.scored) if prompted else _by_image(one.scored, only) for one in evaluated}
    what = "mean IoU of its objects" if prompted else "mean F1 of its phrases"
    last, first = by_image[evaluated[-1].name], by_image[evaluated[0].name]
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
                f"{examples[image]} · {what}: {_scores(image, by_image)}",
                tile([comparison_of(_with(data.validation[places[examples[image]]], only), stages)]),
            )
            for image in images
        ]
        for heading, images in chosen.items()
    }


def _with(row: dict, only: set[str] | None) -> dict:
    return row if only is None else row | {"phrases": [p for p in row["phrases"] if p["text"] in only]}


def _by_image(scored: Scored, only: set[str] | None = None) -> dict[int, float]:
    """Mean F1 of an image's pairs; an absent phrase of which nothing is found is right."""
    values: dict[int, list[float]] = {}
    shown = {
        one.pair.image_id
        for one in scored.measured
        if only is not None and one.pair.phrase in only and one.pair.objects
    }
    for one in scored.measured:
        if only is not None and (one.pair.phrase not in only or one.pair.image_id not in shown):
            continue
        if one.counts is not None:
            nothing = not one.counts.num_found and not one.counts.num_truth
            values.setdefault(one.pair.image_id, []).append(1.0 if nothing else float(one.counts.f1.mean()))
    return {image: sum(listed) / len(listed) for image, listed in values.items()}


def _by_object(scored: Scored) -> dict[int, float]:
    """Mean IoU of an image's prompted objects."""
    ids = {image["example_id"]: image["id"] for image in scored.ground_truth["images"]}
    values: dict[int, list[float]] = {}
    for (example, _), one in scored.objects.items():
        values.setdefault(ids[example], []).append(one.iou)
    return {image: sum(listed) / len(listed) for image, listed in values.items()}


def _scores(image: int, by_image: dict[str, dict[int, float]]) -> str:
    return ", ".join(f"{name} {values.get(image, 0.0):.2f}" for name, values in by_image.items())


def write_report(
    evaluated: list[Evaluated],
    data: PhraseData,
    data_args: SharedDataArguments,
    eval_args: EvalArguments,
    folder: Path,
    *,
    num_pictures: int,
    warnings: list[str] = (),
    kind: str = "evaluation",
) -> list[Column]:
    """Writes `report.html`, `report.md` and `report.json` of what was evaluated into a folder; gives the columns back."""
    columns, pictures = columns_of(evaluated, eval_args), pictures_of(evaluated, data, num_pictures)
    columns[-1].notes = [*warnings, *columns[-1].notes]
    place = data_args.annotation_file or data_args.dataset_name
    shown = Path(place).name if Path(place).exists() else place  # where a folder lies is nobody's business
    told = {one.asked: [] for one in evaluated if one.asked}
    for one in evaluated:
        told.get(one.asked, []).append(one.name)
    alone = len(told) == 1 and len(next(iter(told.values()))) == len(evaluated)
    asked = [what if alone else f"{', '.join(names)}: {what}" for what, names in told.items()] or [data_args.asked()]
    footer = [
        f"{shown}; {'; '.join(asked)}; sam-ft {__version__}, transformers {transformers.__version__}.",
        "AP as pycocotools computes it, sizes by the areas of masks. cgF1, pmF1 and IL_MCC, of models that are asked phrases, as the official "
        "evaluator: detections count from a score of 0.5. Mean IoU, Dice and boundary F1 compare all that is found of a phrase with all that is there, where it is there.",
    ]
    contents = {
        "report.html": as_page(columns, pictures, eval_args.report_title, footer),
        "report.md": as_markdown(columns, eval_args.report_title),
        "report.json": to_json(as_plain(columns), "report.json", indent=1),
    }
    owned = OwnedFiles(folder, kind)
    for name, content in contents.items():
        file, is_replaced = owned.write_unless_edited(name, redact(content))
        if not is_replaced:
            logger.warning("%s was edited and is kept; the new one is %s", name, file)
    return columns


@dataclass
class RunReport:
    """
    Attributes:
        notes (`list[str]`): what was forgotten, in words; see [`verdict`]. evaluated (`list[Evaluated]`): before, where it is known, and
            after; of the first process alone. columns (`list[Column]`): of the same.
    """

    notes: list[str]
    evaluated: list[Evaluated]
    columns: list[Column]


def report_run(
    trainer: ScoringTrainer,
    metrics: dict[str, float],
    retention: Retention,
    data: PhraseData,
    data_args: SharedDataArguments,
    warnings: list[str] = (),
) -> RunReport:
    """
    Writes the report of a run, before and after, into its folder, unless it wants no pictures.

    Args:
        trainer (`ScoringTrainer`): just evaluated. metrics (`dict[str, float]`): of that, prefixed `eval_`. retention (`Retention`): just
            compared. data (`PhraseData`), data_args (`DataArguments`): the run's. warnings (`list[str]`): what makes the metrics optimistic;
            the report begins with them.
    """
    folder = Path(trainer.args.output_dir)
    numbers = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    notes = [*warnings, *verdict(numbers, read_metrics(folder / "before_results.json", "before_"))]
    if not trainer.is_world_process_zero():
        return RunReport(notes, [], [])
    evaluated = before_and_after(trainer, metrics, retention)
    if not trainer.num_pictures:
        columns = columns_of(evaluated, EvalArguments(bootstrap_samples=0))
        columns[-1].notes = [*warnings, *columns[-1].notes]
    else:
        arguments = EvalArguments(report_title=f"{folder.name}: before and after")
        columns = write_report(
            evaluated,
            data,
            data_args,
            arguments,
            folder,
            num_pictures=trainer.num_pictures,
            warnings=warnings,
            kind=RUN_KIND,
        )
    columns[-1].notes = columns[-1].notes if len(evaluated) > 1 else notes
    return RunReport(notes, evaluated, columns)


def before_and_after(trainer: ScoringTrainer, metrics: dict[str, float], retention: Retention) -> list[Evaluated]:
    """A run's two evaluations, from its folder and from its trainer; the second alone where the first is missing or of other images."""
    folder, scored = Path(trainer.args.output_dir), trainer.scored
    kinds, sizes, probes = {}, {}, (None, None)
    if retention.probe is not None:
        kinds, sizes = retention.probe.kinds, retention.sizes()
        probes = retention.before["probe"], retention.after["probe"]
    after = Evaluated("after", metrics, scored, trainer.thresholds, probes[1], kinds, sizes)
    found = read_evaluation(folder / "before") if (folder / "before" / "presence.json").is_file() else None
    if found is None or found[0] != json.loads(json.dumps(scored.ground_truth)):
        return [after]
    truth, results, presence = found
    old = score_results(
        truth, results, presence, with_masks=scored.kind == "mask", trained=trainer.trained_phrases,
        objects=read_objects(folder / "before"),
    )  # fmt: skip
    numbers = read_metrics(folder / "before_results.json", "before_")
    named = {f"eval_{name}": value for name, value in numbers.items()}
    return [Evaluated("before", named, old, None, probes[0], kinds, sizes), after]
