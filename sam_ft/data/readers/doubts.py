"""Where an annotation contradicts itself: a mask against the box and the area that are listed beside it."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from ..reading_report import Remark
from .records import Shape


_OVERLAP = 0.9  # IoU of the listed box and the mask's, below which it is told
_ROUNDING = 1.0  # px that an edge may be off: outlines run between pixels, masks do not
_AREA = 0.05  # share that an area may be off
_STRAY = 5  # pieces at most that are told where they touch by corners


def doubts(shape: Shape, box: list[float], area: float, size: tuple[int, int], where: str) -> Iterator[Remark]:
    """
    Args:
        shape (`Shape`): as listed. box (`list[float]`): of its mask, `(x, y, w, h)` in px. area (`float`): of its mask, px.
        size (`tuple[int, int]`): width and height of the image. where (`str`): names it.

    Raises:
        `ValueError`: where the mask is not where its listed box is: polygons in fractions of the image, of another size, or with x
            and y swapped.
    """
    listed = _listed_box(shape, *size)
    if listed is not None:
        yield from _compare_boxes(listed, box, where)
        _refuse_another_place(listed, box)
    yield from _compare_areas(shape, listed, area, where)
    yield from _pieces(shape, where)


def _listed_box(shape: Shape, width: int, height: int) -> np.ndarray | None:
    if not isinstance(shape.box, list) or len(shape.box) != 4:
        return None
    listed = np.asarray(shape.box, dtype=np.float64) * ([width, height] * 2 if shape.relative_box else 1)
    return listed if np.isfinite(listed).all() else None


def _shared(listed: np.ndarray, found: list[float]) -> float:
    """Area that two boxes `(x, y, w, h)` share."""
    low = np.maximum(listed[:2], found[:2])
    high = np.minimum(listed[:2] + listed[2:], np.add(found[:2], found[2:]))
    return float(np.prod((high - low).clip(0)))


def _refuse_another_place(listed: np.ndarray, found: list[float]) -> None:
    if listed[2] * listed[3] <= 64:
        return
    shared = _shared(listed, found)
    if shared < 0.01 * listed[2] * listed[3] or shared < 0.1 * found[2] * found[3]:
        raise ValueError(
            f"`segmentation` covers the box {[round(v, 1) for v in found]}, `bbox` is {[round(float(v), 1) for v in listed]}: they are "
            "different things. Polygons must be in pixels of this image, x before y, not in fractions of it or of another size"
        )


def _compare_boxes(listed: np.ndarray, found: list[float], where: str) -> Iterator[Remark]:
    shared = _shared(listed, found)
    overlap = shared / max(listed[2] * listed[3] + found[2] * found[3] - shared, 1e-9)
    off = np.abs(listed[:2] - found[:2]).max(), np.abs(listed[:2] + listed[2:] - np.add(found[:2], found[2:])).max()
    if overlap < _OVERLAP and max(off) > _ROUNDING:
        detail = f"IoU {overlap:.2f}, an edge is {max(off):.0f} px off; the mask's box is used"
        yield Remark("listed box is not the mask's", where, detail)


def _compare_areas(shape: Shape, listed: np.ndarray | None, area: float, where: str) -> Iterator[Remark]:
    if not isinstance(shape.area, int | float) or not abs(shape.area) < 1e12:
        return
    if shape.relative_box or abs(shape.area - area) <= _AREA * max(area, shape.area):
        return
    of_box = listed is not None and abs(listed[2] * listed[3] - shape.area) < 1
    kind = "listed area is the box's" if of_box else "listed area is not the mask's"
    yield Remark(kind, where, f"{shape.area:.0f} px, its mask has {area:.0f}, which is used")


def _pieces(shape: Shape, where: str) -> Iterator[Remark]:
    """A mask image of one object that lies apart: often two objects saved as one, or a stray pixel."""
    if shape.mask is None or shape.is_crowd or not shape.exhaustive:
        return
    ys, xs = (np.flatnonzero(shape.mask.any(axis)) for axis in (1, 0))
    inside = shape.mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    parts, number = ndimage.label(inside, structure=np.ones((3, 3)))
    if number == 1:  # pixels that touch by a corner alone are stray ones where the rest is whole
        parts, number = ndimage.label(inside)
        if number > _STRAY or np.bincount(parts.ravel())[1:].max() < 0.9 * inside.sum():
            return
    if number > 1:
        sizes = sorted(np.bincount(parts.ravel())[1:].tolist(), reverse=True)
        shown = ", ".join(map(str, sizes[:4])) + (", …" if number > 4 else "")
        yield Remark("mask in pieces", where, f"{number} pieces of {shown} px; it is trained as one object")
