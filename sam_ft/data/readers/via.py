"""Reader of VGG Image Annotator (VIA) 1 and 2: one JSON file of regions for all images of a folder."""

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
    entries = {f: _entries(f) for f in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])}
    attributes = {file: _attribute_names(content) for file, content in entries.items() if content is not None}
    if not attributes:
        return None
    splits = group_by_split(list(attributes), folder)
    for split, chosen in splits.items():
        if len(chosen) > 1:
            names = ", ".join(map(str, chosen))
            raise DatasetFormatError(f"the split {split!r} has several VIA files, {names}; keep one", file=str(folder))
    return {split: partial(_read, chosen[0], attributes) for split, chosen in splits.items()}


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a VIA file; `None` for another file."""
    entries = _entries(file) if file.suffix == ".json" else None
    return None if entries is None else {"train": partial(_read, file, {file: _attribute_names(entries)})}


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


def _read(file: Path, attributes: dict[Path, list[str]], options: ReadOptions) -> Split:
    entries, split = _entries(file), Split(str(file), [], {})
    for key, entry in entries.items():
        entry_regions = entry.get("regions") if isinstance(entry, dict) else None
        if not isinstance(entry_regions, dict | list | None):
            raise DatasetFormatError(
                f"`regions` is {short_repr(entry_regions)}; expected the regions of an image",
                file=str(file),
                record=f"entry {key!r}",
            )
    class_attributes = _class_attributes(file, attributes, options)
    labels = set()
    name_counts = count_bare_names(str(entry.get("filename")) for entry in entries.values() if isinstance(entry, dict))
    for key, entry in entries.items():
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise DatasetFormatError(
                f"`filename` is {short_repr(name)}; expected the image's name", file=str(file), record=f"entry {key!r}"
            )
        image = find_image_or_error(name, [file.parent, file.parent / "images"], name_counts)
        shapes = [_shape(f"region {number}", region, class_attributes, options) for number, region in _regions(entry)]
        labels |= {shape.label for shape in shapes if shape.label is not None}
        split.records.append(Record(str(name), f"entry {name!r}", image, shapes))
    split.labels = {label: label for label in sorted(labels)}
    split.has_inferred_labels = True
    if class_attributes:
        split.notes.append(f"the attribute {' or '.join(map(repr, class_attributes))} is the class")
    return split


def _regions(entry) -> list[tuple]:
    """Return pairs of key and region: VIA 1 has an object with the keys "0", "1", …, VIA 2 a list."""
    regions = entry.get("regions") if isinstance(entry, dict) else None
    if isinstance(regions, dict):
        return list(regions.items())
    return list(enumerate(regions)) if isinstance(regions, list) else []


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


def _attribute_names(entries: dict) -> list[str]:
    """Return the names of the attributes of all regions of a file."""
    regions = (region for entry in entries.values() for _, region in _regions(entry))
    return list(dict.fromkeys(name for region in regions for name in _attributes(region)))


def _class_attributes(file: Path, attributes: dict[Path, list[str]], options: ReadOptions) -> list[str]:
    """
    Return the attributes of which the first that a region has is its class.

    Args:
        file (`Path`): The VIA file that is read.
        attributes (`dict[Path, list[str]]`): Names of the attributes in the file of each split.
        options (`ReadOptions`): `class_attribute` is one name, or several with commas between them.

    Raises:
        `DatasetFormatError`: If the files of all splits have several attributes and `class_attribute` is not set, or
            the regions of this file have none of those in `class_attribute`.
    """
    chosen = options.class_attribute
    if chosen:
        is_name = any(chosen in names for names in attributes.values())
        names = [chosen] if is_name else [name.strip() for name in chosen.split(",") if name.strip()]
        is_known = any(name in of_file for of_file in attributes.values() for name in names)
        if not set(names) & set(attributes[file]) and (attributes[file] or not is_known):
            several = f", or to several, `{names[0]},{attributes[file][0]}`" if names and attributes[file] else ""
            raise DatasetFormatError(
                f"`class_attribute` is {chosen!r}; the regions have {', '.join(attributes[file]) or 'none'}. Set it "
                f"to the attribute that is the class{several}",
                file=str(file),
            )
        return names
    names = list(dict.fromkeys(name for of_file in attributes.values() for name in of_file))
    if len(names) > 1:
        listing = "; ".join(f"{', '.join(of_file)} in {path}" for path, of_file in attributes.items() if of_file)
        raise DatasetFormatError(
            f"the regions have several attributes ({listing}); set `class_attribute` to the one that is the class, or "
            f"to several, such as `{','.join(names[:2])}`, of which the first that a region has is its class",
            file=str(file),
        )
    return names


def _shape(where: str, region, class_attributes: list[str], options: ReadOptions) -> Shape:
    attributes = _attributes(region)
    attribute = next((name for name in class_attributes if name in attributes), None)
    label = None if attribute is None else " ".join(attributes.pop(attribute))
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
