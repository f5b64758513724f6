"""
Score of labels of the wrong phrase, from the support of each phrase at a label; notation as in `label_review.py`.

The support comes from the prediction of the image and, where one was made, from that of a crop that enlarges the
label: most disagreements of model and label are errors of the model at small and partly hidden objects, and a second
prediction at another scale confirms the error of a label more often than that of the model.

Sources:
    Northcutt et al. 2021, "Confident Learning": confidence relative to the mean confidence of the class. Tkachenko,
    Thyagarajan and Mueller 2023, "ObjectLab" (swapped): similarity with confident predictions of other classes.
    Wang et al. 2019, "Aleatoric uncertainty estimation with test-time augmentation": the mean over scaled inputs.
"""

import numpy as np

from .label_overlap import DUPLICATE_IOU, Calibration, LabelOverlap, ReviewedImage, measure_overlaps


def score_wrong_phrase(overlap: LabelOverlap) -> tuple[np.ndarray, list[str | None]]:
    """
    Score labels of the wrong phrase: `max_p A(i, p) · (1 - A(i, c(i)))²` over the phrases that the object lacks.

    A label with a crop has the mean of both supports. Phrases that other annotations of the same object have do not
    count, such as "steel nut" at a "nut".

    Args:
        overlap (`LabelOverlap`): Overlaps of the image.

    Returns:
        `tuple[np.ndarray, list[str | None]]`: Scores, and the phrase with the highest support.
    """
    labels, names = overlap.image.labels, overlap.phrases
    supports = _support_phrases(overlap)
    for i, crop in overlap.image.crops.items():
        values = np.array([crop.get(name, 0.0) for name in names])
        supports[i] = (supports[i] + np.minimum(values / overlap.thresholds, 1.0)) / 2
    label_support = supports[np.arange(len(labels)), overlap.label_phrase]
    has_phrase = np.array(
        [[name in object_phrases for name in names] for object_phrases in _list_object_phrases(labels)], dtype=bool
    )
    others = np.where(has_phrase.reshape(supports.shape), 0.0, supports)
    if not others.size:
        return np.zeros(len(labels)), [None] * len(labels)
    best, support = others.argmax(1), others.max(1)
    phrases = [names[k] if value > 0 else None for k, value in zip(best, support, strict=True)]
    return support * (1 - label_support) ** 2, phrases


def measure_supports(image: ReviewedImage) -> list[dict[str, float]]:
    """
    Measure the support of each phrase at each label from the scores of the detections, without calibration.

    Args:
        image (`ReviewedImage`): Labels, and detections of the image or of a crop, in px of the image.

    Returns:
        `list[dict[str, float]]`: Positive support by phrase, of each label.
    """
    overlap = LabelOverlap(image, Calibration())
    supports = _support_phrases(overlap)
    return [{overlap.phrases[k]: float(row[k]) for k in np.flatnonzero(row)} for row in supports]


def _support_phrases(overlap: LabelOverlap) -> np.ndarray:
    """
    Compute `A(i, p)` of shape `(labels, phrases)`.

    A detection that overlaps more with another label of its own phrase belongs to that label and does not count.
    """
    supports = np.zeros((len(overlap.image.labels), len(overlap.phrases)))
    own_iou = np.where(overlap.same_phrase, overlap.iou, 0.0).max(1, initial=0.0)
    evidence = np.where(overlap.same_phrase | (own_iou[:, None] <= overlap.iou), overlap.evidence, 0.0)
    for k in np.unique(overlap.detection_phrase):
        supports[:, k] = evidence[overlap.detection_phrase == k].max(0)
    return supports


def _list_object_phrases(labels: list[dict]) -> list[set[str]]:
    """Return the phrases that are labelled on the object of each label, by its annotation or another one on it."""
    annotations = [label.get("instance", ("label", i)) for i, label in enumerate(labels)]
    numbers = np.array([annotations.index(annotation) for annotation in annotations], dtype=int)
    is_same = (numbers[:, None] == numbers[None]) | (measure_overlaps(labels, labels) >= DUPLICATE_IOU)
    return [{labels[k]["phrase"] for k in np.flatnonzero(row)} for row in is_same]
