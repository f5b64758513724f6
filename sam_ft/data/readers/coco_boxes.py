"""Boxes of COCO annotations: detection of boxes in fractions of the image."""

from ..reading_report import Remark
from ..row_schema import DatasetFormatError


# Largest coordinate of a box in fractions of the image. It exceeds 1 because tools round, and boxes cross the edge.
NORMALIZED_LIMIT = 1.05
_NUMBERS = {int, float}


def boxes_are_normalized(annotations: list[dict], file: str) -> bool:
    """
    Return whether boxes are in fractions of the image, as in SA-Co and noun-phrase files.

    Args:
        annotations (`list[dict]`): All annotations of the file.
        file (`str`): The file, for messages.

    Returns:
        `bool`: `True` if no coordinate of a box is above `NORMALIZED_LIMIT`.

    Raises:
        `DatasetFormatError`: If some boxes are in fractions and others in pixels; contains their numbers.
    """
    boxes = [box for annotation in annotations if (box := _box_of(annotation)) is not None]
    in_pixels = sum(max(box) > NORMALIZED_LIMIT for box in boxes)
    if not in_pixels:
        return bool(boxes)
    fractions = [annotation for annotation in annotations if _is_fraction(annotation)]
    if fractions:
        raise DatasetFormatError(
            f"{len(fractions)} boxes without a mask are in fractions of the image, 0 to 1, and {in_pixels} boxes "
            f"have numbers above {NORMALIZED_LIMIT}, as in pixels; write all boxes in pixels, or all in fractions",
            file=file,
            record=f"annotation id {fractions[0].get('id')}",
        )
    return False


def boxes_beyond_one(annotations: list[dict]) -> list[Remark]:
    """Return remarks on normalized boxes with a coordinate above 1, a result of rounding."""
    boxes = ((a.get("id"), box) for a in annotations if (box := _box_of(a)) is not None)
    return [
        Remark("normalised box beyond 1", f"annotation id {annotation_id}", f"{box}; clipped at the image's edge")
        for annotation_id, box in boxes
        if max(box) > 1.0 + 1e-6
    ]


def _box_of(annotation: dict) -> list | None:
    """Return the box of an annotation if it is a list of four numbers."""
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return None
    # The types are compared first, because that is faster for the boxes of a large file.
    return box if _NUMBERS.issuperset(map(type, box)) or all(isinstance(v, int | float) for v in box) else None


def _is_fraction(annotation: dict) -> bool:
    """Return whether an annotation has only a box, with fractional coordinates of at most `NORMALIZED_LIMIT`."""
    box = None if annotation.get("segmentation") else _box_of(annotation)
    if box is None:
        return False
    return all(1 - NORMALIZED_LIMIT <= v <= NORMALIZED_LIMIT for v in box) and not all(
        float(v).is_integer() for v in box
    )
