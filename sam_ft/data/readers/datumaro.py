"""Reader of Datumaro: one JSON file of items for each subset, images in `images/SUBSET/`."""

import math
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import folder_of_file, split_of_name
from .images import ImageError, count_bare_names, file_name_text, find_image, find_image_or_error
from .json_files import read_json
from .outlines import ellipse
from .records import Record, Shape, Split


FORM = "annotations/train.json of `categories` and `items`, beside images/train/ (Datumaro)"
_START_BYTES = 2**16  # of a file that are searched for its keys
_WITHOUT_AREA = ("points", "polyline")
_FACTS = ("label", "caption")  # about a whole image


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Datumaro files; `None` for another layout."""
    splits: dict[str, list[Path]] = {}
    for file in sorted((folder / "annotations").glob("*.json")):
        if is_datumaro(file):
            splits.setdefault(split_of_name(file.stem) or "train", []).append(file)
    return {split: partial(_read, folder, files) for split, files in splits.items()} or None


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a Datumaro file as training data; `None` for another file."""
    is_export = file.suffix == ".json" and is_datumaro(file)
    return {"train": partial(_read, folder_of_file(file), [file])} if is_export else None


def is_datumaro(file: Path) -> bool:
    """Return whether a file begins as Datumaro files do: `categories` is an object, where COCO has a list."""
    if file.name.startswith(".") or not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(_START_BYTES)
    return '"dm_format_version"' in start[:200] or re.search(r'"categories"\s*:\s*\{', start) is not None


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split = Split(str(files[0] if len(files) == 1 else folder), [], {})
    for file in files:
        content = read_json(file, "Datumaro")
        items = content.get("items") if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DatasetFormatError(
                f"`items` is {short_repr(items)}; a Datumaro file contains a list of objects", file=str(file)
            )
        names = _label_names(content.get("categories"), file)
        split.labels |= {name: name for name in names}
        paths = [_image_name(item) for item in items]
        counts = count_bare_names(path for path in paths if path is not None)
        folders = [folder / "images" / file.stem, folder / "images", folder / file.stem, folder]
        for number, (item, path) in enumerate(zip(items, paths, strict=True)):
            where = f"{file.name}, item {short_repr(item.get('id', number))}"
            image = (
                _find_by_id(item.get("id"), folders) if path is None else find_image_or_error(path, folders, counts)
            )
            split.records.append(_record(item, where, image, names, split.notes, str(file)))
    return split


def _label_names(categories, file: Path) -> list[str]:
    """Return the names of the labels in the order of their numbers."""
    label = categories.get("label") if isinstance(categories, dict) else None
    labels = label.get("labels") if isinstance(label, dict) else None
    entries = labels if isinstance(labels, list) and labels else [None]
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise DatasetFormatError(
            f"`categories.label.labels` is {short_repr(labels)}; expected a list of classes with `name`",
            file=str(file),
        )
    return names


def _image_name(item: dict) -> str | None:
    """Return the path of the image of an item; `None` if it has none, as where Datumaro did not save images."""
    for key in ("image", "media"):
        path = item[key].get("path") if isinstance(item.get(key), dict) else None
        if path:
            return file_name_text(path)
    return None


def _find_by_id(item_id, folders: list[Path]) -> Path | ImageError:
    """Return the image that has the id of an item as its name."""
    name = file_name_text(item_id)
    for suffix in (".jpg", ".jpeg", ".png", ".JPG", ".bmp", ".tif", ".tiff", ".webp"):
        try:
            return find_image(f"{name}{suffix}", folders, by_bare_name=False)
        except ImageError as error:
            last_error = error
    return last_error


def _record(item: dict, where: str, image, names: list[str], notes: list[str], file: str) -> Record:
    annotations = item.get("annotations", [])
    if not isinstance(annotations, list):
        raise DatasetFormatError(
            f"`annotations` is {short_repr(annotations)}; expected a list of objects", file=file, record=where
        )
    shapes, facts = [], set()
    for number, annotation in enumerate(annotations):
        kind = annotation.get("type") if isinstance(annotation, dict) else None
        if kind in _FACTS:
            notes.append(f"annotations of the type {kind!r} are about a whole image and are not read")
            facts.add(_label_of(annotation, names))
        else:
            group = annotation.get("group") if isinstance(annotation, dict) else None
            shapes.append((_shape(f"annotation {number}", kind, annotation, names), group))
    size = item["image"].get("size") if isinstance(item.get("image"), dict) else None
    size = tuple(reversed(size)) if isinstance(size, list) and len(size) == 2 else None
    # An image with a fact about a class shows it, without a mask: the class is not absent.
    return Record(
        file_name_text(item.get("id")),
        where,
        image,
        _join_groups(shapes),
        size,
        not_exhaustive=frozenset(facts - {None}),
    )


def _label_of(annotation: dict, names: list[str]) -> str | None:
    number = annotation.get("label_id")
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(names)
    return names[number] if is_number else None


def _shape(where: str, kind, annotation, names: list[str]) -> Shape:
    if not isinstance(annotation, dict):
        return Shape(where, problem=f"expected an object, found {short_repr(annotation)}")
    shape = Shape(where, _label_of(annotation, names))
    if shape.label is None:
        number = short_repr(annotation.get("label_id"))
        shape.problem = f"`label_id` is {number}; expected the number of one of {len(names)} labels, from 0"
        return shape
    attributes = annotation.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    shape.is_crowd = attributes.get("is_crowd") in (1, True)
    shape.attributes = {
        str(key): str(value)
        for key, value in attributes.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
    }
    try:
        _set_geometry(shape, kind, annotation, attributes.get("rotation"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        shape.problem = f"{short_repr(annotation)} cannot be read ({type(error).__name__}: {error}); export it again"
    return shape


def _set_geometry(shape: Shape, kind: str, annotation: dict, rotation):
    if kind == "polygon":
        shape.polygons = [_numbers(annotation["points"])]
    elif kind == "mask":
        shape.rle = annotation["rle"]
        if not isinstance(shape.rle, dict):
            raise ValueError("`rle` is no object with `counts` and `size`")
    elif kind == "bbox":
        shape.box = _numbers(annotation["bbox"])
        if rotation:
            raise ValueError(f"the box is rotated by {short_repr(rotation)} degrees; export it as a polygon")
    elif kind == "ellipse":
        x1, y1, x2, y2 = _numbers(annotation["points"])
        shape.polygons = [ellipse((x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1) / 2, abs(y2 - y1) / 2)]
    elif kind not in _WITHOUT_AREA:
        raise ValueError(f"its `type` is {short_repr(kind)}; expected polygon, mask, bbox or ellipse")


def _numbers(values) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("its numbers must be finite")
    return numbers


def _join_groups(shapes: Iterable[tuple[Shape, object]]) -> list[Shape]:
    """Join the annotations of one label and group, which are one object: its polygons, and the box around them."""
    joined, groups = [], {}
    for shape, group in shapes:
        if group in (None, 0, "") or isinstance(group, list | dict) or shape.problem:
            joined.append(shape)
        else:
            groups.setdefault((shape.label, group), []).append(shape)
    for members in groups.values():
        outlines = [shape for shape in members if shape.polygons or shape.rle]
        boxes = [shape for shape in members if shape.box]
        if not outlines or len(boxes) > 1:
            joined += members
            continue
        first = outlines[0]
        if any(shape.rle for shape in outlines) and len(outlines) > 1:
            first.problem = (
                f"its group has {len(outlines)} masks and polygons; join them with Datumaro's transform "
                "`merge_instance_segments`"
            )
        elif not first.rle:
            first.polygons = [part for shape in outlines for part in shape.polygons]
        first.box = boxes[0].box if boxes else None
        joined += [first, *(shape for shape in members if not (shape.polygons or shape.rle or shape.box))]
    return joined
