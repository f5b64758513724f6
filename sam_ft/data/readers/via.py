"""Reader of VGG Image Annotator (VIA) 1 and 2: one JSON file of regions for all images of a folder."""

from collections import Counter
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import group_by_split
from .images import count_bare_names, find_image_or_error
from .json_files import read_json
from .outlines import ellipse
from .records import Record, Shape, Split


FORM = "a JSON file of `regions` beside its images (VIA 1 and 2)"
KEYS = ("class_name", "class_attribute")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of VIA files; `None` for another layout."""
    files = [f for f in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]) if _entries(f) is not None]
    if not files:
        return None
    splits = group_by_split(files, folder)
    for split, chosen in splits.items():
        if len(chosen) > 1:
            names = ", ".join(map(str, chosen))
            raise DatasetFormatError(f"the split {split!r} has several VIA files, {names}; keep one", file=str(folder))
    return {split: partial(_read, chosen[0]) for split, chosen in splits.items()}


def _entries(file: Path) -> dict | None:
    """Return the image entries of a VIA file by key; `None` for another file."""
    try:
        content = read_json(file, "VIA")
    except DatasetFormatError:
        return None
    if isinstance(content, dict) and isinstance(content.get("_via_img_metadata"), dict):
        content = content["_via_img_metadata"]  # A saved project of VIA 2 nests the entries.
    if not isinstance(content, dict) or not content:
        return None
    first = next(iter(content.values()))
    return content if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else None


def _read(file: Path, options: ReadOptions) -> Split:
    entries, split = _entries(file), Split(str(file), [], {})
    for key, entry in entries.items():
        entry_regions = entry.get("regions") if isinstance(entry, dict) else None
        if not isinstance(entry_regions, dict | list | None):
            raise DatasetFormatError(
                f"`regions` is {short_repr(entry_regions)}; expected the regions of an image",
                file=str(file),
                record=f"entry {key!r}",
            )
    regions = [region for entry in entries.values() for _, region in _regions(entry)]
    attribute = _class_attribute(file, regions, options)
    labels = set()
    name_counts = count_bare_names(str(entry.get("filename")) for entry in entries.values() if isinstance(entry, dict))
    for key, entry in entries.items():
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise DatasetFormatError(
                f"`filename` is {short_repr(name)}; expected the image's name", file=str(file), record=f"entry {key!r}"
            )
        image = find_image_or_error(name, [file.parent, file.parent / "images"], name_counts)
        shapes = [_shape(f"region {number}", region, attribute, options) for number, region in _regions(entry)]
        labels |= {shape.label for shape in shapes if shape.label is not None}
        split.records.append(Record(str(name), f"entry {name!r}", image, shapes))
    split.labels = {label: label for label in sorted(labels)}
    split.has_inferred_labels = True
    if attribute:
        split.notes.append(f"the attribute {attribute!r} is the class")
    return split


def _regions(entry) -> list[tuple]:
    """Return pairs of key and region: VIA 1 has an object with the keys "0", "1", …, VIA 2 a list."""
    regions = entry.get("regions") if isinstance(entry, dict) else None
    return list(regions.items()) if isinstance(regions, dict) else list(enumerate(regions or []))


def _attributes(region) -> dict[str, list[str]]:
    """Return the values of each attribute: one, or all selected options of a checkbox."""
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    result = {}
    for name, value in (attributes if isinstance(attributes, dict) else {}).items():
        options = [option for option, selected in value.items() if selected] if isinstance(value, dict) else [value]
        options = [str(option) for option in options if option is not None and str(option).strip()]
        if options:
            result[str(name)] = options
    return result


def _class_attribute(file: Path, regions: list, options: ReadOptions) -> str | None:
    counts = Counter(name for region in regions for name in _attributes(region))
    if options.class_attribute:
        if options.class_attribute not in counts:
            raise DatasetFormatError(
                f"`class_attribute` is {options.class_attribute!r}; the regions have {', '.join(counts) or 'none'}",
                file=str(file),
            )
        return options.class_attribute
    if len(counts) > 1:
        raise DatasetFormatError(
            f"the regions have the attributes {', '.join(counts)}; set `class_attribute` to the one that is the class",
            file=str(file),
        )
    return next(iter(counts), None)


def _shape(where: str, region, attribute: str | None, options: ReadOptions) -> Shape:
    attributes = _attributes(region)
    label = " ".join(attributes.pop(attribute, [])) if attribute else None
    # With several values, such as green and red, "green apple" is neither certainly present nor certainly absent.
    single = {name: values[0] for name, values in attributes.items() if len(values) == 1}
    shape = Shape(where, label or options.class_name, attributes=single)
    if shape.label is None:
        shape.problem = "it has no class; set one in VIA, or set `class_name` for all regions without a class"
        return shape
    geometry = region.get("shape_attributes")
    try:
        _set_geometry(shape, geometry if isinstance(geometry, dict) else {})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        shape.problem = (
            f"`shape_attributes` is {short_repr(geometry)} ({type(error).__name__}: {error}); draw it again"
        )
    return shape


def _set_geometry(shape: Shape, geometry: dict):
    kind = geometry.get("name")
    if kind in ("polygon", "polyline"):
        xs, ys = geometry["all_points_x"], geometry["all_points_y"]
        if kind == "polygon":
            shape.polygons = [[float(v) for point in zip(xs, ys, strict=True) for v in point]]
    elif kind == "rect":
        shape.box = [float(geometry[key]) for key in ("x", "y", "width", "height")]
    elif kind in ("circle", "ellipse"):
        rx, ry = (geometry["r"], geometry["r"]) if kind == "circle" else (geometry["rx"], geometry["ry"])
        shape.polygons = [
            ellipse(
                float(geometry["cx"]), float(geometry["cy"]), float(rx), float(ry), float(geometry.get("theta", 0))
            )
        ]
    elif kind != "point":
        raise ValueError(f"`name` is {short_repr(kind)}; expected polygon, polyline, rect, circle, ellipse or point")
