"""Shapes of any kind to encoded masks, and boxes of instances without a mask."""

import numpy as np

from ...ops import masks as mask_ops
from ...utils.text import short_repr
from .records import Shape


def shape_counts(shape: Shape, width: int, height: int) -> str | None:
    """
    Encode the mask of a shape.

    Args:
        shape (`Shape`): Its mask is an array, see [`Shape.with_mask`].
        width (`int`): Of the image, px.
        height (`int`): Of the image, px.

    Returns:
        `str` or `None`: The `counts` of a compressed COCO RLE; `None` where the shape has a box alone.

    Raises:
        `ValueError`: Where the mask is not of the image's size, or cannot be decoded.
    """
    if shape.mask is not None:
        size = shape.mask_size or (shape.mask.shape[::-1] if shape.corner is None else (width, height))
        if tuple(size) != (width, height):
            raise ValueError(f"its mask is {size[0]}×{size[1]} px, its image {width}×{height}; both must agree")
        mask = shape.mask if shape.corner is None else _pasted(shape.mask, *shape.corner, width, height)
        return mask_ops.encode_mask(mask)
    if shape.rle is not None:
        return mask_ops.rle_to_counts(shape.rle, height, width)
    if shape.polygons is not None:
        return mask_ops.polygons_to_counts(_in_pixels(shape, width, height), height, width)
    return None


def _pasted(piece: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A piece of a mask on an empty one; what lies outside the image is cut off."""
    whole = np.zeros((height, width), dtype=bool)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + piece.shape[1], width), min(y + piece.shape[0], height)
    if left < right and top < bottom:
        whole[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]
    return whole


def _in_pixels(shape: Shape, width: int, height: int) -> list:
    if not shape.relative_polygons:
        return shape.polygons
    return [[v * (height if i % 2 else width) for i, v in enumerate(part)] for part in shape.polygons]


def clipped_box(shape: Shape, width: int, height: int) -> list[float]:
    """
    Clip the box of a shape without a mask to the image.

    Args:
        shape (`Shape`): Has a box.
        width (`int`): Of the image, px.
        height (`int`): Of the image, px.

    Returns:
        `list[float]`: `(x, y, w, h)` in px.

    Raises:
        `ValueError`: Where the box is no box, or has no area inside the image.
    """
    if not isinstance(shape.box, list) or len(shape.box) != 4:
        raise ValueError(f"there is no mask and `bbox` is {short_repr(shape.box)}; expected [x, y, w, h] in pixels")
    values = np.asarray(shape.box, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"`bbox` is {shape.box}; it must be finite")
    if shape.relative_box:
        values = values * [width, height, width, height]
    low = values[:2].clip(0, [width, height])
    size = (values[:2] + values[2:]).clip(0, [width, height]) - low
    if min(size) <= 0:
        raise ValueError(f"`bbox` {shape.box} has no area inside the {width}×{height} image; redraw it or remove it")
    return [float(v) for v in (*low, *size)]
