"""
Retention: predictions for untrained phrases before and after a run.

The worst failure of fine-tuning is a model that predicts masks of the trained phrases for every prompt, such as masks
of cracks for the prompt "car". No metric of the trained phrases shows it.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from pycocotools import mask as coco_mask

from ..arguments import DataArguments
from ..data.loading import PhraseData, load_phrase_dataset
from ..data.phrases.probe_phrases import INVENTED, SWAPPED, UNTOUCHED, probe_kinds
from ..data.readers.records import ReadOptions
from ..data.row_schema import FEATURES, to_dataset
from ..data.samples.pipeline import EvaluationSamples
from ..evaluation.predictions import PredictionStore, score
from ..metrics.pairs import SCORE
from ..training.sam3_trainer import Sam3Trainer
from ..utils.json_files import read_json_file, write_json


logger = logging.getLogger("sam_ft.run")

MIN_PAIRS = 10  # Minimum number of (image, phrase) pairs of a metric.
DEGRADATION_THRESHOLD = 0.1  # Change of a metric that counts as a regression.
_FOLDER = "retention"


@dataclass
class Probe:
    """
    Images and untrained phrases on which retention is measured.

    Attributes:
        rows (`datasets.Dataset`): Images with the phrases of the probe, without labels.
        kinds (`dict[str, str]`): Kind of each phrase: `untouched` (not trained), `swapped` (a trained phrase with
            another
            colour) or `invented` (nonsense).
        known (`datasets.Dataset`, *optional*): Rows of a labelled probe set.
        category_ids (`dict[str, int]`): Category ids of the phrases of the labelled probe set.
    """

    rows: Dataset
    kinds: dict[str, str]
    known: Dataset | None = None
    category_ids: dict[str, int] = field(default_factory=dict)


def make_probe(
    data: PhraseData,
    kinds: dict[str, str],
    images: int,
    known: PhraseData | None = None,
    trained: set[str] | None = None,
) -> Probe:
    """
    Build the probe of a run.

    Args:
        data (`PhraseData`): Data of the run, whose validation images are used.
        kinds (`dict[str, str]`): Kind of each phrase, from [`probe_kinds`].
        images (`int`): Maximum number of images, spread over the validation split.
        known (`PhraseData`, *optional*): Labelled probe set.
        trained (`set[str]`, *optional*): Phrases that are removed from the labelled probe set.

    Raises:
        ValueError: If the labelled probe set contains only trained phrases.
    """
    rows = data.validation
    chosen = rows.select(np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int).tolist())
    phrases = [{"text": text, "instances": [], "exhaustive": False} for text in kinds]
    chosen = chosen.map(lambda row: {"instances": [], "phrases": phrases}, features=FEATURES, keep_in_memory=True)
    probe = Probe(chosen, kinds)
    if known is not None:
        known_rows = [
            row | {"phrases": [p for p in row["phrases"] if p["text"] not in (trained or set())]}
            for row in known.validation.select(range(min(images, len(known.validation))))
        ]
        if not any(phrase["instances"] for row in known_rows for phrase in row["phrases"]):
            raise ValueError(
                "`probe_dataset` shows only phrases that are trained. Set it to a data set with other phrases"
            )
        probe.known, probe.category_ids = to_dataset(known_rows), known.category_ids
    return probe


def build_retention(trainer: Sam3Trainer, data: PhraseData, data_args: DataArguments) -> "Retention":
    """
    Build the retention measurement of a run; it is empty with `probe_images: 0` and for sharded models.

    Args:
        trainer (`Sam3Trainer`): Trainer of the run.
        data (`PhraseData`): Data of the run.
        data_args (`DataArguments`): Keys of the data.
    """
    if data_args.probe_images and not trainer.can_evaluate_before_training:
        logger.info(
            "note: FSDP and DeepSpeed cannot evaluate before training; measure retention with sam3_eval.py `--compare`"
        )
    if not data_args.probe_images or not trainer.can_evaluate_before_training:
        return Retention(trainer, None)
    # Without recorded phrases, all phrases of the data may have been trained.
    trained = set(data.category_ids) if trainer.trained_phrases is None else trainer.trained_phrases
    source, known = data_args.probe_source(), None
    if source is not None:
        names = ("on_bad_rows", "verify_images", "allow_outside_images")
        reading = ReadOptions(**{name: getattr(data_args, name) for name in names})
        with trainer.args.main_process_first(desc="probe set"):
            known = load_phrase_dataset(source, reading, with_train=False)
    kinds = probe_kinds(data_args.probe_phrases, trained)
    return Retention(trainer, make_probe(data, kinds, data_args.probe_images, known, trained))


class Retention:
    """
    Retention measurement: predictions on the probe before and after training.

    Args:
        trainer (`Sam3Trainer`): Trainer whose model is measured.
        probe (`Probe`, *optional*): Images and phrases; without it nothing is measured.
    """

    def __init__(self, trainer: Sam3Trainer, probe: Probe | None):
        self.trainer, self.probe = trainer, probe
        self.folder = Path(trainer.args.output_dir) / _FOLDER
        self.before: dict[str, PredictionStore] | None = None
        self.after: dict[str, PredictionStore] | None = None

    def remember(self) -> None:
        """Store the predictions of the initial model, or read those of an earlier start of the same run."""
        if self.probe is None:
            return
        self.before = self._read()
        if self.before is None:
            self.before = self.predict()
            if self.trainer.is_world_process_zero():
                content = {name: store.plain() for name, store in self.before.items()}
                write_json(self.folder / "base.json", {"asked": self._describe_probe(), **content})

    def compare(self, *, log: bool = False) -> dict[str, float]:
        """
        Compare the current predictions with those of the initial model.

        Args:
            log (`bool`): Whether to pass the metrics to the loggers of the trainer.

        Returns:
            `dict[str, float]`: Metrics of [`agreement`] with the prefix `eval_`; with a labelled probe set also
            `eval_retention_AP50_before` and `eval_retention_AP50`.
        """
        if self.probe is None:
            return {}
        self.after = after = self.predict()
        numbers = agreement(self.before["probe"], after["probe"], self.probe.kinds, self.sizes())
        if self.probe.known is not None:
            numbers["retention_AP50_before"] = self.precision(self.before["known"])
            numbers["retention_AP50"] = self.precision(after["known"])
        numbers = {f"eval_{name}": value for name, value in numbers.items()}
        if log:
            self.trainer.log(numbers)
        return numbers

    def predict(self) -> dict[str, PredictionStore]:
        """Return the current predictions for `probe` and, with a labelled probe set, for `known`."""
        stores = {"probe": self._predict_rows(self.probe.rows, use_cache=True)}
        if self.probe.known is not None:
            stores["known"] = self._predict_rows(self.probe.known)
        return stores

    def _predict_rows(self, rows: Dataset, *, use_cache: bool = False) -> PredictionStore:
        reference = self.trainer.eval_dataset
        samples = EvaluationSamples(
            rows,
            resolution=reference.resolution,
            geometry_token=reference.geometry_token,
            with_masks=reference.with_masks,
        )
        if use_cache and reference.store is not None:
            samples.use(reference.store)
        return self.trainer.answer(samples)

    def precision(self, store: PredictionStore) -> float:
        """Return the AP50 of predictions on the labelled probe set."""
        rows = self.probe.known.remove_columns("image")
        with_masks = self.trainer.eval_dataset.with_masks
        scored = score(rows, store, self.probe.category_ids, with_masks=with_masks)
        return scored.metrics[f"{scored.kind}_AP50"]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return height and width of the images of the probe."""
        rows = self.probe.rows.select_columns(["example_id", "height", "width"])
        return {row["example_id"]: (row["height"], row["width"]) for row in rows}

    def _describe_probe(self) -> list:
        known = [] if self.probe.known is None else self.probe.known["example_id"][:]
        return [list(self.probe.rows["example_id"]), list(self.probe.kinds), list(known)]

    def _read(self) -> dict[str, PredictionStore] | None:
        file = self.folder / "base.json"
        if not file.is_file():
            return None
        content = read_json_file(
            file, remedy="Delete it and run the same command again, which measures the model again"
        )
        if content.pop("asked") != self._describe_probe():
            return None
        return {name: PredictionStore.of_plain(plain) for name, plain in content.items()}


def agreement(
    before: PredictionStore,
    after: PredictionStore,
    kinds: dict[str, str],
    sizes: dict[str, tuple[int, int]],
    *,
    min_pairs: int = MIN_PAIRS,
) -> dict[str, float]:
    """
    Compare the predictions of two models for untrained phrases; those of the first model are the reference.

    Args:
        before (`PredictionStore`): Predictions of the first model.
        after (`PredictionStore`): Predictions of the second model.
        kinds (`dict[str, str]`): Kind of each phrase.
        sizes (`dict[str, tuple[int, int]]`): Height and width of each image.
        min_pairs (`int`): Minimum number of (image, phrase) pairs of a metric; metrics with fewer are left out.

    Returns:
        `dict[str, float]`: `retention_presence_agreement`: share of pairs of untouched phrases with the same presence;
        `retention_IoU`: IoU of all detections before and after, over the untouched pairs with a detection before;
        `retention_false_yes`: share of the untouched pairs predicted absent before that are predicted present after;
        `retention_swapped_yes`, `retention_invented_yes` and the same with `_before`: share of the pairs of that kind
        that are predicted present.
    """
    pairs: dict[str, list[tuple[str, str]]] = {UNTOUCHED: [], SWAPPED: [], INVENTED: []}
    for key in sorted(before.presence.keys() & after.presence.keys()):
        if key[1] in kinds:
            pairs[kinds[key[1]]].append(key)

    def is_present(store, key):
        return store.presence[key] >= SCORE

    def mean(values: Iterable) -> float | None:
        numbers = [float(value) for value in values]
        return sum(numbers) / len(numbers) if len(numbers) >= min_pairs else None

    untouched = pairs[UNTOUCHED]
    detected = [key for key in untouched if _confident(before, key)]
    numbers = {
        "retention_presence_agreement": mean(is_present(before, key) == is_present(after, key) for key in untouched),
        "retention_false_yes": mean(is_present(after, key) for key in untouched if not is_present(before, key)),
        "retention_IoU": mean(
            _overlap(_confident(before, key), _confident(after, key), sizes[key[0]]) for key in detected
        ),
    }
    for kind in (SWAPPED, INVENTED):
        numbers[f"retention_{kind}_yes_before"] = mean(is_present(before, key) for key in pairs[kind])
        numbers[f"retention_{kind}_yes"] = mean(is_present(after, key) for key in pairs[kind])
    return {name: number for name, number in numbers.items() if number is not None}


def verdict(numbers: dict[str, float], before: dict[str, float]) -> list[str]:
    """
    Describe the retention metrics in sentences, regressions first.

    Args:
        numbers (`dict[str, float]`): Metrics of the tuned model from an evaluation and [`agreement`], without prefix.
        before (`dict[str, float]`): Metrics of the model with which it is compared, without prefix.
    """
    regressions, unchanged = [], []

    def add(is_regression: bool, text: str):
        (regressions if is_regression else unchanged).append(text)

    kind = next((k for k in ("mask", "box") if f"{k}_AP50_other" in numbers), None)
    if kind and before.get(f"{kind}_AP50_other", -1) >= 0:
        old, new = before[f"{kind}_AP50_other"], numbers[f"{kind}_AP50_other"]
        add(
            old - new >= DEGRADATION_THRESHOLD,
            f"AP50 of labelled phrases that were not trained: {old:.2f} before, {new:.2f} now",
        )
    if min(numbers.get("retention_AP50", -1), numbers.get("retention_AP50_before", -1)) >= 0:
        old, new = numbers["retention_AP50_before"], numbers["retention_AP50"]
        add(old - new >= DEGRADATION_THRESHOLD, f"AP50 on the probe set: {old:.2f} before, {new:.2f} now")
    if "retention_presence_agreement" in numbers:
        share = numbers["retention_presence_agreement"]
        add(
            1 - share >= DEGRADATION_THRESHOLD,
            f"presence of untrained phrases is predicted as before in {share:.0%} of the pairs",
        )
    if "retention_false_yes" in numbers:
        share = numbers["retention_false_yes"]
        add(
            share >= DEGRADATION_THRESHOLD,
            f"untrained phrases that were predicted absent are now predicted present in {share:.0%} of the pairs",
        )
    if "retention_IoU" in numbers:
        share = numbers["retention_IoU"]
        add(
            1 - share >= 3 * DEGRADATION_THRESHOLD,
            f"detections of untrained phrases before and now have an IoU of {share:.2f}",
        )
    for kind, phrases in ((SWAPPED, "trained phrases in another colour"), (INVENTED, "nonsense phrases")):
        if f"retention_{kind}_yes" in numbers:
            old, new = numbers[f"retention_{kind}_yes_before"], numbers[f"retention_{kind}_yes"]
            add(
                new - old >= DEGRADATION_THRESHOLD,
                f"{phrases} are predicted present in {new:.0%} of the pairs, {old:.0%} before",
            )
    if not regressions and not unchanged:
        return []
    head = (
        "FORGOTTEN: the model has lost some of what it knew. Remedies: `replay`, `distill_weight`, `lora`, lower rates"
        if regressions
        else "Retention: no regression on untrained phrases"
    )
    return [head, *(f"  ✗ {text}" for text in regressions), *(f"  ✓ {text}" for text in unchanged)]


def _confident(store: PredictionStore, key: tuple[str, str]) -> list[dict]:
    return [detection for detection in store.detections.get(key, []) if detection["score"] >= SCORE]


def _overlap(first: list[dict], second: list[dict], size: tuple[int, int]) -> float:
    """Return the IoU of the union of two lists of detections; boxes replace missing masks."""
    if not second:
        return 0.0
    unions = [coco_mask.merge([_rle(detection, size) for detection in detections]) for detections in (first, second)]
    return float(coco_mask.iou(unions[:1], unions[1:], [0])[0, 0])


def _rle(detection: dict, size: tuple[int, int]):
    return (
        detection["segmentation"]
        if "segmentation" in detection
        else coco_mask.frPyObjects(np.array([detection["bbox"]], dtype=np.float64), *size)[0]
    )
