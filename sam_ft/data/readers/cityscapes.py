"""Reader of Cityscapes: `gtFine_polygons.json` for each image, whose polygons are painted over each other."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...ops.masks import COORDINATE_LIMIT
from ...options.data import ReadOptions
from ...utils.text import list_some, short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import group_by_split, images_in
from .images import ImageError, find_image
from .json_files import read_json
from .records import Record, Shape, Split


FORM = "leftImg8bit/train/CITY/NAME_leftImg8bit.png with gtFine/train/CITY/NAME_gtFine_polygons.json (Cityscapes)"
_POLYGONS = "_gtFine_polygons.json"
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_VOID = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground")
_THINGS = ("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")
_STUFF = (
    *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky"),
)
_NOT_PAINTED = ("license plate",)  # It has no number in the label images, so it does not cover the car behind it.


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Cityscapes files; `None` for another layout."""
    files = sorted((folder / "gtFine").rglob(f"*{_POLYGONS}"))
    splits = group_by_split(files, folder)
    # The polygons of the test images are not public; their files have void labels only.
    hidden = [split for split, chosen in splits.items() if len(splits) > 1 and not any(map(_is_labelled, chosen))]
    return {split: partial(_read, folder, splits[split], hidden) for split in splits if split not in hidden} or None


def _is_labelled(file: Path) -> bool:
    """Return whether a file has an object of a class or no object at all, or cannot be read."""
    try:
        content = read_json(file, "Cityscapes")
    except DatasetFormatError:
        return True
    objects = content.get("objects") if isinstance(content, dict) else None
    return not isinstance(objects, list) or not objects or any(_label_of(entry) not in _VOID for entry in objects)


def _label_of(entry) -> str | None:
    label = entry.get("label") if isinstance(entry, dict) else None
    return label if isinstance(label, str) and label.strip() else None


def _read(folder: Path, files: list[Path], hidden: list[str], _options: ReadOptions) -> Split:
    split = Split(str(folder / "gtFine"), [], {}, has_inferred_labels=True)
    split.notes += [f"the split {name!r} has void labels only and is left out" for name in hidden]
    found: dict[Path, tuple[set[str], tuple]] = {}
    for file in files:  # Only the labels are kept, because the polygons of all images need much memory.
        content = _read_objects(file)
        labels = {_label_of(entry) for entry in content["objects"] if not _is_deleted(entry)} - {None}
        found[file] = labels, (content.get("imgWidth"), content.get("imgHeight"))
    classes = {label for labels, _ in found.values() for label in labels} - {*_VOID, *_STUFF, *_NOT_PAINTED}
    things = {_class_of(label, classes)[0] for label in classes}
    split.labels = {label: label for label in sorted(things)}
    for file, (labels, size) in found.items():
        record = _record(folder, file, size)
        record.shapes = partial(_shapes, file, classes)
        if labels and labels.issubset(_VOID):
            record.absent = []
            remark = "it has void labels only, so no class is verified absent"
            split.remarks.append(Remark("image without labels", record.where, remark))
        split.records.append(record)
    stuff = {label for labels, _ in found.values() for label in labels if label in (*_STUFF, *_NOT_PAINTED)}
    if stuff:
        split.notes.append(
            f"stuff has no objects, so {len(stuff)} classes are left out: {list_some(sorted(stuff), len(stuff))}"
        )
    split.notes += _note_unlisted(split)
    return split


def _note_unlisted(split: Split) -> list[str]:
    """Return a note on images beside those of the split that have no polygons."""
    listed = {record.image for record in split.records}
    folders = {record.image.parent for record in split.records if isinstance(record.image, Path)}
    images = [image for place in sorted(folders) for image in images_in(place) if image not in listed]
    return [f"{len(images)} images have no polygons and are left out, such as {images[0]}"] if images else []


def _read_objects(file: Path) -> dict:
    """Return the content of a file after a check of its structure."""
    content = read_json(file, "Cityscapes")
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise DatasetFormatError(
            "a Cityscapes file contains a list `objects`, which is missing here; copy the file again", file=str(file)
        )
    return content


def _is_deleted(entry) -> bool:
    return isinstance(entry, dict) and entry.get("deleted") in (1, True)


def _class_of(label: str, classes: set[str]) -> tuple[str, bool]:
    """Return the class of a label, and whether it is a group of objects that were not separated, as in `cargroup`."""
    single = label.removesuffix("group").strip()
    is_group = single != label and (single in _THINGS or single in classes)
    return (single, True) if is_group else (label, False)


def _record(folder: Path, file: Path, size: tuple) -> Record:
    """Return the record of a file without its shapes."""
    name = file.name.removesuffix(_POLYGONS)
    place = folder / "leftImg8bit" / file.parent.relative_to(folder / "gtFine")
    names = [f"{name}_leftImg8bit{suffix}" for suffix in _IMAGE_SUFFIXES]
    image = next((place / image_name for image_name in names if (place / image_name).is_file()), None)
    if image is None:
        try:
            image = find_image(names[0], [place])
        except ImageError as error:
            image = error
    return Record(f"{file.parent.name}/{name}", str(file), image, [], size)


def _shapes(file: Path, classes: set[str]) -> list[Shape]:
    """Paint the polygons of a file in their order, and return the visible part of each object."""
    content = _read_objects(file)
    width, height = content.get("imgWidth"), content.get("imgHeight")
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        raise ValueError(f"`imgWidth`×`imgHeight` is {short_repr(width)}×{short_repr(height)}; expected whole numbers")
    canvas = Image.new("I", (width, height), 0)
    drawer, shapes = ImageDraw.Draw(canvas), []
    for number, entry in enumerate(content["objects"], 1):
        label = _label_of(entry)
        if _is_deleted(entry) or label in _NOT_PAINTED:
            continue
        shape = Shape(f"objects[{number - 1}]")
        try:
            if label is None:
                raise ValueError(f"`label` is missing in {short_repr(entry)}; expected a class name")
            if label in classes:
                shape.label, shape.is_crowd = _class_of(label, classes)
            drawer.polygon(_points(entry.get("polygon"), 3 if label in classes else 2), fill=number)
        except (TypeError, ValueError, OverflowError) as error:
            shape.problem = str(error)
        if shape.label is not None or shape.problem:
            shapes.append((number, shape))
    numbers = np.asarray(canvas)
    for number, shape in shapes:
        shape.mask = partial(np.equal, numbers, number)
    return [shape for _, shape in shapes]


def _points(polygon, min_points: int) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in polygon]
    except (TypeError, ValueError) as error:
        raise ValueError(f"`polygon` is {short_repr(polygon)}; expected [[x, y], …]") from error
    if len(points) < min_points:
        raise ValueError(f"`polygon` has {len(points)} points, it needs at least {min_points}")
    if not all(abs(v) <= COORDINATE_LIMIT for point in points for v in point):
        raise ValueError(f"`polygon` is {short_repr(polygon)}; its numbers must be finite, in px of the image")
    return points
