"""YOLO segmentation (Ultralytics, Roboflow's "YOLOv8"): a data.yaml, and one text file of polygons an image."""

import contextlib
import math
from functools import partial
from pathlib import Path

from ...utils.text import short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, image_suffixes, images_in
from .records import ReadOptions, Record, Shape, Split


FORM = "data.yaml with `names`, images/ and labels/ (YOLO-seg)"


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a YOLO tree: name -> call that reads it."""
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        config = _config(file)
        if config is None:
            continue
        keys = [key for key in config if key in SPLIT_WORDS and config[key]]
        # Roboflow lists splits whether there are any or not; training data that is not there is an error
        keys = [key for key in keys if SPLIT_WORDS[key] == "train" or _is_there(file, config, key)]
        splits = {SPLIT_WORDS[key]: partial(_read, file, config, key) for key in keys}
        if "train" in splits or "validation" in splits:
            return splits
    return None


def _config(file: Path) -> dict | None:
    try:
        config = read_yaml_mapping(str(file), "dataset_name")
    except ValueError:
        return None
    return config if isinstance(config.get("names"), list | dict) else None


def _read(file: Path, config: dict, key: str, options: ReadOptions) -> Split:
    names = config["names"]
    labels = dict(enumerate(names)) if isinstance(names, list) else names
    if not all(isinstance(k, int) and isinstance(v, str) and v.strip() for k, v in labels.items()):
        raise DatasetFormatError(
            f"`names` is {short_repr(names)}; expected a list of class names, or number: name", file=str(file)
        )
    split = Split(f"{file} ({key})", [], labels)
    gone = [k for k in config if k in SPLIT_WORDS and config[k] and not _is_there(file, config, k)]
    split.notes += [
        f"`{k}: {short_repr(config[k])}` of {file.name} is not there; there is no such split" for k in gone
    ]
    images = [image for place in _places(file, config, key, split) for image in _images(place)]
    if not images:
        raise DatasetFormatError(f"`{key}` is {short_repr(config[key])}, where there is no image", file=str(file))
    unlabelled = 0
    for image in images:
        text = _label_file(image)
        unlabelled += not text.is_file()
        name = (
            example_id_of(image, file.parent)
            if image.is_relative_to(file.parent)
            else image.with_suffix("").as_posix()
        )
        split.records.append(Record(name, str(text if text.is_file() else image), image, partial(_shapes, text)))
    if unlabelled == len(images):
        raise DatasetFormatError(
            f"`{key}`: none of {len(images)} images has a label file, such as {_label_file(images[0])}", file=str(file)
        )
    if unlabelled:
        split.notes.append(f"{unlabelled} images have no label file; as in YOLO, nothing is in them")
    return split


def _places(file: Path, config: dict, key: str, split: Split) -> list[Path]:
    """Folders of images, or text files that list them."""
    places = []
    for value in _listed(config[key]):
        place = _place(file, config, value)
        if place is None:
            raise DatasetFormatError(
                f"`{key}` is {short_repr(value)}, which is not there; correct the path", file=str(file)
            )
        if place.resolve() != (file.parent / str(config.get("path") or "") / value).resolve():
            split.notes.append(f"`{key}: {value}` is not there; {place} is read")
        places.append(place)
    return places


def _is_there(file: Path, config: dict, key: str) -> bool:
    return any(_place(file, config, value) is not None for value in _listed(config[key]))


def _listed(value) -> list[str]:
    return [str(v) for v in (value if isinstance(value, list) else [value])]


def _place(file: Path, config: dict, value: str) -> Path | None:
    """Where a listed path is: under `path`, beside the file, or, as Roboflow's ../train/images, below the file's folder."""
    inside = file.parent / Path(*[part for part in Path(value).parts if part not in ("..", ".", "/")])
    candidates = (file.parent / str(config.get("path") or "") / value, file.parent / value, inside)
    for place in candidates:
        with contextlib.suppress(OSError):  # a name that no file system takes
            if place.exists():
                return place
    return None


def _images(place: Path) -> list[Path]:
    if place.is_dir():
        return images_in(place)
    lines = place.read_text(encoding="utf-8").splitlines()
    paths = [place.parent / line.strip() for line in lines if line.strip()]
    return [path for path in paths if path.suffix.lower() in image_suffixes()]


def _label_file(image: Path) -> Path:
    """The last folder named `images` becomes `labels`, as Ultralytics does; beside the image where there is none."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _shapes(file: Path) -> list[Shape]:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    return [_shape(f"line {number}", line.split()) for number, line in enumerate(lines, 1) if line.strip()]


def _shape(where: str, words: list[str]) -> Shape:
    try:
        label, *values = (float(word) for word in words)
        if label != int(label):
            raise ValueError(f"{words[0]} is no class number")
    except (ValueError, OverflowError) as error:
        return Shape(where, problem=f"{error}; expected `class x1 y1 x2 y2 …`")
    shape = Shape(where, int(label))
    if not all(math.isfinite(v) and -0.5 <= v <= 1.5 for v in values):
        shape.problem = f"it holds {max(values, key=abs):g}; YOLO coordinates are fractions of the image, 0 to 1"
    elif len(values) == 4:
        cx, cy, w, h = values
        shape.box, shape.relative_box = [cx - w / 2, cy - h / 2, w, h], True
    elif len(values) >= 6 and len(values) % 2 == 0:
        shape.polygons, shape.relative_polygons = [values], True
    else:
        shape.problem = (
            f"it holds a class and {len(values)} values; expected x y of three points at least, or a box `cx cy w h`"
        )
    return shape
