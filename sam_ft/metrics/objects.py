"""Metrics of prompted objects: IoU after one or more clicks and after a box, by object size."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # mask areas in px, as in COCO


@dataclass
class ObjectScore:
    """
    Scores of one object, measured at the original image size.

    Attributes:
        area (`float`): Area of the ground-truth mask, px.
        clicks (`list[float]`): IoU after 1, 2, … clicks.
        box (`float`): IoU after the box prompt.
        best (`float`): IoU of the best of the first click's three masks; an oracle, because it uses the ground truth.
        iou (`float`): IoU after the evaluation's first prompt.
        dice (`float`): Dice after the evaluation's first prompt.
        boundary_f1 (`float`): Boundary F1 after the evaluation's first prompt.
        predicted (`float`): IoU that the model predicts for the evaluation's first prompt.
        is_missing (`bool`): Whether the object is too small for the model's canvas; it is not prompted and counts as
            0.
    """

    area: float
    clicks: list[float]
    box: float
    best: float
    iou: float
    dice: float
    boundary_f1: float
    predicted: float
    is_missing: bool = False

    @classmethod
    def missing(cls, area: float, clicks: int) -> "ObjectScore":
        """Build the score of an object that is too small for the model's canvas."""
        return cls(area, [0.0] * clicks, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, is_missing=True)


def object_numbers(scores: Iterable[ObjectScore]) -> dict[str, float]:
    """
    Average scores over objects; each object has the same weight, independent of its size.

    Args:
        scores (`Iterable[ObjectScore]`): Scores of all objects.

    Returns:
        `dict[str, float]`: `object_IoU`, `object_dice`, `object_boundary_F1` of the evaluation's first prompt;
        `object_IoU_small`, `object_IoU_medium`, `object_IoU_large` by COCO's sizes; `IoU@1`, `IoU@2`, … after this
        number of clicks; `IoU@box`; `IoU@1_best`, the best of three masks; `IoU_error`, the absolute error of the
        predicted IoU; `objects_missing`, the share of objects too small for the canvas. Undefined metrics are left
        out.

    Source:
        Ravi et al. 2024, section 6 (mIoU after 1 and 5 clicks).
    """
    scores = list(scores)
    if not scores:
        return {}
    means = resampled_objects(scores, range(len(scores)))(np.ones(len(scores)))
    return {name: value for name, value in means.items() if not np.isnan(value)}


def resampled_objects(
    scores: Sequence[ObjectScore], images: Sequence[int]
) -> Callable[[np.ndarray], dict[str, float]]:
    """
    Build a function of image weights that computes [`object_numbers`] of resampled images.

    Args:
        scores (`Sequence[ObjectScore]`): Scores of all objects.
        images (`Sequence[int]`): Index of each object's image in the weights.

    Returns:
        `Callable[[np.ndarray], dict[str, float]]`: Metrics for weights of shape `(num_images,)`.
    """
    names, image_index = names_of(len(scores[0].clicks)), np.asarray(images, dtype=int)
    table = np.array([list(_values_of(score).values()) for score in scores])

    def numbers(weights: np.ndarray) -> dict[str, float]:
        return dict(zip(names, _means(table, weights[image_index]), strict=True))

    return numbers


def names_of(clicks: int) -> list[str]:
    """Return the metric names of [`object_numbers`] for an evaluation with this number of clicks."""
    return list(_values_of(ObjectScore.missing(0.0, clicks)))


def _values_of(score: ObjectScore) -> dict[str, float]:
    """Return the value of each metric for one object; NaN where the metric does not apply to it."""
    return {
        "object_IoU": score.iou,
        "object_dice": score.dice,
        "object_boundary_F1": score.boundary_f1,
        **{
            f"object_IoU_{size}": score.iou if low <= score.area < high else np.nan
            for size, (low, high) in SIZES.items()
        },
        **{f"IoU@{k}": iou for k, iou in enumerate(score.clicks, 1)},
        "IoU@box": score.box,
        "IoU@1_best": score.best,
        "IoU_error": np.nan if score.is_missing else abs(score.predicted - score.iou),
        "objects_missing": float(score.is_missing),
    }


def _means(table: np.ndarray, weights: np.ndarray) -> list[float]:
    counted = np.where(np.isnan(table), 0.0, weights[:, None])
    total = counted.sum(0)
    sums = (np.nan_to_num(table) * counted).sum(0)
    return [float(s / n) if n else float("nan") for s, n in zip(sums, total, strict=True)]
