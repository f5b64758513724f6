"""Exemplar boxes of an image: checks, clipping to a view, and padding to a batch."""

from dataclasses import dataclass

import torch

from ..ops.prompts import padding_exemplars
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


def check_exemplars(exemplars: Exemplars | None, name: str, size: tuple[int, int]) -> None:
    """
    Check the exemplars of an image.

    Args:
        exemplars (`Exemplars`, *optional*): The exemplars.
        name (`str`): Name of the image, for errors.
        size (`tuple[int, int]`): Height and width of the image, px.

    Raises:
        `ValueError`: If a box has no area or lies outside the image, or a label is not 0 or 1; names the image.
    """
    if exemplars is None:
        return
    height, width = size
    if len(exemplars.boxes) != len(exemplars.labels) or not exemplars.boxes:
        raise ValueError(
            f"exemplars of {name!r}: {len(exemplars.boxes)} boxes and {len(exemplars.labels)} labels; give at "
            "least one box, and one label for each box"
        )
    for box, label in zip(exemplars.boxes, exemplars.labels, strict=True):
        is_box = len(box) == 4 and all(isinstance(v, int | float) and abs(v) < 1e9 for v in box)
        if is_box and min(box[2:]) <= 0:
            raise ValueError(f"exemplars of {name!r}: the box {list(box)} has no area; expected [x, y, w, h]")
        if not is_box or box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
            raise ValueError(
                f"exemplars of {name!r}: the box {list(box)} does not lie in the image of {width}×{height} px; "
                "expected [x, y, w, h]"
            )
        if label not in (0, 1):
            raise ValueError(f"exemplars of {name!r}: the label {label!r} is neither 1 (positive) nor 0 (negative)")


def convert_exemplars_to_view(exemplars: Exemplars | None, views: Views, view: View) -> list[tuple[list[float], int]]:
    """
    Convert exemplars to the coordinates of a view; boxes with less than half of their area in it are dropped.

    Args:
        exemplars (`Exemplars`, *optional*): Exemplars of the image.
        views (`Views`): The image.
        view (`View`): One of its views.

    Returns:
        `list[tuple[list[float], int]]`: Boxes `(cx, cy, w, h)` in `[0, 1]` of the view, and labels.
    """
    if exemplars is None:
        return []
    x, y, w, h = view.window
    in_view = []
    for box, label in zip(exemplars.boxes, exemplars.labels, strict=True):
        bx, by, bw, bh = clip_to_image(box, views.size)
        left, top, right, bottom = max(bx - x, 0), max(by - y, 0), min(bx + bw - x, w), min(by + bh - y, h)
        if right > left and bottom > top and (right - left) * (bottom - top) >= 0.5 * bw * bh:
            box = [(left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h]
            in_view.append((box, label))
    return in_view


def clip_to_image(box: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Clip a box `(x, y, w, h)` to an image of height and width `size`."""
    left, top = max(box[0], 0), max(box[1], 0)
    return left, top, min(box[0] + box[2], size[1]) - left, min(box[1] + box[3], size[0]) - top


def pad_exemplars(pairs: list[list[tuple[list[float], int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Pad the exemplars of (image, phrase) pairs to one length.

    Args:
        pairs (`list[list[tuple[list[float], int]]]`): Boxes `(cx, cy, w, h)` and labels of each pair.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Boxes of shape `(P, K, 4)` and labels of shape `(P, K)`, padded with
            `PADDING_LABEL`.
    """
    boxes, labels = padding_exemplars(len(pairs), max([1, *map(len, pairs)]))
    for row, exemplars in enumerate(pairs):
        for column, (box, label) in enumerate(exemplars):
            boxes[row, column], labels[row, column] = torch.tensor(box), label
    return boxes, labels
