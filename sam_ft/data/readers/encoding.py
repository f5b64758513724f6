"""Encoding of shapes as masks, and clipping of the boxes of instances without a mask."""

import numpy as np

from ...ops import masks as mask_ops
from ...utils.text import short_repr
from .records import Shape


def encode_shape(shape: Shape, width: int, height: int) -> str | None:
    """
    Encode the mask of a shape.

    Args:
        shape (`Shape`): The shape, with its mask as an array; see [`Shape.with_mask`].
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.

    Returns:
        `str` or `None`: The `counts` of a compressed COCO RLE; `None` if the shape has only a box.

    Raises:
        `ValueError`: If the size of the mask differs from the image's, or the mask cannot be decoded.
    """
    if shape.mask is not None:
        size = shape.mask_size or (shape.mask.shape[::-1] if shape.corner is None else (width, height))
        if tuple(size) != (width, height):
            raise ValueError(f"its mask is {size[0]}×{size[1]} px, its image {width}×{height}; both must agree")
        mask = shape.mask if shape.corner is None else _paste(shape.mask, *shape.corner, width, height)
        return mask_ops.encode_mask(mask)
    if shape.rle is not None:
        return mask_ops.rle_to_counts(shape.rle, height, width)
    if shape.polygons is not None:
        return mask_ops.polygons_to_counts(_polygons_in_pixels(shape, width, height), height, width)
    return None


def _paste(piece: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Return a mask of the image's size with a piece at `(x, y)`; pixels outside the image are cut off."""
    mask = np.zeros((height, width), dtype=bool)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + piece.shape[1], width), min(y + piece.shape[0], height)
    if left < right and top < bottom:
        mask[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]
    return mask


def _polygons_in_pixels(shape: Shape, width: int, height: int) -> list:
    if not shape.relative_polygons:
        return shape.polygons
    return [[v * (height if i % 2 else width) for i, v in enumerate(part)] for part in shape.polygons]


def clip_box(shape: Shape, width: int, height: int) -> list[float]:
    """
    Clip the box of a shape without a mask to the image.

    Args:
        shape (`Shape`): A shape with a box.
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.

    Returns:
        `list[float]`: `(x, y, w, h)`, px.

    Raises:
        `ValueError`: If the box is not four finite numbers, or has no area inside the image.
    """
    if not isinstance(shape.box, list) or len(shape.box) != 4:
        raise ValueError(f"there is no mask and `bbox` is {short_repr(shape.box)}; expected [x, y, w, h] in pixels")
    values = np.asarray(shape.box, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"`bbox` is {shape.box}; its values must be finite")
    if shape.relative_box:
        values = values * [width, height, width, height]
    low = values[:2].clip(0, [width, height])
    size = (values[:2] + values[2:]).clip(0, [width, height]) - low
    if min(size) <= 0:
        raise ValueError(f"`bbox` {shape.box} has no area inside the {width}×{height} image; redraw it or remove it")
    return [float(v) for v in (*low, *size)]
