"""Instances of a row on the canvas of the model, and a limit on the memory of their masks."""

import numpy as np

from ...ops.masks import decode_mask_box
from .transforms import Geometry


MAX_MASK_BYTES = 4 * 2**30  # Per image: 4,227 masks at 1008 px; SAM 3 predicts at most 200 instances of a phrase.


def limit_masks(row: dict, number: int, canvas: int) -> None:
    """
    Check the memory that the masks of an image take.

    Args:
        row (`dict`): A row as in `row_schema.py`, which the message names.
        number (`int`): Number of its masks.
        canvas (`int`): Side of the canvas in px; a mask takes one byte per pixel.

    Raises:
        `ValueError`: If they take more than `MAX_MASK_BYTES`.
    """
    if number * canvas**2 > MAX_MASK_BYTES:
        raise ValueError(
            f"example {row['example_id']!r} has {number} instances, whose masks take {number * canvas**2 / 2**30:.1f} "
            f"GiB at {canvas} px, more than {MAX_MASK_BYTES / 2**30:g} GiB an image. Cut the image into tiles, or "
            "drop classes with `phrase_map`"
        )


def move_instance(
    row: dict, index: int, geometry: Geometry, canvas: np.ndarray | None, min_visible: float
) -> tuple[list[int] | np.ndarray | None, bool]:
    """
    Move an instance of a row onto the canvas.

    Args:
        row (`dict`): A row as in `row_schema.py`.
        index (`int`): Index of the instance.
        geometry (`Geometry`): Map from the image to the canvas.
        canvas (`np.ndarray` of shape `(R, R)`, *optional*): Zeros, bool; the mask is drawn on it.
        min_visible (`float`): Visible share below which an instance counts as vanished.

    Returns:
        `tuple`: Box `(x1, y1, x2, y2)` in px of the canvas, or `None` if the instance vanished, and whether the
            instance has a mask.
    """
    instance = row["instances"][index]
    counts = instance["segmentation"]
    if counts is None:
        box = geometry.box_xyxy(instance["bbox"])
        size = box[2:] - box[:2]
        scale = geometry.target[2] * geometry.target[3] / (geometry.window[2] * geometry.window[3])
        full = instance["bbox"][2] * instance["bbox"][3] * scale
        return (box if min(size) > 0 and size[0] * size[1] >= min_visible * full else None), False
    mask, *corner = decode_mask_box(counts, row["height"], row["width"])
    if geometry.visible_share(mask, corner) < min_visible:
        return None, True
    drawn = np.zeros((geometry.canvas, geometry.canvas), dtype=bool) if canvas is None else canvas
    return geometry.paint(mask, drawn, corner), True


def draw_region(row: dict, index: int, geometry: Geometry) -> np.ndarray:
    """
    Draw a crowd region of a row.

    Args:
        row (`dict`): A row as in `row_schema.py`.
        index (`int`): Index of the instance that is the region.
        geometry (`Geometry`): Map from the image to the canvas.

    Returns:
        `np.ndarray` of shape `(R, R)`: Mask of the region, bool.
    """
    instance = row["instances"][index]
    region = np.zeros((geometry.canvas, geometry.canvas), dtype=bool)
    if instance["segmentation"] is not None:
        mask, *corner = decode_mask_box(instance["segmentation"], row["height"], row["width"])
        geometry.paint(mask, region, corner)
        return region
    x1, y1, x2, y2 = geometry.box_xyxy(instance["bbox"]).round().astype(int)
    region[y1:y2, x1:x2] = True
    return region
