"""(Image, phrase) pairs with ground truth and detections, the common input of all metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask


SCORE = 0.5  # threshold of detection scores and presence, as in SA-Co's evaluator (`cgf1_eval.py`)


@dataclass
class Pair:
    """
    One (image, phrase) pair with ground truth and detections.

    Attributes:
        image_id (`int`): Image id.
        phrase (`str`): Prompted phrase.
        size (`tuple[int, int]`): Height and width of the image, px.
        truth (`list[dict]`): COCO annotations with `bbox`, `iscrowd`, and `segmentation` where there is a mask.
        detections (`list[dict]`): COCO results, highest score first, with `score`, `bbox`, `segmentation`.
        exhaustive (`bool`): Whether all instances are labelled.
        presence (`float`, *optional*): Predicted probability that the phrase is in the image.
        other_truths (`list[list[dict]]`): Ground truth of further annotators, in the format of `truth`.
    """

    image_id: int
    phrase: str
    size: tuple[int, int]
    truth: list[dict] = field(default_factory=list)
    detections: list[dict] = field(default_factory=list)
    exhaustive: bool = True
    presence: float | None = None
    other_truths: list[list[dict]] = field(default_factory=list)

    @property
    def objects(self) -> list[dict]:
        """Ground truth without crowd regions."""
        return [annotation for annotation in self.truth if not annotation.get("iscrowd")]

    @property
    def is_present(self) -> bool:
        """Return whether an object is labelled."""
        return bool(self.objects)

    @property
    def is_absent(self) -> bool:
        """Return whether the pair is exhaustive without any annotation, crowd regions included."""
        return not self.truth and self.exhaustive

    def has(self, kind: str) -> bool:
        """Return whether every object can be scored by `kind`, `mask` or `box`."""
        return kind == "box" or all("segmentation" in annotation for annotation in self.objects)

    def detections_above(self, threshold: float = SCORE) -> list[dict]:
        """Return the detections with a score of at least `threshold`."""
        return [detection for detection in self.detections if detection["score"] >= threshold]


def pairs_of(
    ground_truth: dict,
    results: Iterable[dict],
    presence: dict | None = None,
    other_annotators: Sequence[dict] = (),
) -> list[Pair]:
    """
    Build pairs from ground truth and results in COCO's format.

    Args:
        ground_truth (`dict`): Ground truth of [`coco_ground_truth`]; its `pairs` list the prompted phrases.
        results (`Iterable[dict]`): COCO results; results outside the pairs are left out.
        presence (`dict[tuple[int, int], float]`, *optional*): (image id, category id) -> probability.
        other_annotators (`Sequence[dict]`): Ground truths of further annotators for the same pairs. A pair is
            exhaustive if all annotators mark it so, as in SA-Co's evaluator.

    Returns:
        `list[Pair]`: Pairs in the order of `ground_truth["pairs"]`.
    """
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    pairs = {}
    for entry in ground_truth["pairs"]:
        image, category = key = entry["image_id"], entry["category_id"]
        pairs[key] = Pair(image, names[category], sizes[image], exhaustive=entry["exhaustive"])
        pairs[key].presence = None if presence is None else presence.get(key)
    for annotation in ground_truth["annotations"]:
        pairs[annotation["image_id"], annotation["category_id"]].truth.append(annotation)
    for other in other_annotators:
        for pair in pairs.values():
            pair.other_truths.append([])
        for entry in other["pairs"]:
            pairs[entry["image_id"], entry["category_id"]].exhaustive &= entry["exhaustive"]
        for annotation in other["annotations"]:
            pairs[annotation["image_id"], annotation["category_id"]].other_truths[-1].append(annotation)
    for result in results:
        key = result["image_id"], result["category_id"]
        if key in pairs:
            pairs[key].detections.append(result)
    for pair in pairs.values():
        pair.detections.sort(key=lambda result: -result["score"])
    return list(pairs.values())


def overlaps(detections: list[dict], truth: list[dict], kind: str) -> np.ndarray:
    """
    Compute the IoU of each detection with each object.

    Args:
        detections (`list[dict]`): Detections with `bbox` `(x, y, w, h)` or `segmentation`, an RLE.
        truth (`list[dict]`): Annotations in the same format, with `iscrowd` for crowd regions.
        kind (`str`): `mask` or `box`.

    Returns:
        `np.ndarray` of shape `(len(detections), len(truth))`: IoU; for crowds, the detection's share inside.
    """
    if not detections or not truth:
        return np.zeros((len(detections), len(truth)))
    name = "segmentation" if kind == "mask" else "bbox"
    crowds = [int(annotation.get("iscrowd", 0)) for annotation in truth]
    return np.asarray(
        coco_mask.iou(
            [detection[name] for detection in detections], [annotation[name] for annotation in truth], crowds
        )
    )


def by_phrase(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Group pairs by phrase."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.phrase, []).append(pair)
    return groups
