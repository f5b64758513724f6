"""Reader of ISAT (ISAT_with_segment_anything): one JSON file of polygons in layers for each image."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...ops.masks import decode_mask, polygons_to_counts
from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import MAX_INSTANCES, DatasetFormatError, too_many_instances
from .files import example_id_of, group_by_split
from .images import ImageError, file_name_text, find_image
from .json_files import read_json
from .records import Record, Shape, Split


FORM = 'NAME.json with `info.description` "ISAT" and `objects`, beside NAME.jpg or images/ (ISAT)'
_BACKGROUND = "__background__"  # ISAT's class of holes


@dataclass
class _Polygon:
    """
    Polygon of an ISAT file.

    Attributes:
        shape (`Shape`): Its object, without a geometry.
        key (`Hashable`): Object that it is a part of.
        layer (`float`): Position in the order of drawing; NaN if the file has none.
        points (`list[float]`): `[x1, y1, x2, y2, …]`, px.
    """

    shape: Shape
    key: Hashable
    layer: float
    points: list[float]


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of ISAT files; `None` for another layout."""
    files = sorted(f for f in folder.rglob("*.json") if not f.name.startswith("."))
    if not any(_is_isat(file) for file in files[:3]):
        return None
    return {split: partial(_read, folder, chosen) for split, chosen in group_by_split(files, folder).items()}


def _is_isat(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        if '"ISAT' not in stream.read(4000):
            return False
    try:
        content = read_json(file, "ISAT")
    except DatasetFormatError:
        return False
    return _has_isat_keys(content)


def _has_isat_keys(content) -> bool:
    info = content.get("info") if isinstance(content, dict) else None
    is_isat = isinstance(info, dict) and str(info.get("description")).startswith("ISAT")
    return is_isat and isinstance(content.get("objects"), list)


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split, labels = Split(str(folder if len(files) > 1 else files[0]), [], {}, has_inferred_labels=True), set()
    for file in files:
        content = read_json(file, "ISAT")
        if not _has_isat_keys(content):
            raise DatasetFormatError(
                "an ISAT file contains `info` with `description: ISAT` and a list `objects`, which are missing here; "
                "move the file away",
                file=str(file),
            )
        size = (content["info"].get("width"), content["info"].get("height"))
        shapes = _shapes(content["objects"], size, split.notes)
        labels |= {shape.label for shape in shapes if shape.label is not None}
        image = _image(folder, file, content["info"].get("name"))
        split.records.append(Record(example_id_of(file, folder), str(file), image, shapes, size))
    split.labels = {label: label for label in sorted(labels)}
    return split


def _image(folder: Path, file: Path, name) -> Path | ImageError:
    """Return the image file; `info.folder` is a folder of the computer that wrote the file, and is not searched."""
    folders = [file.parent, file.parent / "images", file.parent.parent / "images"]
    folders += [folder / "images" / file.parent.name, folder / "images", folder]
    name = file_name_text(name) if name else f"{file.stem}.jpg"
    try:
        return find_image(name, [place for place in dict.fromkeys(folders) if place.is_relative_to(folder)])
    except ImageError as error:
        return error


def _shapes(entries: list, size: tuple, notes: list[str]) -> list[Shape]:
    """Return the objects of an image; an object consists of all polygons of its class and group."""
    if len(entries) > MAX_INSTANCES:
        return [Shape("objects", problem=too_many_instances(len(entries)))]
    polygons, problems = [], []
    for number, entry in enumerate(entries):
        shape = Shape(f"objects[{number}]")
        try:
            polygons.append(_polygon(shape, number, entry))
        except (TypeError, ValueError, OverflowError) as error:
            shape.problem = str(error)
            problems.append(shape)
    covers = _find_covers(polygons)
    objects: dict[Hashable, list[tuple[_Polygon, list[list[float]]]]] = {}
    for polygon, polygon_covers in zip(polygons, covers, strict=True):
        if polygon.shape.label is None:
            notes.append(f"polygons of `{_BACKGROUND}` are holes in the objects of lower layers")
        else:
            objects.setdefault(polygon.key, []).append((polygon, polygon_covers))
    shapes = []
    for parts in objects.values():
        shape = parts[0][0].shape
        if any(part_covers for _, part_covers in parts):
            notes.append("pixels of polygons in higher layers are not part of an object below them")
            shape.mask = partial(_visible_mask, [(part.points, part_covers) for part, part_covers in parts], size)
        else:
            shape.polygons = [part.points for part, _ in parts]
        shapes.append(shape)
    return shapes + problems


def _polygon(shape: Shape, number: int, entry) -> _Polygon:
    """Return the polygon of an entry of `objects`; its shape gets the class, none for a hole."""
    category = entry.get("category") if isinstance(entry, dict) else None
    if not isinstance(category, str) or not category.strip():
        raise ValueError(f"`category` is missing in {short_repr(entry)}; expected a class name")
    shape.label = category if category != _BACKGROUND else None
    shape.is_crowd = entry.get("iscrowd") in (1, True)
    points = entry.get("segmentation")
    try:
        values = [float(v) for x, y in points for v in (x, y)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"`segmentation` is {short_repr(points)}; expected [[x, y], …]") from error
    if not all(map(math.isfinite, values)):
        raise ValueError(f"`segmentation` is {short_repr(points)}; its numbers must be finite")
    layer, group = entry.get("layer"), entry.get("group")
    if not isinstance(layer, int | float | None) or not isinstance(group, int | float | str | None):
        raise ValueError(
            f"`layer` is {short_repr(layer)} and `group` {short_repr(group)}; expected numbers, or none of them"
        )
    key = (category, shape.is_crowd, str(group)) if group not in (None, "", 0) else number
    return _Polygon(shape, key, math.nan if layer is None else float(layer), values)


def _find_covers(polygons: list[_Polygon]) -> list[list[list[float]]]:
    """Return, for each polygon, the points of those of other objects that lie in higher layers and meet its box."""
    valid = [polygon for polygon in polygons if len(polygon.points) >= 6]
    boxes = np.array([[*_low(p.points), *_high(p.points)] for p in valid]).reshape(-1, 4)
    layers = np.array([p.layer for p in valid])
    covers = []
    for polygon in polygons:
        if not polygon.points:
            covers.append([])
            continue
        low, high = _low(polygon.points), _high(polygon.points)
        meets = (layers > polygon.layer) & (boxes[:, :2] <= high).all(axis=1) & (boxes[:, 2:] >= low).all(axis=1)
        covers.append([valid[i].points for i in np.flatnonzero(meets) if valid[i].key != polygon.key])
    return covers


def _low(points: list[float]) -> tuple[float, float]:
    return min(points[::2]), min(points[1::2])


def _high(points: list[float]) -> tuple[float, float]:
    return max(points[::2]), max(points[1::2])


def _visible_mask(parts: list[tuple[list[float], list[list[float]]]], size: tuple) -> np.ndarray:
    """Return the pixels of the parts of an object that no cover contains."""
    width, height = size
    if not isinstance(width, int) or not isinstance(height, int):
        raise ValueError(f"`info` has the size {short_repr(width)}×{short_repr(height)}; expected whole numbers")
    mask = np.zeros((height, width), dtype=bool)
    for points, covers in parts:
        visible = decode_mask(polygons_to_counts([points], height, width), height, width)
        for cover in covers:
            visible &= ~decode_mask(polygons_to_counts([cover], height, width), height, width)
        mask |= visible
    return mask
