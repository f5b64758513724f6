"""Consistency checks of an annotation: its mask against its listed box and area, and against itself."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from ..reading_report import Remark
from .records import Shape


_MIN_BOX_IOU = 0.9  # IoU of the listed box and the mask's box; below it a remark is made
_EDGE_TOLERANCE = 1.0  # px; outlines run between pixels, masks do not
_AREA_TOLERANCE = 0.05  # relative
_MAX_CORNER_PIECES = 5  # pieces that touch only at corners; more are noise, for which no remark is made


def check_consistency(
    shape: Shape, box: list[float], area: float, size: tuple[int, int], where: str
) -> Iterator[Remark]:
    """
    Yield remarks on an annotation whose mask differs from its listed box or area, or consists of several pieces.

    Args:
        shape (`Shape`): The annotation, with the listed box and area.
        box (`list[float]`): Box of the mask, `(x, y, w, h)`, px.
        area (`float`): Area of the mask, px.
        size (`tuple[int, int]`): Width and height of the image, px.
        where (`str`): Name of the annotation for messages.

    Yields:
        `Remark`: One inconsistency.

    Raises:
        `ValueError`: If the mask does not lie in its listed box: polygons in fractions of the image, of an image of
            another size, or with x and y swapped.
    """
    listed_box = _listed_box(shape, *size)
    if listed_box is not None:
        yield from _compare_boxes(listed_box, box, where)
        _refuse_disjoint_boxes(listed_box, box)
    yield from _compare_areas(shape, listed_box, area, where)
    yield from _check_pieces(shape, where)


def _listed_box(shape: Shape, width: int, height: int) -> np.ndarray | None:
    if not isinstance(shape.box, list) or len(shape.box) != 4:
        return None
    listed_box = np.asarray(shape.box, dtype=np.float64) * ([width, height] * 2 if shape.relative_box else 1)
    return listed_box if np.isfinite(listed_box).all() else None


def _intersection(listed_box: np.ndarray, mask_box: list[float]) -> float:
    """Return the area of the intersection of two boxes `(x, y, w, h)`."""
    low = np.maximum(listed_box[:2], mask_box[:2])
    high = np.minimum(listed_box[:2] + listed_box[2:], np.add(mask_box[:2], mask_box[2:]))
    return float(np.prod((high - low).clip(0)))


def _refuse_disjoint_boxes(listed_box: np.ndarray, mask_box: list[float]) -> None:
    if listed_box[2] * listed_box[3] <= 64:
        return
    shared = _intersection(listed_box, mask_box)
    if shared < 0.01 * listed_box[2] * listed_box[3] or shared < 0.1 * mask_box[2] * mask_box[3]:
        raise ValueError(
            f"`segmentation` covers the box {[round(v, 1) for v in mask_box]}, but `bbox` is "
            f"{[round(float(v), 1) for v in listed_box]}: they do not match. Polygons must be in pixels of this "
            "image, x before y, not in fractions of it or of another size"
        )


def _compare_boxes(listed_box: np.ndarray, mask_box: list[float], where: str) -> Iterator[Remark]:
    shared = _intersection(listed_box, mask_box)
    iou = shared / max(listed_box[2] * listed_box[3] + mask_box[2] * mask_box[3] - shared, 1e-9)
    low_offset = np.abs(listed_box[:2] - mask_box[:2]).max()
    high_offset = np.abs(listed_box[:2] + listed_box[2:] - np.add(mask_box[:2], mask_box[2:])).max()
    offset = max(low_offset, high_offset)
    if iou < _MIN_BOX_IOU and offset > _EDGE_TOLERANCE:
        detail = f"IoU {iou:.2f}, an edge is {offset:.0f} px off; the mask's box is used"
        yield Remark("listed box is not the mask's", where, detail)


def _compare_areas(shape: Shape, listed_box: np.ndarray | None, area: float, where: str) -> Iterator[Remark]:
    if not isinstance(shape.area, int | float) or not abs(shape.area) < 1e12:
        return
    if shape.relative_box or abs(shape.area - area) <= _AREA_TOLERANCE * max(area, shape.area):
        return
    is_box_area = listed_box is not None and abs(listed_box[2] * listed_box[3] - shape.area) < 1
    kind = "listed area is the box's" if is_box_area else "listed area is not the mask's"
    yield Remark(kind, where, f"{shape.area:.0f} px, its mask has {area:.0f}, which is used")


def _check_pieces(shape: Shape, where: str) -> Iterator[Remark]:
    """Yield a remark on a mask image of one object in several pieces: often two objects saved as one, or noise."""
    if shape.mask is None or shape.is_crowd or not shape.exhaustive:
        return
    ys, xs = (np.flatnonzero(shape.mask.any(axis)) for axis in (1, 0))
    mask = shape.mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    parts, number = ndimage.label(mask, structure=np.ones((3, 3)))
    if number == 1:
        # Pixels that touch the object only at a corner are noise if nearly all of the mask is one piece.
        parts, number = ndimage.label(mask)
        if number > _MAX_CORNER_PIECES or np.bincount(parts.ravel())[1:].max() < 0.9 * mask.sum():
            return
    if number > 1:
        sizes = sorted(np.bincount(parts.ravel())[1:].tolist(), reverse=True)
        listing = ", ".join(map(str, sizes[:4])) + (", …" if number > 4 else "")
        yield Remark("mask in pieces", where, f"{number} pieces of {listing} px; it is trained as one object")
