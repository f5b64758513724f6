"""Predictions of an evaluation, stored where they are made, gathered once, scored on the host."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import gather_object

from ..metrics.average_precision import coco_average_precision, coco_ground_truth
from ..metrics.postprocess import to_detections
from ..metrics.presence import is_near_miss, presence_accuracy, refusal_rate
from ..models.outputs import PairPrediction


@dataclass
class PredictionStore:
    """
    Detections by (example id, phrase), so that an example seen twice counts once.

    Attributes:
        detections (`dict[tuple[str, str], list[dict]]`): see [`to_detections`].
        presence (`dict[tuple[str, str], float]`): probability that the phrase is in the image.
        losses (`dict[tuple[str, ...], float]`): by the example ids of a batch, its share of the evaluation's loss.
    """

    detections: dict = field(default_factory=dict)
    presence: dict = field(default_factory=dict)
    losses: dict = field(default_factory=dict)

    def collector(self, batch: dict):
        """What [`Sam3ForConceptSegmentation.forward`] takes as `collect` for a batch of the collator."""
        texts = batch["labels"][0]["phrases"]

        def collect(prediction: PairPrediction):
            label = batch["labels"][batch["pair_image"][prediction.pair]]
            key = label["example_id"], texts[batch["pair_phrase"][prediction.pair]]
            self.presence[key] = float(prediction.presence)
            self.detections[key] = to_detections(
                prediction.scores, prediction.boxes_xyxy, prediction.masks, *label["original_size"]
            )

        return collect

    def gather(self) -> None:
        """Merges the stores of all processes into each; a collective call."""
        stores = gather_object([(self.detections, self.presence, self.losses)])
        for detections, presence, losses in stores:
            self.detections |= detections
            self.presence |= presence
            self.losses |= losses

    def coco_results(self, ground_truth: dict) -> list[dict]:
        """The detections as COCO results, in the numbers of [`coco_ground_truth`]."""
        images = {image["example_id"]: image["id"] for image in ground_truth["images"]}
        categories = {category["name"]: category["id"] for category in ground_truth["categories"]}
        return [
            {"image_id": images[example_id], "category_id": categories[phrase], **detection}
            for (example_id, phrase), found in sorted(self.detections.items())
            for detection in found
        ]


def read_evaluation(folder: Path) -> tuple[dict, dict[tuple[str, str], list[dict]]]:
    """The ground truth in COCO's format, and detections by (example id, phrase), that an evaluation wrote into a folder."""
    results, truth = (
        json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in ("results", "ground_truth")
    )
    examples = {image["id"]: image["example_id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    detections: dict = {}
    for result in results:
        detections.setdefault((examples[result["image_id"]], names[result["category_id"]]), []).append(result)
    return truth, detections


def score(
    rows: Iterable[dict],
    store: PredictionStore,
    category_ids: dict[str, int],
    *,
    with_masks: bool,
    trained: set[str] | None = None,
    asked: Callable[[str], bool] = lambda text: True,
) -> dict:
    """
    The numbers of an evaluation.

    Args:
        rows (`Iterable[dict]`): see `example.py`. store (`PredictionStore`): gathered.
        category_ids (`dict[str, int]`): phrase -> category id. with_masks (`bool`): score masks too.
        trained (`set[str]`, *optional*): phrases that the run trains. Where the rows ask others too, both kinds also get
            numbers of their own: what was learned, and what was forgotten.
        asked (`Callable[[str], bool]`): which phrases count. A near miss may miss one that does not.

    Returns:
        `dict`: `metrics` (`mask_AP` … `box_ARl`, `presence_accuracy`, `near_miss_refusal`; the last two only where
        there is such a phrase; `mask_AP50_trained`, `mask_AP50_other`, …), `ground_truth` and `results` in COCO's format.
    """
    whole = list(rows)
    rows = [{**row, "phrases": [p for p in row["phrases"] if asked(p["text"])]} for row in whole]
    ground_truth = coco_ground_truth(rows, category_ids)
    results = store.coco_results(ground_truth)
    metrics = {}
    for kind in ("mask", "box") if with_masks else ("box",):
        truth = _with_masks_only(ground_truth) if kind == "mask" else ground_truth
        numbers = coco_average_precision(truth, results, kind)
        metrics |= {f"{kind}_{name}": value for name, value in numbers.items()}
        for group, (part, found) in _by_training(truth, results, trained).items():
            numbers = coco_average_precision(part, found, kind)
            metrics |= {f"{kind}_{name}_{group}": numbers[name] for name in ("AP", "AP50")}
    metrics |= _presence_metrics(whole, store, asked)
    return {"metrics": metrics, "ground_truth": ground_truth, "results": results}


def _by_training(truth: dict, results: list[dict], trained: set[str] | None) -> dict[str, tuple[dict, list[dict]]]:
    """`trained` and `other` parts of ground truth and results; nothing where one of them has no phrase."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    asked = {names[annotation["category_id"]] for annotation in truth["annotations"]}
    if trained is None or not asked & trained or not asked - trained:
        return {}
    parts = {}
    for group in ("trained", "other"):
        ids = {i for i, name in names.items() if (name in trained) == (group == "trained")}
        part = {
            **truth,
            "annotations": [a for a in truth["annotations"] if a["category_id"] in ids],
            "categories": [c for c in truth["categories"] if c["id"] in ids],
        }
        parts[group] = part, [r for r in results if r["category_id"] in ids]
    return parts


def _with_masks_only(ground_truth: dict) -> dict:
    """Boxes without a mask cannot be scored as masks; their images keep their other instances."""
    return {**ground_truth, "annotations": [a for a in ground_truth["annotations"] if "segmentation" in a]}


def _presence_metrics(rows: list[dict], store: PredictionStore, asked: Callable[[str], bool]) -> dict[str, float]:
    answers, near_misses = [], []
    for row in rows:
        truth = dict(_presence_truth(row))
        present = [text for text, there in truth.items() if there]
        for text, there in truth.items():
            if not asked(text):
                continue
            probability = store.presence.get((row["example_id"], text), 0.0)
            answers.append((probability, there))
            if not there and is_near_miss(text, present):
                near_misses.append(probability)
    numbers = {"presence_accuracy": presence_accuracy(answers), "near_miss_refusal": refusal_rate(near_misses)}
    return {name: number for name, number in numbers.items() if number is not None}


def _presence_truth(row: dict) -> Iterator[tuple[str, bool]]:
    for phrase in row["phrases"]:
        crowd = [row["instances"][i]["is_crowd"] for i in phrase["instances"]]
        if not crowd and not phrase["exhaustive"]:
            continue  # nobody knows
        if not crowd or not all(crowd):
            yield phrase["text"], bool(crowd)


def count_rows(rows: Iterable[dict]) -> tuple[int, int, int]:
    """The three normalisers of a whole evaluation: instances, known pairs, pairs with a semantic map."""
    instances = pairs = semantic = 0
    for row in rows:
        for phrase in row["phrases"]:
            objects = [row["instances"][i] for i in phrase["instances"] if not row["instances"][i]["is_crowd"]]
            crowd_alone = bool(phrase["instances"]) and not objects
            pairs += bool(objects) or (phrase["exhaustive"] and not crowd_alone)
            instances += len(objects)
            whole = all(o["segmentation"] is not None for o in objects)
            semantic += bool(objects) and phrase["exhaustive"] and whole
    return instances, pairs, semantic
