"""Masks: COCO run-length encoding, polygons, boxes. `counts` are `str`, because Arrow does not preserve bytes."""

import numpy as np
from pycocotools import mask as coco_mask

from ..utils.text import short_repr


# A coordinate beyond this limit in px is an error, not an inaccurate click. pycocotools crashes without an exception,
# or allocates all memory, on NaN, infinity and values around 1e9.
COORDINATE_LIMIT = 1e5
OUTLINE_LIMIT = 1e6  # px of a polygon's outline, which determines the memory of its rasterisation
_MAX_NUMBER_LENGTH = 12  # characters of a run length in an RLE's text: 60 bits, the limit of pycocotools


def encode_mask(mask: np.ndarray) -> str:
    """Encode a bool mask of shape `(height, width)` as the `counts` string of a compressed COCO RLE."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode_mask(counts: str, height: int, width: int) -> np.ndarray:
    """Decode the `counts` of a compressed COCO RLE to a bool mask of shape `(height, width)`."""
    return coco_mask.decode(to_coco_rle(counts, height, width)).view(bool)


def decode_mask_box(counts: str, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """
    Decode the part of an encoded mask that lies inside its tight box.

    Args:
        counts (`str`): The `counts` of a compressed COCO RLE.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `tuple`: Part of the mask, bool of shape `(h, w)`, and the `x` and `y` of its corner in the image, px. The part
            of an empty mask has the shape `(0, 0)`.
    """
    x, y, w, h = map(int, mask_box_xywh(counts, height, width))
    w, h = min(w, width - x), min(h, height - y)  # pycocotools exceeds the image on a run of length zero
    # An RLE runs down the columns: those before and after the box are cut off without being decoded.
    ends = np.clip(np.cumsum(_runs(counts)) - x * height, 0, w * height)
    values = np.arange(len(ends)) % 2 == 1
    columns = np.repeat(values, np.diff(ends, prepend=0)).reshape(w, height)
    return np.ascontiguousarray(columns[:, y : y + h].T), x, y


def to_coco_rle(counts: str, height: int, width: int) -> dict:
    """Build the `{"size": [height, width], "counts": bytes}` that pycocotools reads."""
    return {"size": [height, width], "counts": counts.encode("ascii")}


def mask_area(counts: str, height: int, width: int) -> float:
    """Count the pixels of an encoded mask."""
    return float(coco_mask.area(to_coco_rle(counts, height, width)))


def mask_box_xywh(counts: str, height: int, width: int) -> list[float]:
    """Compute the tight box `(x, y, w, h)` in pixels of an encoded mask; zeros for an empty mask."""
    return [float(v) for v in coco_mask.toBbox(to_coco_rle(counts, height, width))]


def polygons_to_counts(polygons: list, height: int, width: int) -> str:
    """
    Rasterise the parts of one instance and encode their union.

    Args:
        polygons (`list[list[float]]`): Parts `[x1, y1, x2, y2, …]` in px, at least three points each. Points outside
            the image are clipped.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `str`: The `counts` of a compressed COCO RLE.

    Raises:
        `ValueError`: The list is empty, a part has fewer than three points or an odd number of values, a value is not
            finite or farther than `COORDINATE_LIMIT` px from the origin, or an outline is longer than `OUTLINE_LIMIT`
            px.
    """
    if not polygons:
        raise ValueError("the polygon list is empty; remove the annotation or draw at least three points")
    for part, polygon in enumerate(polygons):
        _check_polygon(polygon, part)
    rles = coco_mask.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    return coco_mask.merge(rles)["counts"].decode("ascii")


def _check_polygon(polygon, part: int):
    if not isinstance(polygon, (list, tuple)):
        raise ValueError(
            f"polygon part {part} is {short_repr(polygon)}, expected a list [x1, y1, x2, y2, …]; a flat polygon needs "
            "one more pair of brackets: [[x1, y1, …]]"
        )
    try:
        values = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"polygon part {part} contains a value that is not a number: {error}") from error
    if values.ndim != 1:
        raise ValueError(f"polygon part {part} is nested too deeply; expected a flat list [x1, y1, x2, y2, …]")
    if not np.isfinite(values).all():
        raise ValueError(f"polygon part {part} contains NaN or infinity; redraw it or remove the annotation")
    if len(values) % 2:
        raise ValueError(
            f"polygon part {part} has an odd number of values ({len(values)}); x and y must come in pairs"
        )
    if len(values) < 6:
        raise ValueError(
            f"polygon part {part} has {len(values) // 2} point(s), a polygon needs at least 3; redraw it, remove the "
            "annotation, or set `on_bad_rows: skip` to leave it out"
        )
    if np.abs(values).max() > COORDINATE_LIMIT:
        raise ValueError(
            f"polygon part {part} contains the coordinate {values[np.abs(values).argmax()]:g}, farther than "
            f"{COORDINATE_LIMIT:g} px from the image; redraw it or remove the annotation"
        )
    points = values.reshape(-1, 2)
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if length > OUTLINE_LIMIT:
        raise ValueError(f"polygon part {part} has an outline of {length:.0f} px; redraw it or remove the annotation")


def rle_to_counts(rle: dict, height: int, width: int) -> str:
    """
    Convert a compressed or uncompressed COCO RLE to the `counts` of a compressed one.

    Args:
        rle (`dict`): RLE with `counts` and `size`.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `str`: The `counts` of a compressed COCO RLE.

    Raises:
        `ValueError`: Keys are missing, or the RLE does not cover the image exactly.
    """
    if not {"counts", "size"} <= rle.keys():
        raise ValueError(
            f"`segmentation` has the keys {short_repr(sorted(map(str, rle)))}; an RLE needs `counts` and `size`"
        )
    counts, size = rle["counts"], rle["size"]
    if isinstance(counts, list):
        return uncompressed_to_counts(counts, size, height, width)
    if isinstance(counts, str | bytes):
        return check_compressed_counts(counts, size, height, width)
    raise ValueError(f"the RLE's `counts` is a {type(counts).__name__}; expected a string or a list of run lengths")


def uncompressed_to_counts(counts: list, size: list, height: int, width: int) -> str:
    """
    Compress an uncompressed RLE.

    Args:
        counts (`list[int]`): Run lengths in px, column by column, background first.
        size (`list[int]`): `[height, width]` of the RLE.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `str`: The `counts` of a compressed COCO RLE.

    Raises:
        `ValueError`: The runs do not add up to the image's pixels, or a run is negative or not an integer.
    """
    check_rle_size(size, height, width)
    if not all(isinstance(run, int) and run >= 0 for run in counts):
        raise ValueError("the RLE's counts must be whole numbers of pixels, 0 or more; export the annotation again")
    if sum(counts) != height * width:
        raise ValueError(
            f"the RLE's runs add up to {sum(counts)} pixels, the image has {height}×{width} = {height * width}; "
            "export the annotation again"
        )
    return coco_mask.frPyObjects({"size": list(size), "counts": counts}, height, width)["counts"].decode("ascii")


def check_compressed_counts(counts: str | bytes, size: list, height: int, width: int) -> str:
    """
    Check that compressed `counts` cover the image exactly.

    Args:
        counts (`str` or `bytes`): The `counts` of a compressed COCO RLE.
        size (`list[int]`): `[height, width]` of the RLE.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `str`: The same `counts`.

    Raises:
        `ValueError`: The RLE is malformed or does not cover the image exactly.
    """
    check_rle_size(size, height, width)
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    pixels = sum(_runs(counts))
    if pixels != height * width:
        raise ValueError(
            f"the RLE's runs add up to {pixels} pixels, the image has {height}×{width} = {height * width}; "
            "export the annotation again"
        )
    return counts


def check_rle_size(size, height: int, width: int):
    """Raise a `ValueError` unless an RLE's `size` is the `[height, width]` of its image."""
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise ValueError(
            f"the RLE's size is {short_repr(size)}, its image is [height, width] = [{height}, {width}]; masks must "
            "have the image's size (rotated by EXIF? export upright)"
        )


def _runs(counts: str) -> list[int]:
    """
    Decode COCO's LEB128-like text to run lengths (format of pycocotools' `rleFrString`).

    Args:
        counts (`str`): Characters of 6 bits: 5 bits of a number, lowest first, and a continuation bit.

    Returns:
        `list[int]`: Run lengths in px, background first.

    Raises:
        `ValueError`: On another character, an unfinished number, one of more than `_MAX_NUMBER_LENGTH` characters, or
            a negative run; of several defects, the first in the text.
    """
    try:
        codes = np.frombuffer(counts.encode("latin-1"), dtype=np.uint8) - np.uint8(48)  # values below 48 wrap around
    except UnicodeEncodeError:
        codes = np.frombuffer(counts.encode("utf-32-le", "surrogatepass"), dtype=np.uint32) - np.uint32(48)
    foreign = np.flatnonzero(codes > 63)
    readable = codes[: foreign[0]] if len(foreign) else codes
    ends = np.flatnonzero(readable < 32)  # the sixth bit is the continuation bit
    lengths = np.diff(ends, prepend=-1)
    number = (
        int(np.argmax(lengths > _MAX_NUMBER_LENGTH)) if len(ends) and lengths.max() > _MAX_NUMBER_LENGTH else len(ends)
    )
    runs = _undo_differences(_numbers(readable, ends[:number], lengths[:number]))
    if number and min(runs) < 0:
        raise ValueError("the RLE's counts contain a negative run; export the annotation again")
    if number < len(ends):
        raise ValueError(
            f"the RLE's counts contain a number of {lengths[number]} characters, more than {_MAX_NUMBER_LENGTH}; "
            "export the annotation again"
        )
    if len(foreign):
        raise ValueError(f"the RLE's counts contain the character {counts[foreign[0]]!r}; export the annotation again")
    if len(codes) and codes[-1] >= 32:
        raise ValueError("the RLE's counts end in the middle of a number; export the annotation again")
    return runs


def _numbers(codes: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """
    Decode signed numbers.

    Args:
        codes (`np.ndarray` of shape `(characters,)`): 0 to 63.
        ends (`np.ndarray` of shape `(numbers,)`): Index of each number's last character.
        lengths (`np.ndarray` of shape `(numbers,)`): Characters of each number.

    Returns:
        `np.ndarray` of shape `(numbers,)`: int64.
    """
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(ends[-1] + 1) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes[: ends[-1] + 1] & 31).astype(np.int64) << shifts, starts)
    values[codes[ends] >= 16] -= np.int64(1) << (5 * lengths[codes[ends] >= 16])  # the highest bit is the sign
    return values


def _undo_differences(values: np.ndarray) -> list[int]:
    """Decode runs: from the third on, a number is the difference from the run two positions earlier."""
    if len(values) and max(int(values.max()), -int(values.min())) * len(values) >= 2**62:
        values = values.astype(object)  # Python's integers do not overflow
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs.tolist()
