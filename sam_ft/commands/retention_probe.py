"""
Retention: predictions for untrained phrases before and after a run.

The worst failure of fine-tuning is a model that predicts masks of the trained phrases for every prompt, such as masks
of cracks for the prompt "car". No metric of the trained phrases shows it.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from pycocotools import mask as coco_mask

from ..arguments import DataArguments
from ..data.loading import PhraseData, load_phrase_dataset
from ..data.phrases.probe_phrases import NONSENSE, RECOLORED, UNTRAINED, probe_kinds
from ..data.row_schema import FEATURES, to_dataset
from ..data.samples.pipeline import EvaluationSamples
from ..evaluation.predictions import PredictionStore, score
from ..metrics.pairs import SCORE
from ..models.families import get_family_of_model
from ..training.sam3_trainer import Sam3Trainer
from ..utils.console import NOTE
from ..utils.json_files import read_json_file, write_json
from .key_conversion import to_probe_options


logger = logging.getLogger("sam_ft.run")

MIN_PAIRS = 10  # Minimum number of (image, phrase) pairs of a metric.
_FOLDER = "retention"


@dataclass
class Probe:
    """
    Images and untrained phrases on which retention is measured.

    Attributes:
        rows (`datasets.Dataset`): Images with the phrases of the probe, without labels.
        kinds (`dict[str, str]`): Kind of each phrase: `untrained`, `recolored` (a trained phrase with another colour)
            or `nonsense`.
        labelled_rows (`datasets.Dataset`, *optional*): Rows of a labelled probe set.
        category_ids (`dict[str, int]`): Category ids of the phrases of the labelled probe set.
    """

    rows: Dataset
    kinds: dict[str, str]
    labelled_rows: Dataset | None = None
    category_ids: dict[str, int] = field(default_factory=dict)


def make_probe(
    data: PhraseData,
    kinds: dict[str, str],
    images: int,
    labelled: PhraseData | None = None,
    trained: set[str] | None = None,
) -> Probe:
    """
    Build the probe of a run.

    Args:
        data (`PhraseData`): Data of the run, whose validation images are used.
        kinds (`dict[str, str]`): Kind of each phrase, from [`probe_kinds`].
        images (`int`): Maximum number of images, spread over the validation split.
        labelled (`PhraseData`, *optional*): Labelled probe set.
        trained (`set[str]`, *optional*): Phrases that are removed from the labelled probe set.

    Raises:
        ValueError: If the labelled probe set contains only trained phrases.
    """
    rows = data.validation
    chosen = rows.select(np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int).tolist())
    phrases = [{"text": text, "instances": [], "exhaustive": False} for text in kinds]
    chosen = chosen.map(lambda _row: {"instances": [], "phrases": phrases}, features=FEATURES, keep_in_memory=True)
    probe = Probe(chosen, kinds)
    if labelled is not None:
        labelled_rows = [
            row | {"phrases": [p for p in row["phrases"] if p["text"] not in (trained or set())]}
            for row in labelled.validation.select(range(min(images, len(labelled.validation))))
        ]
        if not any(phrase["instances"] for row in labelled_rows for phrase in row["phrases"]):
            raise ValueError(
                "`probe_dataset` shows only phrases that are trained. Set it to a data set with other phrases"
            )
        probe.labelled_rows, probe.category_ids = to_dataset(labelled_rows), labelled.category_ids
    return probe


def build_retention(trainer: Sam3Trainer, data: PhraseData, data_args: DataArguments) -> "Retention":
    """
    Build the retention measurement of a run; it is empty with `probe_images: 0`, for sharded models and for SAM 2.

    Args:
        trainer (`Sam3Trainer`): Trainer of the run.
        data (`PhraseData`): Data of the run.
        data_args (`DataArguments`): Keys of the data.
    """
    if not get_family_of_model(trainer.model).takes_phrases:
        return Retention(trainer, None)
    if data_args.probe_images and not trainer.can_evaluate_before_training:
        logger.log(
            NOTE,
            "note: FSDP and DeepSpeed cannot evaluate before training; measure retention with sam3_eval.py "
            "`--compare`",
        )
    if not data_args.probe_images or not trainer.can_evaluate_before_training:
        return Retention(trainer, None)
    # Without recorded phrases, all phrases of the data may have been trained.
    trained = set(data.category_ids) if trainer.trained_phrases is None else trainer.trained_phrases
    options, labelled = to_probe_options(data_args), None
    if options is not None:
        with trainer.args.main_process_first(desc="probe set"):
            labelled = load_phrase_dataset(*options, with_train=False)
    kinds = probe_kinds(data_args.probe_phrases, trained)
    return Retention(trainer, make_probe(data, kinds, data_args.probe_images, labelled, trained))


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

    def measure_initial_model(self) -> None:
        """Store the predictions of the initial model, or read those of an earlier start of the same run."""
        if self.probe is None:
            return
        self.before = self._read()
        if self.before is None:
            self.before = self.predict()
            if self.trainer.is_world_process_zero():
                content = {name: store.to_plain() for name, store in self.before.items()}
                write_json(self.folder / "base.json", {"description": self._describe_probe(), **content})

    def compare(self, *, log: bool = False) -> dict[str, float]:
        """
        Compare the current predictions with those of the initial model.

        Args:
            log (`bool`): Whether to pass the metrics to the loggers of the trainer.

        Returns:
            `dict[str, float]`: Metrics of [`compute_agreement`] with the prefix `eval_`; with a labelled probe set
            also `eval_retention_AP50_before` and `eval_retention_AP50`.
        """
        if self.probe is None:
            return {}
        self.after = after = self.predict()
        numbers = compute_agreement(self.before["probe"], after["probe"], self.probe.kinds, self.sizes())
        if self.probe.labelled_rows is not None:
            numbers["retention_AP50_before"] = self.compute_ap50(self.before["labelled"])
            numbers["retention_AP50"] = self.compute_ap50(after["labelled"])
        numbers = {f"eval_{name}": value for name, value in numbers.items()}
        if log:
            self.trainer.log(numbers)
        return numbers

    def predict(self) -> dict[str, PredictionStore]:
        """Return the current predictions for `probe` and, with a labelled probe set, for `labelled`."""
        stores = {"probe": self._predict_rows(self.probe.rows, use_cache=True)}
        if self.probe.labelled_rows is not None:
            stores["labelled"] = self._predict_rows(self.probe.labelled_rows)
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
        return self.trainer.collect_predictions(samples)

    def compute_ap50(self, store: PredictionStore) -> float:
        """Return the AP50 of predictions on the labelled probe set."""
        rows = self.probe.labelled_rows.remove_columns("image")
        with_masks = self.trainer.eval_dataset.with_masks
        scored = score(rows, store, self.probe.category_ids, with_masks=with_masks)
        return scored.metrics[f"{scored.kind}_AP50"]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return height and width of the images of the probe."""
        rows = self.probe.rows.select_columns(["example_id", "height", "width"])
        return {row["example_id"]: (row["height"], row["width"]) for row in rows}

    def _describe_probe(self) -> list:
        labelled = [] if self.probe.labelled_rows is None else self.probe.labelled_rows["example_id"][:]
        return [list(self.probe.rows["example_id"]), list(self.probe.kinds), list(labelled)]

    def _read(self) -> dict[str, PredictionStore] | None:
        file = self.folder / "base.json"
        if not file.is_file():
            return None
        content = read_json_file(
            file, remedy="Delete it and run the same command again, which measures the model again"
        )
        if content.pop("description", None) != self._describe_probe():
            return None
        return {name: PredictionStore.from_plain(plain) for name, plain in content.items()}


PairValues = dict[str, list[tuple[str, float]]]  # example id and value of each pair, by metric


def compute_agreement(
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
        `dict[str, float]`: Mean of each metric of [`list_agreement`].
    """
    return average_agreement(list_agreement(before, after, kinds, sizes), min_pairs=min_pairs)


def average_agreement(values: PairValues, *, min_pairs: int = MIN_PAIRS) -> dict[str, float]:
    """
    Compute the means of the values of [`list_agreement`].

    Args:
        values (`PairValues`): Values of the pairs.
        min_pairs (`int`): As in [`compute_agreement`].
    """
    return {
        name: sum(value for _, value in pairs) / len(pairs)
        for name, pairs in values.items()
        if len(pairs) >= min_pairs
    }


def list_agreement(
    before: PredictionStore, after: PredictionStore, kinds: dict[str, str], sizes: dict[str, tuple[int, int]]
) -> PairValues:
    """
    List the values of each (image, phrase) pair that the retention metrics average.

    Args:
        before (`PredictionStore`): As in [`compute_agreement`].
        after (`PredictionStore`): As in [`compute_agreement`].
        kinds (`dict[str, str]`): As in [`compute_agreement`].
        sizes (`dict[str, tuple[int, int]]`): As in [`compute_agreement`].

    Returns:
        `dict[str, list[tuple[str, float]]]`: `retention_presence_agreement`: whether a pair of an untrained phrase has
        the same presence; `retention_IoU`: IoU of all detections before and after, of the untrained pairs with a
        detection before; `retention_false_positive_rate`: whether an untrained pair predicted absent before is
        predicted present after; `recolored_false_positive_rate`, `nonsense_false_positive_rate` and the same with
        `_before`: whether a pair of that kind is predicted present.
    """
    pairs: dict[str, list[tuple[str, str]]] = {UNTRAINED: [], RECOLORED: [], NONSENSE: []}
    for key in sorted(before.presence.keys() & after.presence.keys()):
        if key[1] in kinds:
            pairs[kinds[key[1]]].append(key)

    def is_present(store, key):
        return store.presence[key] >= SCORE

    untrained = pairs[UNTRAINED]
    values = {
        "retention_presence_agreement": [
            (key[0], float(is_present(before, key) == is_present(after, key))) for key in untrained
        ],
        "retention_false_positive_rate": [
            (key[0], float(is_present(after, key))) for key in untrained if not is_present(before, key)
        ],
        "retention_IoU": [
            (key[0], _overlap(_confident(before, key), _confident(after, key), sizes[key[0]]))
            for key in untrained
            if _confident(before, key)
        ],
    }
    for kind in (RECOLORED, NONSENSE):
        for suffix, store in (("_before", before), ("", after)):
            name = f"{kind}_false_positive_rate{suffix}"
            values[name] = [(key[0], float(is_present(store, key))) for key in pairs[kind]]
    return values


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
