"""How well prompted objects fit, one by one: IoU after one click and more, after a box, by size."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # px of mask, as COCO's


@dataclass
class ObjectScore:
    """
    What was answered for one object, by IoU with it at the image's own size.

    Attributes:
        area (`float`): px. clicks (`list[float]`): IoU after 1, 2, … clicks. box (`float`): after its box.
        best (`float`): of the three masks of the first click, the one that fits best, which nobody knows in use (`oracle`).
        iou, dice, boundary_f1, predicted (`float`): of the first prompt of the evaluation, and the IoU that the model says of itself.
        is_missing (`bool`): too small for the model's canvas, not asked, counted as 0.
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
        return cls(area, [0.0] * clicks, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, is_missing=True)


def object_numbers(scores: Iterable[ObjectScore]) -> dict[str, float]:
    """
    Means over objects, each counting once whatever its size (Ravi et al. 2024, section 6: mIoU after 1 and 5 clicks).

    Returns:
        `dict[str, float]`: `object_IoU`, `object_dice`, `object_boundary_F1` of the evaluation's first prompt, `object_IoU_small` … `_large` by COCO's
        sizes; `IoU@1`, `IoU@2`, … after so many clicks, `IoU@box`, `IoU@1_best` of the best of three masks; `IoU_error`, how far the predicted IoU is
        off; `objects_missing`, the share too small for the canvas. Numbers that do not exist are left out.
    """
    scores = list(scores)
    if not scores:
        return {}
    means = zip(names_of(len(scores[0].clicks)), _means(_table(scores), np.ones(len(scores))), strict=True)
    return {name: value for name, value in means if not np.isnan(value)}


def resampled_objects(
    scores: Sequence[ObjectScore], images: Sequence[int]
) -> Callable[[np.ndarray], dict[str, float]]:
    """[`object_numbers`] of resampled images; `images`: of each object, its place among the weights."""
    names, table, places = names_of(len(scores[0].clicks)), _table(scores), np.asarray(images, dtype=int)

    def numbers(weights: np.ndarray) -> dict[str, float]:
        return dict(zip(names, _means(table, weights[places]), strict=True))

    return numbers


def names_of(clicks: int) -> list[str]:
    """The names of [`object_numbers`] of an evaluation of so many clicks."""
    own = ["object_IoU", "object_dice", "object_boundary_F1", *(f"object_IoU_{name}" for name in SIZES)]
    clicks = [f"IoU@{k}" for k in range(1, clicks + 1)]
    return [*own, *clicks, "IoU@box", "IoU@1_best", "IoU_error", "objects_missing"]


def _table(scores: Sequence[ObjectScore]) -> np.ndarray:
    """A row an object; NaN where a number is not the object's."""
    return np.array(
        [
            [
                one.iou, one.dice, one.boundary_f1,
                *(one.iou if low <= one.area < high else np.nan for low, high in SIZES.values()),
                *one.clicks, one.box, one.best, np.nan if one.is_missing else abs(one.predicted - one.iou), float(one.is_missing),
            ]
            for one in scores
        ]
    )  # fmt: skip


def _means(table: np.ndarray, weights: np.ndarray) -> list[float]:
    counted = np.where(np.isnan(table), 0.0, weights[:, None])
    total = counted.sum(0)
    sums = (np.nan_to_num(table) * counted).sum(0)
    return [float(s / n) if n else float("nan") for s, n in zip(sums, total, strict=True)]
