"""Exemplar boxes of an image: checks, and their positions in a view."""

from dataclasses import dataclass

import torch

from ..models.sam3.pairs import PADDING
from .tiling import View, Views


@dataclass
class Exemplars:
    """
    Exemplars of an image.

    Attributes:
        boxes (`list[list[float]]`): Boxes `(x, y, w, h)`, px of the image.
        labels (`list[int]`): 1 for a positive exemplar, 0 for a negative one.
    """

    boxes: list[list[float]]
    labels: list[int]


def check_exemplars(exemplars: Exemplars | None, views: Views) -> None:
    """Raises `ValueError` for boxes that are none, or lie outside their image; names it."""
    if exemplars is None:
        return
    height, width = views.size
    if len(exemplars.boxes) != len(exemplars.labels) or not exemplars.boxes:
        raise ValueError(
            f"exemplars of {views.name!r}: {len(exemplars.boxes)} boxes and {len(exemplars.labels)} labels; give at "
            "least one box, and a label for each"
        )
    for box, label in zip(exemplars.boxes, exemplars.labels, strict=True):
        fine = len(box) == 4 and all(isinstance(v, int | float) and abs(v) < 1e9 for v in box) and min(box[2:]) > 0
        if not fine or box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
            raise ValueError(
                f"exemplars of {views.name!r}: the box {list(box)} does not lie in the image of {width}×{height} px; "
                "expected [x, y, w, h]"
            )
        if label not in (0, 1):
            raise ValueError(
                f"exemplars of {views.name!r}: the label {label!r} is neither 1 (such a thing) nor 0 (none such)"
            )


def exemplars_in_view(exemplars: Exemplars | None, views: Views, view: View) -> list[tuple[list[float], int]]:
    """Exemplars on a view: `(cx, cy, w, h)` in `[0, 1]` and label, those with half of their box in it."""
    if exemplars is None:
        return []
    x, y, w, h = view.window
    shown = []
    for box, label in zip(exemplars.boxes, exemplars.labels, strict=True):
        bx, by, bw, bh = _inside(box, views.size)
        left, top, right, bottom = max(bx - x, 0), max(by - y, 0), min(bx + bw - x, w), min(by + bh - y, h)
        if right > left and bottom > top and (right - left) * (bottom - top) >= 0.5 * bw * bh:
            box = [(left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h]
            shown.append((box, label))
    return shown


def _inside(box: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Clip a box `(x, y, w, h)` to an image of height and width `size`."""
    left, top = max(box[0], 0), max(box[1], 0)
    return left, top, min(box[0] + box[2], size[1]) - left, min(box[1] + box[3], size[0]) - top


def pad_exemplars(shown: list[list[tuple[list[float], int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    most = max([1, *map(len, shown)])
    boxes, labels = torch.full((len(shown), most, 4), 0.5), torch.full((len(shown), most), PADDING)
    for row, listed in enumerate(shown):
        for column, (box, label) in enumerate(listed):
            boxes[row, column], labels[row, column] = torch.tensor(box), label
    return boxes, labels
