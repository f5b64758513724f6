"""Reader of YOLO (Ultralytics, Roboflow's "YOLOv8", Label Studio): data.yaml and a text file for each image."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of
from .records import Record, Shape, Split
from .yolo_folders import find_config
from .yolo_paths import YoloPaths, images_of, label_file


FORM = "data.yaml with `names`, or classes.txt, beside images/ and labels/ (YOLO-seg; boxes, and pose as boxes)"


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a YOLO folder; `None` for another layout."""
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    for file in files:
        splits = find_file(file)
        if splits is not None:
            return splits
    if not all(map(_is_yaml, files)):  # One of them may contain the class names.
        return None
    found = find_config(folder)
    return None if found is None else _find_splits(found.file, folder, found.values, found.notes)


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a data.yaml; `None` for another file."""
    if file.suffix not in (".yaml", ".yml") or not _is_yaml(file):
        return None
    config = read_yaml_mapping(str(file), "dataset_name")
    return _find_splits(file, file.parent, config) if isinstance(config.get("names"), list | dict) else None


def _is_yaml(file: Path) -> bool:
    try:
        read_yaml_mapping(str(file), "dataset_name")
    except ValueError:
        return False
    return True


def _find_splits(file: Path, root: Path, config: dict, notes: Sequence[str] = ()) -> dict[str, partial] | None:
    missing = _missing_keys(root, config)
    # Roboflow lists splits that do not exist; only missing training data is an error.
    keys = [key for key in _split_keys(config) if SPLIT_WORDS[key] == "train" or key not in missing]
    splits = {SPLIT_WORDS[key]: partial(_read, file, root, config, key, notes) for key in keys}
    return splits if "train" in splits or "validation" in splits else None


def _split_keys(config: dict) -> list[str]:
    """Return the keys of splits with a value, those of training data first: their paths are found first."""
    keys = [key for key in config if key in SPLIT_WORDS and config[key]]
    return sorted(keys, key=lambda key: SPLIT_WORDS[key] != "train")


def _missing_keys(root: Path, config: dict) -> list[str]:
    paths = _paths(root, config, [])
    found = {key: [paths.find(value) for value in _as_list(config[key])] for key in _split_keys(config)}
    return [key for key, sources in found.items() if not any(sources)]


def _paths(root: Path, config: dict, notes: list[str]) -> YoloPaths:
    return YoloPaths(root, root / str(config.get("path") or ""), notes, "a path of the configuration")


def _as_list(value) -> list[str]:
    return [str(v) for v in (value if isinstance(value, list) else [value])]


def _read(file: Path, root: Path, config: dict, key: str, notes: Sequence[str], _options: ReadOptions) -> Split:
    names = config["names"]
    labels = dict(enumerate(names)) if isinstance(names, list) else names
    if not all(isinstance(k, int) and isinstance(v, str) and v.strip() for k, v in labels.items()):
        raise DatasetFormatError(
            f"`names` is {short_repr(names)}; expected a list of class names, or number: name", file=str(file)
        )
    split = Split(f"{file} ({key})", [], labels, notes=list(notes))
    split.notes += [
        f"`{k}: {short_repr(config[k])}` of {file.name} does not exist; the split is left out"
        for k in _missing_keys(root, config)
    ]
    num_values = _count_pose_values(file, config, split)
    images = _list_images(file, root, config, key, split)
    unlabelled = 0
    for image in images:
        text = label_file(image, root)
        unlabelled += not text.is_file()
        name = example_id_of(image, root) if image.is_relative_to(root) else image.with_suffix("").as_posix()
        shapes = partial(_shapes, text, num_values)
        split.records.append(Record(name, str(text if text.is_file() else image), image, shapes))
    if unlabelled == len(images):
        raise DatasetFormatError(
            f"`{key}`: none of {len(images)} images has a label file, such as {label_file(images[0], root)}",
            file=str(file),
        )
    if unlabelled:
        split.notes.append(f"{unlabelled} images have no label file; as in YOLO, they contain no object")
    _note_unused_labels(images, root, split)
    return split


def _list_images(file: Path, root: Path, config: dict, key: str, split: Split) -> list[Path]:
    """Return the images of all folders and lists of a split, each image once."""
    paths, sources = _paths(root, config, split.notes), []
    for key_of_split in _split_keys(config):  # The paths of training data are found first, as in `_missing_keys`.
        found = {value: paths.find(value) for value in _as_list(config[key_of_split])}
        if key_of_split != key:
            continue
        for value, source in found.items():
            if source is None:
                raise DatasetFormatError(
                    f"`{key}` is {short_repr(value)}, which does not exist; correct the path", file=str(file)
                )
            if source.resolve() != (root / str(config.get("path") or "") / value).resolve():
                split.notes.append(f"`{key}: {value}` does not exist; {source} is read")
            sources.append(source)
    images = [image for source in sources for image in images_of(source, root, split.notes)]
    if not images:
        raise DatasetFormatError(
            f"`{key}` is {short_repr(config[key])}, which contains no image; correct the path, or export the images "
            "too",
            file=str(file),
        )
    unique = list(dict.fromkeys(images))
    if len(unique) < len(images):
        number = len(images) - len(unique)
        split.notes.append(f"{number} images are listed more than once in `{key}`; each is read once")
    return unique


def _note_unused_labels(images: list[Path], root: Path, split: Split) -> None:
    folders = {label_file(image, root).parent: image.parent for image in images}
    unused = []
    for label_folder, image_folder in folders.items():
        if label_folder != image_folder:
            stems = {"classes", *(file.stem for file in image_folder.glob("*"))}
            unused += sorted(text for text in label_folder.glob("*.txt") if text.stem not in stems)
    if unused:
        split.notes.append(f"{len(unused)} label files belong to no image, such as {unused[0]}")


def _count_pose_values(file: Path, config: dict, split: Split) -> int | None:
    """Return the number of values of an object of a pose data set after its class; `None` for another data set."""
    shape = config.get("kpt_shape")
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(v, int) and v > 0 for v in shape)):
        raise DatasetFormatError(
            f"`kpt_shape` is {short_repr(shape)}; expected [number of keypoints, 2 or 3 values each]", file=str(file)
        )
    split.notes.append(f"labels of pose (`kpt_shape: {shape}`): boxes are read, keypoints are not")
    return 4 + shape[0] * shape[1]


def _shapes(file: Path, num_pose_values: int | None = None) -> list[Shape]:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    return [
        _shape(f"line {number}", line.split(), num_pose_values) for number, line in enumerate(lines, 1) if line.strip()
    ]


def _shape(where: str, words: list[str], num_pose_values: int | None) -> Shape:
    try:
        label, *values = (float(word) for word in words)
        if label != int(label):
            raise ValueError(f"{words[0]} is not a class number")
    except (ValueError, OverflowError) as error:
        return Shape(where, problem=f"{error}; expected `class x1 y1 x2 y2 …`")
    shape = Shape(where, int(label))
    if num_pose_values is not None:
        if len(values) not in (4, num_pose_values):
            shape.problem = (
                f"it contains a class and {len(values)} values; expected {num_pose_values} by `kpt_shape`: a box `cx "
                "cy w h` and its keypoints"
            )
            return shape
        values = values[:4]
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
