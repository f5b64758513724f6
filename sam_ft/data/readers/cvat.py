"""Reader of CVAT for images 1.1: one XML file for all images of a task."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from ...options.data import ReadOptions
from ..row_schema import DatasetFormatError
from .files import split_of_folder, split_of_name
from .images import count_bare_names, find_image_or_error
from .outlines import ellipse
from .records import Record, Shape, Split, join_parts


FORM = "annotations.xml beside images/ (CVAT for images)"
_MAX_MASK_SIDE = 30_000  # px
_SHAPE_TAGS = ("polygon", "box", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of CVAT files; `None` for another layout."""
    files = [f for f in sorted([*folder.glob("*.xml"), *folder.glob("*/*.xml")]) if _is_cvat(f)]
    if not files:
        return None
    splits: dict[str, list[tuple[Path, str | None]]] = {}
    for file in files:
        for subset in _subsets(file) or [None]:
            split = split_of_folder(file, folder) if subset is None else split_of_name(subset) or subset
            splits.setdefault(split, []).append((file, subset))
    return {split: partial(_read, folder, chosen) for split, chosen in splits.items()}


def _subsets(file: Path) -> list[str]:
    """Return the subsets of a task's images; most tasks have none."""
    subsets = re.findall(r'<image\b[^>]*\bsubset="([^"]*)"', file.read_text(encoding="utf-8", errors="replace"))
    return list(dict.fromkeys(subsets))


def _is_cvat(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            start = stream.read(4000)
    except OSError:
        return False
    return "<annotations" in start and ("<image" in start or "<meta" in start)


def _read(folder: Path, files: list[tuple[Path, str | None]], options: ReadOptions) -> Split:
    split = Split(str(files[0][0] if len(files) == 1 else folder), [], {})
    for file, subset in files:
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as error:
            raise DatasetFormatError(
                f"the file is not XML ({error}); export the task again as `CVAT for images 1.1`", file=str(file)
            ) from error
        if root.tag != "annotations" or (root.find("track") is not None and root.find("image") is None):
            raise DatasetFormatError(
                "the file is not in the format `CVAT for images` (a file with tracks is for video); export the task "
                "again in that format",
                file=str(file),
            )
        for name in root.findall("meta//labels/label/name"):
            if name.text and name.text.strip():
                split.labels.setdefault(name.text.strip(), name.text.strip())
        images = [image for image in root.findall("image") if subset is None or image.get("subset") == subset]
        name_counts = count_bare_names(image.get("name") or "" for image in images)
        split.records += [_record(image, file, folder, name_counts) for image in images]
    for record in split.records:
        for shape in record.shapes:
            if shape.label is not None:
                split.labels.setdefault(shape.label, shape.label)
    return split


def _record(image: ElementTree.Element, file: Path, folder: Path, name_counts: Counter) -> Record:
    name = image.get("name") or ""
    path = find_image_or_error(name, [file.parent, file.parent / "images", folder / "images", folder], name_counts)
    shapes = _shapes(image)
    where = f"{file.name}, image {name!r}"
    return Record(
        f"{file.parent.relative_to(folder).as_posix()}/{name}".removeprefix("./"), where, path, shapes, _size(image)
    )


def _size(image: ElementTree.Element) -> tuple:
    sides = image.get("width"), image.get("height")
    return tuple(int(side) if side and side.isdigit() else side for side in sides)


def _shapes(image: ElementTree.Element) -> list[Shape]:
    elements = ((number, element) for number, element in enumerate(image) if element.tag in _SHAPE_TAGS)
    groups = ((_shape(number, element), element.get("group_id", "0")) for number, element in elements)
    return join_parts((shape, None if group == "0" else group) for shape, group in groups)


def _shape(number: int, element: ElementTree.Element) -> Shape:
    label = (element.get("label") or "").strip()
    shape = Shape(f"{element.tag} {number}", label or None)
    if not label:
        shape.problem = "it has no `label`; set one in CVAT and export again"
        return shape
    attributes = {a.get("name"): (a.text or "").strip() for a in element.findall("attribute")}
    shape.attributes = {name: text for name, text in attributes.items() if name and text}
    try:
        _set_geometry(shape, element)
    except (KeyError, TypeError, ValueError) as error:
        shape.problem = f"{error}; expected numbers as CVAT writes them"
    return shape


def _set_geometry(shape: Shape, element: ElementTree.Element):
    def text(name):
        if element.get(name) is None:
            raise ValueError(f"`{name}` is missing")
        return element.get(name)

    def number(name):
        value = float(text(name))
        if not math.isfinite(value) or abs(value) > 1e6:
            raise ValueError(f"`{name}` is {value}")
        return value

    angle = math.radians(number("rotation")) if element.get("rotation") else 0.0
    if element.tag == "polygon":
        shape.polygons = [[float(v) for point in text("points").split(";") for v in point.split(",")]]
    elif element.tag == "box":
        x1, y1, x2, y2 = (number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
        corners = _rotate(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), angle)
        low, high = corners.min(axis=0), corners.max(axis=0)
        shape.box = [*low.tolist(), *(high - low).tolist()]
    elif element.tag == "ellipse":
        shape.polygons = [ellipse(*(number(name) for name in ("cx", "cy", "rx", "ry")), angle)]
    elif element.tag == "mask":
        width, height = int(number("width")), int(number("height"))
        if not 0 < width <= _MAX_MASK_SIDE or not 0 < height <= _MAX_MASK_SIDE:
            raise ValueError(f"`width`×`height` is {width}×{height}")
        shape.mask = partial(_decode_mask, text("rle"), width, height)
        shape.corner = int(number("left")), int(number("top"))


def _rotate(points: np.ndarray, angle: float) -> np.ndarray:
    """
    Rotate points about their center, clockwise on the screen as CVAT rotates boxes and ellipses.

    Args:
        points (`np.ndarray` of shape `(n, 2)`): Points `(x, y)`, px.
        angle (`float`): Angle in radians.

    Returns:
        `np.ndarray` of shape `(n, 2)`: The rotated points, px.
    """
    center, (sine, cosine) = points.mean(axis=0), (math.sin(angle), math.cos(angle))
    return (points - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center


def _decode_mask(rle: str, width: int, height: int) -> np.ndarray:
    """
    Decode a CVAT run-length encoding: row by row inside the mask's box, background first.

    Args:
        rle (`str`): Integers, separated by commas.
        width (`int`): Width of the box, px.
        height (`int`): Height of the box, px.

    Returns:
        `np.ndarray` of shape `(height, width)`: bool.
    """
    try:
        runs = [int(run) for run in rle.split(",")]
        if min(runs) < 0 or sum(runs) != width * height:
            raise ValueError(f"`rle` adds up to {sum(runs)} pixels, its box has {width}×{height}")
    except ValueError as error:
        raise ValueError(f"{error}; expected numbers as CVAT writes them") from error
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
