"""Geometry of faulty records as their file lists it, for the pictures of findings."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ..readers.image_roots import ImageRoots
from ..readers.images import upright_size
from ..readers.records import Record, Shape
from ..safe_text import to_printable


MAX_OUTLINES = 500  # of a record


@dataclass
class FaultyRecord:
    """
    Image and listed geometry of a record with a finding of its reader.

    Attributes:
        image (`str`, *optional*): Image file; `None` if it is missing, or inside the annotation file.
        boxes (`list[list[float]]`): Boxes `(x, y, w, h)` of the annotations with the finding, px; empty if the finding
            is of the whole record.
        outlines (`list[list[float]]`): Polygons `[x1, y1, x2, y2, …]` of all annotations as listed, px; boxes as
            polygons.
    """

    image: str | None
    boxes: list[list[float]] = field(default_factory=list)
    outlines: list[list[float]] = field(default_factory=list)


def describe_record(record: Record, name: str, roots: ImageRoots) -> FaultyRecord:
    """
    Collect the geometry of a record.

    Args:
        record (`Record`): The record.
        name (`str`): Name of the record, or of its faulty annotation, as in `Finding.record`.
        roots (`ImageRoots`): Folders that its image must lie in.

    Returns:
        `FaultyRecord`: Image and geometry; annotations whose geometry cannot be read are left out.
    """
    result = FaultyRecord(None)
    try:
        if record.file is not None:
            roots.check(record.file)
        width, height, _ = upright_size(record.load_image(), decode=False)
        result.image = str(record.image) if isinstance(record.image, Path) else None
        shapes = record.load_shapes()
    except (ValueError, TypeError, OSError, RecursionError, AttributeError):
        return result
    for shape in shapes[:MAX_OUTLINES]:
        try:
            outlines = _outlines(shape, width, height)
        except (ValueError, TypeError, OSError, RecursionError, LookupError, OverflowError):
            continue
        result.outlines += outlines
        if name == to_printable(f"{record.where}, {shape.where}"):
            result.boxes += [_bounds(outlines)] if outlines else []
    return result


def _outlines(shape: Shape, width: int, height: int) -> list[list[float]]:
    """Return the parts of a shape as polygons, px; the box of a mask."""
    if shape.polygons:
        scale = np.array([width, height] if shape.relative_polygons else [1, 1], dtype=np.float64)
        parts = [(np.asarray(part, dtype=np.float64).reshape(-1, 2) * scale).ravel() for part in shape.polygons]
        return [part.tolist() for part in parts if part.size and np.isfinite(part).all()]
    if shape.rle is not None:
        rle = shape.rle
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, *rle["size"])
        return [_corners(coco_mask.toBbox(rle).tolist())]
    if shape.mask is not None:
        shape = shape.with_mask()
        ys, xs = (np.flatnonzero(shape.mask.any(axis)) for axis in (1, 0))
        x, y = shape.corner or (0, 0)
        return [_corners([float(x + xs[0]), float(y + ys[0]), float(np.ptp(xs)) + 1, float(np.ptp(ys)) + 1])]
    if shape.box is not None:
        box = np.asarray(shape.box, dtype=np.float64) * ([width, height] * 2 if shape.relative_box else 1)
        return [_corners(box.tolist())] if box.shape == (4,) and np.isfinite(box).all() else []
    return []


def _corners(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _bounds(outlines: list[list[float]]) -> list[float]:
    points = np.concatenate([np.asarray(outline).reshape(-1, 2) for outline in outlines])
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]
