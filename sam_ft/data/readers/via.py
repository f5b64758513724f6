"""VGG Image Annotator, versions 1 and 2: one JSON file of regions for all images of a folder."""

from collections import Counter
from functools import partial
from pathlib import Path

from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import by_split
from .images import bare_names, find_listed
from .json_files import read_json
from .outlines import ellipse
from .records import ReadOptions, Record, Shape, Split


FORM = "a JSON file of `regions` beside its images (VIA 1 and 2)"


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a tree of VIA files: name -> call that reads it."""
    files = [f for f in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]) if _entries(f) is not None]
    if not files:
        return None
    splits = by_split(files, folder)
    for split, chosen in splits.items():
        if len(chosen) > 1:
            names = ", ".join(map(str, chosen))
            raise DatasetFormatError(
                f"several VIA files are of the split {split!r}: {names}; keep one", file=str(folder)
            )
    return {split: partial(_read, chosen[0]) for split, chosen in splits.items()}


def _entries(file: Path) -> dict | None:
    """The images of a VIA file, by key; `None` where it is none."""
    try:
        content = read_json(file, "VIA")
    except DatasetFormatError:
        return None
    if isinstance(content, dict) and isinstance(content.get("_via_img_metadata"), dict):
        content = content["_via_img_metadata"]  # a saved project of VIA 2
    if not isinstance(content, dict) or not content:
        return None
    first = next(iter(content.values()))
    return content if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else None


def _read(file: Path, options: ReadOptions) -> Split:
    entries, split = _entries(file), Split(str(file), [], {})
    for key, entry in entries.items():
        listed = entry.get("regions") if isinstance(entry, dict) else None
        if not isinstance(listed, dict | list | None):
            raise DatasetFormatError(
                f"`regions` is {short_repr(listed)}; expected the regions of an image",
                file=str(file),
                record=f"entry {key!r}",
            )
    regions = [region for entry in entries.values() for _, region in _regions(entry)]
    attribute = _class_attribute(file, regions, options)
    labels = set()
    bare = bare_names(str(entry.get("filename")) for entry in entries.values() if isinstance(entry, dict))
    for key, entry in entries.items():
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise DatasetFormatError(
                f"`filename` is {short_repr(name)}; expected the image's name", file=str(file), record=f"entry {key!r}"
            )
        image = find_listed(name, [file.parent, file.parent / "images"], bare)
        shapes = [_shape(f"region {number}", region, attribute, options) for number, region in _regions(entry)]
        labels |= {shape.label for shape in shapes if shape.label is not None}
        split.records.append(Record(str(name), f"entry {name!r}", image, shapes))
    split.labels = {label: label for label in sorted(labels)}
    split.labels_were_found = True
    if attribute:
        split.notes.append(f"the attribute {attribute!r} is the class")
    return split


def _regions(entry) -> list[tuple]:
    """VIA 1 keeps regions in an object, keyed "0", "1", …; VIA 2 in a list."""
    regions = entry.get("regions") if isinstance(entry, dict) else None
    return list(regions.items()) if isinstance(regions, dict) else list(enumerate(regions or []))


def _attributes(region) -> dict[str, list[str]]:
    """Attribute -> its value, or all ticked options of a checkbox."""
    listed = region.get("region_attributes") if isinstance(region, dict) else None
    result = {}
    for name, value in (listed if isinstance(listed, dict) else {}).items():
        options = [option for option, ticked in value.items() if ticked] if isinstance(value, dict) else [value]
        options = [str(option) for option in options if option is not None and str(option).strip()]
        if options:
            result[str(name)] = options
    return result


def _class_attribute(file: Path, regions: list, options: ReadOptions) -> str | None:
    found = Counter(name for region in regions for name in _attributes(region))
    if options.class_attribute:
        if options.class_attribute not in found:
            raise DatasetFormatError(
                f"`class_attribute` is {options.class_attribute!r}; the regions have {', '.join(found) or 'none'}",
                file=str(file),
            )
        return options.class_attribute
    if len(found) > 1:
        raise DatasetFormatError(
            f"the regions have the attributes {', '.join(found)}; say which is the class: `class_attribute`",
            file=str(file),
        )
    return next(iter(found), None)


def _shape(where: str, region, attribute: str | None, options: ReadOptions) -> Shape:
    attributes = _attributes(region)
    label = " ".join(attributes.pop(attribute, [])) if attribute else None
    # what is both green and red is neither "green apple" alone nor certainly another
    single = {name: ticked[0] for name, ticked in attributes.items() if len(ticked) == 1}
    shape = Shape(where, label or options.class_name, attributes=single)
    if shape.label is None:
        shape.problem = "it has no class; give one in VIA, or `class_name` for all that have none"
        return shape
    drawn = region.get("shape_attributes")
    try:
        _place(shape, drawn if isinstance(drawn, dict) else {})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        shape.problem = f"`shape_attributes` is {short_repr(drawn)} ({type(error).__name__}: {error}); draw it again"
    return shape


def _place(shape: Shape, drawn: dict):
    kind = drawn.get("name")
    if kind in ("polygon", "polyline"):
        xs, ys = drawn["all_points_x"], drawn["all_points_y"]
        if kind == "polygon":
            shape.polygons = [[float(v) for point in zip(xs, ys, strict=True) for v in point]]
    elif kind == "rect":
        shape.box = [float(drawn[key]) for key in ("x", "y", "width", "height")]
    elif kind in ("circle", "ellipse"):
        rx, ry = (drawn["r"], drawn["r"]) if kind == "circle" else (drawn["rx"], drawn["ry"])
        shape.polygons = [
            ellipse(float(drawn["cx"]), float(drawn["cy"]), float(rx), float(ry), float(drawn.get("theta", 0)))
        ]
    elif kind != "point":
        raise ValueError(f"a shape named {short_repr(kind)} is not known")
