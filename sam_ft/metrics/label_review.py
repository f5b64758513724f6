"""
Label review: scores of probable label errors in one image, from its labels and predictions of a model.

The predictions must come from a model that was not trained on the image (out-of-fold predictions). All scores are in
`[0, 1]`; higher means that an error is more probable.

Notation: `i` is a label with phrase `c(i)`, `j` a detection with phrase `c(j)` and score `s(j)`, `u(i, j)` their IoU
(of masks where both have one, else of boxes), and `g(u) = min(u / 0.5, 1)`, because IoU 0.5 is COCO's threshold of a
match. The support of a phrase at a label is the best evidence that an instance of the phrase is there:
`A(i, p) = max_j s(j) · g(u(i, j))` over detections with `c(j) = p`. Low-scoring detections count, so predictions
should contain scores down to about 0.05.

Sources:
    Tkachenko, Thyagarajan and Mueller 2023, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection
    Data": overlooked, swapped and badly located boxes from the confidence of predictions and their similarity with
    labels. FiftyOne Brain, `compute_mistakenness`: possible missing and possible spurious objects, mistakenness of the
    location. Northcutt et al. 2021, "Confident Learning": confidence relative to the mean confidence of the class.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..options.review import FINDING_KINDS
from .label_overlap import (
    DUPLICATE_IOU,
    LOWEST_SCORE,
    MATCH_IOU,
    Calibration,
    LabelOverlap,
    ReviewedImage,
    area_of,
    measure_overlaps,
)
from .label_phrases import score_wrong_phrase


KINDS = FINDING_KINDS
MISSING, SPURIOUS, WRONG_PHRASE, BAD_BOUNDARY, MERGED_OR_SPLIT, DUPLICATE = KINDS
LABEL_KINDS = KINDS[1:]  # kinds with one score for each label

INSIDE_SHARE = 0.8  # share of an area inside another one from which on it is a part of it
MIN_DEVIATION = 0.02  # 1 - IoU that is always expected, whatever the median
BOUNDARY_RATIO = 3.0  # deviation relative to the median at which a supported label has the boundary score 0.5


@dataclass
class MissingObject:
    """
    Probable object without a label.

    Attributes:
        phrase (`str`): Phrase of the object.
        detection (`int`, *optional*): Index of the detection; `None` if only the presence indicates the object.
        score (`float`): Probability-like score in `[0, 1]`.
    """

    phrase: str
    detection: int | None
    score: float


@dataclass
class ImageReview:
    """
    Scores of one image.

    Attributes:
        labels (`dict[str, np.ndarray]`): Scores of shape `(len(labels),)` by kind, of `LABEL_KINDS`.
        detections (`np.ndarray` of shape `(len(labels),)`): Index of the detection that supports or contradicts the
            label most by IoU, for the picture and the proposal; -1 without an overlapping detection.
        phrases (`list[str | None]`): Proposed phrase of each label, with the highest support among other phrases.
        missing (`list[MissingObject]`): Probable missing objects, highest score first.
    """

    labels: dict[str, np.ndarray]
    detections: np.ndarray
    phrases: list[str | None]
    missing: list[MissingObject]

    def scores(self) -> dict[str, float]:
        """Return the highest score of the image by kind; 0 without labels or detections."""
        scores = {MISSING: self.missing[0].score if self.missing else 0.0}
        return scores | {kind: float(values.max(initial=0.0)) for kind, values in self.labels.items()}


def calibrate(images: Iterable[ReviewedImage]) -> Calibration:
    """
    Measure the statistics of all images that [`review_image`] compares one image with.

    Wrong labels are a small share of all labels, and the statistics are means and medians, so they need no clean data.

    Args:
        images (`Iterable[ReviewedImage]`): All reviewed images.

    Returns:
        `Calibration`: Mean support by phrase, and the median boundary deviation.

    Source:
        Northcutt et al. 2021: the threshold of a class is the mean self-confidence of its examples.
    """
    support: dict[str, list[float]] = {}
    deviations: list[float] = []
    for image in images:
        overlap = LabelOverlap(image, Calibration())
        own = overlap.own_support()
        for i, label in enumerate(image.labels):
            if not label.get("iscrowd"):
                support.setdefault(label["phrase"], []).append(float(own[i]))
        matched = own >= MATCH_IOU
        deviations += boundary_deviation(overlap.reference_iou(), overlap.label_areas())[matched].tolist()
    confidence = {phrase: max(float(np.mean(values)), LOWEST_SCORE) for phrase, values in support.items()}
    return Calibration(confidence, float(np.median(deviations)) if deviations else None)


def review_image(image: ReviewedImage, calibration: Calibration | None = None) -> ImageReview:
    """
    Score all labels of one image, and find probable objects without a label.

    Args:
        image (`ReviewedImage`): Labels and out-of-fold predictions.
        calibration (`Calibration`, *optional*): Statistics of all images. Default: raw scores.

    Returns:
        `ImageReview`: Scores. A crowd region has the score 0 for every kind.
    """
    calibration = calibration or Calibration()
    overlap = LabelOverlap(image, calibration)
    merged_or_split, explained, parts = score_merged_and_split(overlap)
    swapped, phrases = score_wrong_phrase(overlap)
    labels = {
        SPURIOUS: score_spurious(overlap) * (1 - merged_or_split),
        WRONG_PHRASE: swapped,
        BAD_BOUNDARY: score_boundary(overlap, calibration.deviation) * (1 - explained),
        MERGED_OR_SPLIT: merged_or_split,
        DUPLICATE: score_duplicates(overlap),
    }
    labels = {kind: np.where(overlap.is_crowd, 0.0, scores) for kind, scores in labels.items()}
    return ImageReview(labels, overlap.nearest_detection(), phrases, find_missing(overlap, parts))


def boundary_deviation(iou: np.ndarray | float, area: np.ndarray) -> np.ndarray:
    """
    Compute the deviation of two boundaries, comparable between objects of different size.

    A deviation of a constant number of px is proportional to `(1 - u) · √area`, and one of a constant share of the
    size to `1 - u`. Deviations of models and annotators lie between both, so the exponent is the middle one, 1/4.

    Args:
        iou (`np.ndarray` or `float`): IoU of each label and its detection.
        area (`np.ndarray`): Area of each label, px.

    Returns:
        `np.ndarray`: `(1 - u) · area^(1/4)`.
    """
    return (1 - iou) * np.sqrt(np.sqrt(area))


def score_spurious(overlap: LabelOverlap) -> np.ndarray:
    """
    Score labels without an object: `r(c(i)) · (1 - max_p A(i, p))²`.

    Support by any phrase counts, because an object of another phrase is a wrong phrase. The square ranks labels with
    little support, often difficult objects, below labels without any. The reliability `r` of a phrase is the mean
    support of its labels divided by `MIN_CONFIDENCE`, at most 1.

    Source:
        FiftyOne, `compute_mistakenness`: possible spurious objects are labels without a matching prediction.
    """
    return overlap.reliability * (1 - overlap.any_support()) ** 2


def score_boundary(overlap: LabelOverlap, expected: float | None) -> np.ndarray:
    """
    Score badly drawn labels: `√A · r² / (r² + 3²)`, with `r` the deviation relative to the median label.

    `A` is the support by any phrase, and its root is used because a low score still has a good outline. The deviation
    is that of [`boundary_deviation`] from [`LabelOverlap.reference_iou`], so that small objects, whose IoU is low for
    any annotator, are not ranked first. With three times the median deviation, the second factor is one half. A median
    below that of IoU `1 - MIN_DEVIATION` counts as this, because labels may be corrected predictions of a model.

    Args:
        overlap (`LabelOverlap`): Overlaps of the image.
        expected (`float`, *optional*): Median deviation of all labels. Default: `1 - u` is the second factor.

    Source:
        ObjectLab (badly located): similarity with the most similar prediction. The relation to the size and to the
        median is ours.
    """
    support, iou = np.sqrt(overlap.any_support()), overlap.reference_iou()
    if expected is None:
        return support * (1 - iou)
    areas = overlap.label_areas()
    ratio = boundary_deviation(iou, areas) / np.maximum(boundary_deviation(1 - MIN_DEVIATION, areas), expected)
    return support * ratio**2 / (ratio**2 + BOUNDARY_RATIO**2)


def score_merged_and_split(overlap: LabelOverlap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Score labels of several instances, and several labels of one instance.

    A label is merged if at least two disjoint detections of its phrase lie inside it: `s₂ · (share of the label that
    they cover) · (1 - A)`, with `s₂` the second-highest score of the parts, and `A` the support by detections that are
    not inside. Labels are split if a detection `j` covers at least two disjoint ones: `s(j) · (share of the detection
    that they cover) · (1 - A)`, with `A` the labels' mean support by detections that cover only one of them.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: Score of each label; the same without the factor `s`, which
        explains a bad boundary; and for each detection that of the merged label that it is a part of.
    """
    labels, detections = overlap.image.labels, overlap.image.detections
    scores, explained, parts = np.zeros(len(labels)), np.zeros(len(labels)), np.zeros(len(detections))
    valid = overlap.same_phrase & ~overlap.is_crowd[None]
    evidence = np.where(valid, overlap.evidence, 0.0)
    detection_inside = measure_overlaps(detections, labels, share=True)
    label_inside = measure_overlaps(labels, detections, share=True).T
    smaller = np.array(list(map(area_of, detections)))[:, None] < overlap.label_areas()[None]
    is_part = valid & smaller & (detection_inside >= INSIDE_SHARE)
    for i in np.flatnonzero(is_part.sum(0) >= 2):
        inside = np.flatnonzero(is_part[:, i])
        chosen = inside[_select_disjoint([detections[j] for j in inside], overlap.scores[inside])]
        if len(chosen) >= 2:
            covered = min(float(label_inside[chosen, i].sum()), 1.0)
            contradiction = np.delete(evidence[:, i], inside).max(initial=0.0)
            explained[i] = covered * (1 - contradiction)
            scores[i] = np.sort(overlap.scores[chosen])[-2] * explained[i]
            parts[inside] = np.maximum(parts[inside], explained[i])
    is_cover = valid & ~smaller & (label_inside >= INSIDE_SHARE)
    for j in np.flatnonzero(is_cover.sum(1) >= 2):
        inside = np.flatnonzero(is_cover[j])
        chosen = inside[_select_disjoint([labels[i] for i in inside], evidence[j, inside])]
        if len(chosen) >= 2:
            covered = min(float(detection_inside[j, chosen].sum()), 1.0)
            others = is_cover[:, chosen].sum(1) < 2  # a second detection of the whole is no evidence for the parts
            contradiction = evidence[np.ix_(others, chosen)].max(0, initial=0.0).mean()
            explanation = covered * (1 - contradiction)
            explained[chosen] = np.maximum(explained[chosen], explanation)
            scores[chosen] = np.maximum(scores[chosen], overlap.scores[j] * explanation)
    return scores, explained, parts


def _select_disjoint(regions: list[dict], scores: np.ndarray, limit: float = 1 - INSIDE_SHARE) -> list[int]:
    """Select regions by falling score, without those of which more than `limit` lies inside a selected one."""
    shares = measure_overlaps(regions, regions, share=True)
    selected: list[int] = []
    for k in np.argsort(-scores, kind="stable").tolist():
        if all(max(shares[k, other], shares[other, k]) <= limit for other in selected):
            selected.append(k)
    return selected


def score_duplicates(overlap: LabelOverlap) -> np.ndarray:
    """
    Score labels of one phrase on the same object: their IoU, from `DUPLICATE_IOU` on.

    Of each pair, the label with the lower IoU with its detection has the score, and the other label 0. Entries of the
    same annotation are no duplicates.
    """
    labels = overlap.image.labels
    scores = np.zeros(len(labels))
    iou = np.triu(measure_overlaps(labels, labels), 1)
    same = overlap.label_phrase[:, None] == overlap.label_phrase[None]
    quality = overlap.reference_iou()
    for i, k in np.argwhere(same & (iou >= DUPLICATE_IOU)).tolist():
        instance = labels[i].get("instance")
        if (instance is not None and instance == labels[k].get("instance")) or overlap.is_crowd[[i, k]].any():
            continue
        worse = i if quality[i] < quality[k] else k
        scores[worse] = max(scores[worse], iou[i, k])
    return scores


def find_missing(overlap: LabelOverlap, parts: np.ndarray) -> list[MissingObject]:
    """
    Find probable objects without a label: `s(j) · (1 - max_i g(u(i, j)))` over labels of any phrase.

    Here, `s(j)` is not divided by a mean support below `MIN_CONFIDENCE`: if the model hardly finds the labelled
    objects of a phrase, its low scores are no evidence for others.

    A detection at a label of another phrase is a wrong phrase, and a part of a merged label belongs to that label. Of
    detections of one object, only the highest score counts. A phrase with a high presence, no label and no detection
    is a finding without a location.

    Args:
        overlap (`LabelOverlap`): Overlaps of the image.
        parts (`np.ndarray`): Third result of [`score_merged_and_split`].

    Source:
        ObjectLab (overlooked); FiftyOne, `compute_mistakenness`: possible missing objects.
    """
    image = overlap.image
    scores = overlap.unlabelled_scores * (1 - np.maximum(overlap.match.max(1, initial=0.0), parts))
    complete = np.array([d["phrase"] not in image.incomplete for d in image.detections], dtype=bool)
    eligible = np.flatnonzero((scores >= LOWEST_SCORE) & complete)
    chosen = _select_disjoint([image.detections[j] for j in eligible], scores[eligible], MATCH_IOU)
    missing = [MissingObject(image.detections[j]["phrase"], j, float(scores[j])) for j in eligible[chosen].tolist()]
    seen = {entry["phrase"] for entry in [*image.labels, *image.detections]} | image.incomplete
    missing += [
        MissingObject(phrase, None, score)
        for phrase, score in image.presence.items()
        if phrase not in seen and score >= MATCH_IOU
    ]
    return sorted(missing, key=lambda found: -found.score)
