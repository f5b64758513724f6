"""Overlaps of the labels and the predictions of one image, the input of the label review's scores."""

from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask


MATCH_IOU = 0.5  # IoU from which on a detection supports a label fully, COCO's lowest threshold
CREDIBLE_SHARE = 0.25  # share of a label's support from which on a detection's outline is compared with the label's
MIN_CONFIDENCE = 0.5  # mean support of a phrase below which its predictions are weak evidence
DUPLICATE_IOU = 0.7  # IoU of two labels of one phrase that are never two instances if nothing else supports them
LOWEST_SCORE = 0.05  # lowest score of a detection that can contradict a label


@dataclass
class ReviewedImage:
    """
    Labels and predictions of one image.

    Attributes:
        size (`tuple[int, int]`): Height and width of the image, px.
        labels (`list[dict]`): One entry for each phrase of each annotation: `phrase`, `bbox` `(x, y, w, h)` in px,
            optionally `segmentation` (an RLE of the image's size), `iscrowd`, and `instance`, the identifier of the
            annotation if one has several phrases.
        detections (`list[dict]`): `phrase`, `score`, `bbox`, optionally `segmentation`.
        presence (`dict[str, float]`): Predicted probability that a phrase is in the image, of each prompted phrase.
        incomplete (`set[str]`): Phrases whose instances are not all labelled; none of theirs is reported as missing.
        crops (`dict[int, dict[str, float]]`): Support of each phrase at a label in an enlarged crop, by the index of
            the label; see [`measure_supports`].
    """

    size: tuple[int, int]
    labels: list[dict]
    detections: list[dict]
    presence: dict[str, float] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    crops: dict[int, dict[str, float]] = field(default_factory=dict)


@dataclass
class Calibration:
    """
    Statistics of all reviewed images, against which one image's scores are measured.

    Attributes:
        confidence (`dict[str, float]`): Mean support of the labels of each phrase: the threshold of confident
            learning. Scores of detections are divided by it, so that a phrase with low scores everywhere is not
            reported everywhere.
        deviation (`float`): Median [`boundary_deviation`] of the labels that predictions support.
    """

    confidence: dict[str, float] = field(default_factory=dict)
    deviation: float | None = None


class LabelOverlap:
    """Overlaps of the labels and the detections of one image, and the support of each phrase at each label."""

    def __init__(self, image: ReviewedImage, calibration: Calibration):
        self.image, labels, detections = image, image.labels, image.detections
        self.iou = measure_overlaps(detections, labels)
        self.phrases = sorted({entry["phrase"] for entry in [*labels, *detections]} | set(image.presence))
        number = {phrase: k for k, phrase in enumerate(self.phrases)}
        self.label_phrase = np.array([number[label["phrase"]] for label in labels], dtype=int)
        self.detection_phrase = np.array([number[d["phrase"]] for d in detections], dtype=int)
        self.is_crowd = np.array([bool(label.get("iscrowd")) for label in labels], dtype=bool)
        thresholds = np.array([calibration.confidence.get(phrase, 1.0) for phrase in self.phrases])
        scores = np.array([d["score"] for d in detections], dtype=float)
        # Detections of a phrase that is hardly found are missing at correct labels, too.
        self.reliability = np.minimum(thresholds[self.label_phrase] / MIN_CONFIDENCE, 1.0)
        self.thresholds = thresholds
        thresholds = thresholds[self.detection_phrase]
        self.scores = np.minimum(scores / thresholds, 1.0)
        # Without a label, nothing but the score indicates an object, so that a low one is never certain.
        self.unlabelled_scores = np.minimum(scores / np.maximum(thresholds, MIN_CONFIDENCE), 1.0)
        self.same_phrase = self.detection_phrase[:, None] == self.label_phrase[None]
        self.match = np.minimum(self.iou / MATCH_IOU, 1.0)
        self.evidence = self.scores[:, None] * self.match  # s(j) · g(u(i, j)), of shape (detections, labels)

    def own_support(self) -> np.ndarray:
        """Return `A(i, c(i))` of each label."""
        return np.where(self.same_phrase, self.evidence, 0.0).max(0, initial=0.0)

    def any_support(self) -> np.ndarray:
        """Return `max_p A(i, p)` of each label."""
        return self.evidence.max(0, initial=0.0)

    def reference_iou(self) -> np.ndarray:
        """
        Return the IoU of each label with the most similar of its credible detections.

        Detections of any phrase are credible whose score is at least `CREDIBLE_SHARE` of the label's support: the
        outline of an object does not depend on its phrase, and the highest score is not always the best outline.
        """
        is_credible = self.scores[:, None] >= np.maximum(CREDIBLE_SHARE * self.any_support(), LOWEST_SCORE)[None]
        return np.where(is_credible, self.iou, 0.0).max(0, initial=0.0)

    def label_areas(self) -> np.ndarray:
        """Return the area of each label, px."""
        return np.array([area_of(label) for label in self.image.labels], dtype=float)

    def nearest_detection(self) -> np.ndarray:
        """Return the detection with the most evidence at each label, -1 without an overlapping one."""
        if not len(self.evidence):
            return np.full(len(self.image.labels), -1)
        return np.where(self.evidence.max(0) > 0, self.evidence.argmax(0), -1)


def measure_overlaps(first: list[dict], second: list[dict], share: bool = False) -> np.ndarray:
    """
    Measure the overlap of each pair of regions: of masks where both have one, else of boxes.

    Args:
        first (`list[dict]`): Regions with `bbox` and optionally `segmentation`.
        second (`list[dict]`): Regions in the same format; the overlap with a crowd is the share of the first inside.
        share (`bool`): Return the share of the first region inside the second one for every pair. Default: IoU.

    Returns:
        `np.ndarray` of shape `(len(first), len(second))`: Overlaps in `[0, 1]`.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    crowds = [int(share or bool(region.get("iscrowd"))) for region in second]
    boxes = [np.array([region["bbox"] for region in regions], dtype=float) for regions in (first, second)]
    overlaps = np.asarray(coco_mask.iou(*boxes, crowds))
    rows, columns = ([i for i, r in enumerate(regions) if r.get("segmentation")] for regions in (first, second))
    if rows and columns:
        masks = [first[i]["segmentation"] for i in rows], [second[i]["segmentation"] for i in columns]
        overlaps[np.ix_(rows, columns)] = coco_mask.iou(*masks, [crowds[i] for i in columns])
    return overlaps


def area_of(region: dict) -> float:
    """Return the area of a region's mask, or of its box without a mask, px."""
    if region.get("segmentation"):
        return float(coco_mask.area(region["segmentation"]))
    return float(region["bbox"][2] * region["bbox"][3])
