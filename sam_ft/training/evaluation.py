"""Predictions of an evaluation, stored where they are made, gathered once, scored on the host."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from accelerate.utils import gather_object

from ..metrics.average_precision import coco_average_precision, coco_ground_truth
from ..metrics.postprocess import to_detections
from ..models.sam3 import PairPrediction


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


def score(rows: Iterable[dict], store: PredictionStore, category_ids: dict[str, int], *, with_masks: bool) -> dict:
    """
    The numbers of an evaluation.

    Returns:
        `dict`: `metrics` (`mask_AP` … `box_ARl`, `presence_accuracy`), `ground_truth` and `results` in COCO's format.
    """
    rows = list(rows)
    ground_truth = coco_ground_truth(rows, category_ids)
    results = store.coco_results(ground_truth)
    metrics = {}
    for kind in ("mask", "box") if with_masks else ("box",):
        truth = _with_masks_only(ground_truth) if kind == "mask" else ground_truth
        numbers = coco_average_precision(truth, results, kind)
        metrics |= {f"{kind}_{name}": value for name, value in numbers.items()}
    hits = [(store.presence.get(key, 0.0) >= 0.5) == present for key, present in _presence_truth(rows)]
    if hits:
        metrics["presence_accuracy"] = sum(hits) / len(hits)
    return {"metrics": metrics, "ground_truth": ground_truth, "results": results}


def _with_masks_only(ground_truth: dict) -> dict:
    """Boxes without a mask cannot be scored as masks; their images keep their other instances."""
    return {**ground_truth, "annotations": [a for a in ground_truth["annotations"] if "segmentation" in a]}


def _presence_truth(rows: list[dict]) -> Iterator[tuple[tuple[str, str], bool]]:
    for row in rows:
        for phrase in row["phrases"]:
            crowd = [row["instances"][i]["is_crowd"] for i in phrase["instances"]]
            if not crowd and not phrase["exhaustive"]:
                continue  # nobody knows
            if not crowd or not all(crowd):
                yield (row["example_id"], phrase["text"]), bool(crowd)


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
