"""Reader of one JSON file of `instances` for each image, with labels, polygons and attributes (MineApple)."""

import contextlib
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS
from .images import ImageError, find_image
from .json_files import read_json
from .records import Record, Shape, Split


FORM = (
    "train/images/ with train/annotations/NAME.json of `instances` with `label`, `segmentation.polygon`, `attributes`"
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".bmp", ".tif", ".tiff")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of such files; `None` for another layout."""
    splits = {}
    for word in ("", *SPLIT_WORDS):
        files = sorted((folder / word / "annotations").glob("*.json"))
        if (folder / word / "images").is_dir() and any(_has_instances(file) for file in files[:3]):
            splits.setdefault(SPLIT_WORDS.get(word, "train"), partial(_read, folder / word, files))
    return splits or None


def _has_instances(file: Path) -> bool:
    try:
        content = read_json(file, "instances")
    except DatasetFormatError:
        return False
    return isinstance(content, dict) and isinstance(content.get("instances"), list)


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split, labels = Split(str(folder), [], {}), set()
    for file in files:
        content = read_json(file, "instances")
        if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
            raise DatasetFormatError("the list `instances` is missing; add it, or move the file away", file=str(file))
        shapes = [_shape(i, instance) for i, instance in enumerate(content["instances"])]
        labels |= {shape.label for shape in shapes if shape.label is not None}
        size = (content.get("width"), content.get("height"))
        split.records.append(Record(file.stem, str(file), _image(folder / "images", file, content), shapes, size))
    split.labels = {label: label for label in sorted(labels)}
    split.has_inferred_labels = True
    return split


def _image(folder: Path, file: Path, content: dict) -> Path | ImageError:
    names = [name for name in (content.get("file_name"), content.get("image_id"), file.stem) if isinstance(name, str)]
    for name in names:
        for suffix in ("", *_SUFFIXES):
            with contextlib.suppress(OSError):  # A name that the file system does not allow is a missing file.
                if (folder / f"{name}{suffix}").is_file():
                    return folder / f"{name}{suffix}"
    try:
        return find_image(f"{names[0]}.jpg", [folder])
    except ImageError as error:
        return error


def _shape(number: int, instance) -> Shape:
    where = f"instances[{number}]"
    if not isinstance(instance, dict):
        return Shape(where, problem=f"expected an object, found {short_repr(instance)}")
    label, segmentation = instance.get("label"), instance.get("segmentation")
    if not isinstance(label, str) or not label.strip():
        return Shape(where, problem=f"`label` is {short_repr(label)}; expected a class name")
    attributes = instance.get("attributes")
    shape = Shape(where, label)
    if isinstance(attributes, dict):
        shape.attributes = {
            str(k): str(v) for k, v in attributes.items() if isinstance(v, str | int | float) and str(v).strip()
        }
    polygon = segmentation.get("polygon") if isinstance(segmentation, dict) else segmentation
    if isinstance(segmentation, dict) and "counts" in segmentation:
        shape.rle = segmentation
    elif isinstance(polygon, list) and polygon:
        shape.polygons = polygon if isinstance(polygon[0], list) else [polygon]
    elif isinstance(instance.get("bbox"), list):
        shape.box = instance["bbox"]
    else:
        shape.problem = f'`segmentation` is {short_repr(segmentation)}; expected {{"polygon": [[x1, y1, …], …]}}'
    return shape
