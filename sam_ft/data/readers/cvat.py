"""Reader of CVAT for images 1.1: one XML file for all images of a task."""

import contextlib
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...options.data import ReadOptions
from ..row_schema import DatasetFormatError
from .files import folder_of_file, split_of_folder, split_of_name
from .images import count_bare_names, find_image_or_error
from .outlines import ellipse
from .records import Record, Shape, Split, join_parts


FORM = "annotations.xml beside images/ (CVAT for images)"
_MAX_MASK_SIDE = 30_000  # px
_XML_ERRORS = (ElementTree.ParseError, OSError, ValueError, LookupError)
_SHAPE_TAGS = ("polygon", "box", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of CVAT files; `None` for another layout."""
    files = [f for f in sorted([*folder.glob("*.xml"), *folder.glob("*/*.xml")]) if _is_cvat(f)]
    return _find_splits(folder, files) or None


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a CVAT file; `None` for another file."""
    return _find_splits(folder_of_file(file), [file]) if file.suffix == ".xml" and _is_cvat(file) else None


def _find_splits(folder: Path, files: list[Path]) -> dict[str, partial]:
    splits: dict[str, list[_Subsets]] = {}
    for file in files:
        chosen: dict[str, list[str]] = {}
        for subset in _subset_names(file):
            # CVAT writes `default` for images that were put into no subset.
            split = split_of_folder(file, folder) if subset in ("", "default") else split_of_name(subset) or subset
            chosen.setdefault(split, []).append(subset)
        for split, names in chosen.items():
            splits.setdefault(split, []).append(_Subsets(file, names, is_divided=len(chosen) > 1))
    return {split: partial(_read, folder, chosen) for split, chosen in splits.items()}


@dataclass
class _Subsets:
    """
    Images of one file that belong to one split.

    Attributes:
        file (`Path`): The annotation file.
        names (`list[str]`): Names of their subsets, empty for images without one.
        is_divided (`bool`): Whether the file has images of other splits.
    """

    file: Path
    names: list[str]
    is_divided: bool


def _subset_names(file: Path) -> list[str]:
    """Return the subsets of a task's images, empty for those without one; most tasks have none."""
    names = {}
    with contextlib.suppress(*_XML_ERRORS):  # A damaged file is refused when its split is read.
        for event, element in ElementTree.iterparse(file, events=("start", "end")):
            if element.tag == "image" and event == "start":
                names[element.get("subset") or ""] = None
            elif element.tag == "image":
                element.clear()
    return list(names) or [""]


def _is_cvat(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            start = stream.read(4000)
    except OSError:
        return False
    return "<annotations" in start and ("<image" in start or "<meta" in start)


def _read(folder: Path, files: list[_Subsets], _options: ReadOptions) -> Split:
    split = Split(str(files[0].file if len(files) == 1 else folder), [], {})
    roots = [_parse(chosen.file) for chosen in files]
    declared, drawn, tags = _labels(roots)
    split.labels |= {name: name for name in declared}
    if tags:
        split.notes.append(f"the tags {', '.join(map(repr, tags))} describe images, not objects, and are no phrases")
    for chosen, root in zip(files, roots, strict=True):
        images = [image for image in root.findall("image") if (image.get("subset") or "") in chosen.names]
        without = sum(not image.get("subset") for image in images)
        if without and chosen.is_divided:
            split.notes.append(f"{without} images without a subset belong to this split")
        name_counts = count_bare_names(image.get("name") or "" for image in images)
        split.records += [_record(image, chosen.file, folder, name_counts, {*declared, *drawn}) for image in images]
    for record in split.records:
        for shape in record.shapes:
            if shape.label is not None:
                split.labels.setdefault(shape.label, shape.label)
    return split


def _parse(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(file).getroot()
    except _XML_ERRORS as error:
        raise DatasetFormatError(
            f"the file is not XML ({error}); export the task again as `CVAT for images 1.1`", file=str(file)
        ) from error
    if root.tag != "annotations" or (root.find("track") is not None and root.find("image") is None):
        raise DatasetFormatError(
            "the file is not in the format `CVAT for images` (a file with tracks is for video); export the task "
            "again in that format",
            file=str(file),
        )
    return root


def _labels(roots: list[ElementTree.Element]) -> tuple[list[str], set[str], list[str]]:
    """
    Find the labels of objects and those of tags: of the type `tag`, or of any type and used by tags alone.

    Args:
        roots (`list[ElementTree.Element]`): Contents of all files of a split.

    Returns:
        `tuple[list[str], set[str], list[str]]`: Declared labels of objects, labels that are drawn, and labels of tags.
    """
    types: dict[str, set[str]] = {}
    for label in (label for root in roots for label in root.findall("meta//labels/label")):
        types.setdefault(_text(label.findtext("name")), set()).add(_text(label.findtext("type")))
    elements = [element for root in roots for image in root.findall("image") for element in image]
    drawn = {_text(element.get("label")) for element in elements if element.tag in _SHAPE_TAGS}
    tags = {_text(element.get("label")) for element in elements if element.tag == "tag"}
    tags = (tags | {name for name, kinds in types.items() if kinds == {"tag"}}) - drawn - {""}
    tags -= {name for name, kinds in types.items() if kinds - {"tag", "any", ""}}
    return [name for name in types if name and name not in tags], drawn, sorted(tags)


def _text(value: str | None) -> str:
    return (value or "").strip()


def _record(image: ElementTree.Element, file: Path, folder: Path, name_counts: Counter, objects: set[str]) -> Record:
    name, subset = image.get("name") or "", image.get("subset") or ""
    folders = [parent / "images" / subset for parent in (file.parent, folder) if subset]
    folders += [file.parent, file.parent / "images", folder / "images", folder]
    path = find_image_or_error(name, folders, name_counts)
    shapes = _shapes(image)
    # A tag with the label of objects: the image shows some, which may not be drawn.
    shapes += [
        Shape("tag", _text(tag.get("label")), unknown_extent="it is a tag of the image")
        for tag in image.findall("tag")
        if _text(tag.get("label")) in objects
    ]
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
    label = _text(element.get("label"))
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
