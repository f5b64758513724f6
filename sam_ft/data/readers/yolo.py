"""Reader of YOLO segmentation (Ultralytics, Roboflow's "YOLOv8"): data.yaml and a text file for each image."""

import contextlib
import math
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, image_suffixes, images_in
from .records import Record, Shape, Split


FORM = "data.yaml with `names`, images/ and labels/ (YOLO-seg)"


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a YOLO folder; `None` for another layout."""
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        config = _config(file)
        if config is None:
            continue
        keys = [key for key in config if key in SPLIT_WORDS and config[key]]
        # Roboflow lists splits that do not exist; only missing training data is an error.
        keys = [key for key in keys if SPLIT_WORDS[key] == "train" or _exists(file, config, key)]
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
    missing = [k for k in config if k in SPLIT_WORDS and config[k] and not _exists(file, config, k)]
    split.notes += [
        f"`{k}: {short_repr(config[k])}` of {file.name} does not exist; the split is left out" for k in missing
    ]
    images = [image for source in _image_sources(file, config, key, split) for image in _images(source)]
    if not images:
        raise DatasetFormatError(
            f"`{key}` is {short_repr(config[key])}, which contains no image; correct the path", file=str(file)
        )
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
        split.notes.append(f"{unlabelled} images have no label file; as in YOLO, they contain no object")
    return split


def _image_sources(file: Path, config: dict, key: str, split: Split) -> list[Path]:
    """Return the folders of images, or text files that list images, of a split."""
    sources = []
    for value in _as_list(config[key]):
        source = _resolve(file, config, value)
        if source is None:
            raise DatasetFormatError(
                f"`{key}` is {short_repr(value)}, which does not exist; correct the path", file=str(file)
            )
        if source.resolve() != (file.parent / str(config.get("path") or "") / value).resolve():
            split.notes.append(f"`{key}: {value}` does not exist; {source} is read")
        sources.append(source)
    return sources


def _exists(file: Path, config: dict, key: str) -> bool:
    return any(_resolve(file, config, value) is not None for value in _as_list(config[key]))


def _as_list(value) -> list[str]:
    return [str(v) for v in (value if isinstance(value, list) else [value])]


def _resolve(file: Path, config: dict, value: str) -> Path | None:
    """Resolve a path under `path`, beside the file, or, for Roboflow's ../train/images, below the file's folder."""
    inside = file.parent / Path(*[part for part in Path(value).parts if part not in ("..", ".", "/")])
    candidates = (file.parent / str(config.get("path") or "") / value, file.parent / value, inside)
    for candidate in candidates:
        with contextlib.suppress(OSError):  # A name that the file system does not allow is a missing file.
            if candidate.exists():
                return candidate
    return None


def _images(source: Path) -> list[Path]:
    if source.is_dir():
        return images_in(source)
    lines = source.read_text(encoding="utf-8").splitlines()
    paths = [source.parent / line.strip() for line in lines if line.strip()]
    return [path for path in paths if path.suffix.lower() in image_suffixes()]


def _label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder `images` becomes `labels`, as in Ultralytics."""
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
            raise ValueError(f"{words[0]} is not a class number")
    except (ValueError, OverflowError) as error:
        return Shape(where, problem=f"{error}; expected `class x1 y1 x2 y2 …`")
    shape = Shape(where, int(label))
    if not all(math.isfinite(v) and -0.5 <= v <= 1.5 for v in values):
        shape.problem = f"it contains {max(values, key=abs):g}; YOLO coordinates are fractions of the image, 0 to 1"
    elif len(values) == 4:
        cx, cy, w, h = values
        shape.box, shape.relative_box = [cx - w / 2, cy - h / 2, w, h], True
    elif len(values) >= 6 and len(values) % 2 == 0:
        shape.polygons, shape.relative_polygons = [values], True
    else:
        shape.problem = (
            f"it contains a class and {len(values)} values; expected x y of three points at least, or a box `cx cy w "
            "h`"
        )
    return shape
