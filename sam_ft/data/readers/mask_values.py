"""One mask image for each picture, whose numbers are objects (PennFudan) or classes."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scipy import ndimage

from ...utils.text import short_repr
from ...utils.yaml_files import parse_yaml
from ..row_schema import MAX_INSTANCES, DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in
from .images import IMAGE_ERRORS
from .json_files import parse_json
from .records import ReadOptions, Record, Shape, Split


FORM = "images/NAME.* with masks/NAME.png (PNGImages and PedMasks, too): needs `mask_values`"
_IMAGES = ("images", "PNGImages", "JPEGImages", "imgs", "img", "image")
_MASKS = ("masks", "PedMasks", "SegmentationObject", "SegmentationClass", "labels", "annotations", "mask", "label")
_ENDINGS = ("", "_mask", "_masks", "_instance", "_label", "_seg", "_gt")
_NAMES = ("id2label.json", "classes.json", "classes.txt", "labels.txt")
_BACKGROUND, _IGNORED = 0, 255


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a tree of mask images: name -> call that reads it."""
    splits = {}
    for word in (*SPLIT_WORDS, ""):
        if not word and splits:
            break
        for names in ((word, "{}"), ("{}", word)):  # train/images or images/train
            images, masks = (_first(folder, kinds, names) for kinds in (_IMAGES, _MASKS))
            if images and masks:
                pairs = _pairs(images, masks)
                if pairs:
                    split = SPLIT_WORDS.get(word, "train")
                    splits.setdefault(
                        split, partial(_read, folder, images, pairs, len(images_in(images)) - len(pairs))
                    )
    return splits or None


def _first(folder: Path, kinds: tuple[str, ...], names: tuple[str, str]) -> Path | None:
    places = (folder / names[0].format(kind) / names[1].format(kind) for kind in kinds)
    return next((place for place in places if place.is_dir()), None)


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    by_stem = {example_id_of(mask, masks): mask for mask in images_in(masks)}
    pairs = []
    for image in images_in(images):
        name = example_id_of(image, images)
        mask = next((by_stem[name + ending] for ending in _ENDINGS if name + ending in by_stem), None)
        if mask is not None:
            pairs.append((image, mask))
    return pairs


def _read(folder: Path, images: Path, pairs: list[tuple[Path, Path]], without: int, options: ReadOptions) -> Split:
    if options.mask_values is None:
        raise DatasetFormatError(
            "each image has one mask image. Say what its numbers are, `mask_values: instances` (one object each), `classes` (all "
            "of a class at once) or `components` (classes, whose connected parts are objects)",
            file=str(folder),
        )
    if options.mask_values == "instances":
        if not options.class_name:
            raise DatasetFormatError(
                "mask images name no class; say what they show: `class_name: person`", file=str(folder)
            )
        labels, binary = {0: options.class_name}, False
    else:
        labels, binary = _class_names(folder, options)
    split = Split(str(folder), [], labels)
    for image, mask in pairs:
        shapes = partial(read_mask_values, mask, options.mask_values, labels, binary=binary)
        split.records.append(Record(example_id_of(image, images), str(image), image, shapes))
    if _BACKGROUND in labels and options.mask_values != "instances":
        split.notes.append(
            f"number 0 is the class {labels[_BACKGROUND]!r}; leave it out of the names where it is background"
        )
    if without:
        split.notes.append(f"{without} images have no mask image and are left out")
    if options.mask_values == "classes":
        split.notes.append("all of a class in an image is one mask: present phrases are not exhaustive")
    return split


def _class_names(folder: Path, options: ReadOptions) -> tuple[dict[int, str], bool]:
    """Number -> class, from a file beside the images; without one everything but 0 is `class_name`, and true is returned too."""
    file = Path(options.class_names) if options.class_names else None
    file = file or next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if file is None and options.class_name:
        return {1: options.class_name}, True
    if file is None:
        raise DatasetFormatError(
            f'the classes have no names: put {_NAMES[0]} with {{"1": "road", …}} there, or give `class_name` where there is one',
            file=str(folder),
        )
    return class_names_of(file), False


def class_names_of(file: Path) -> dict[int, str]:
    """
    Read `{"0": "name", …}` or `["name", …]` from JSON or YAML, or a name a line from text, with or without its number.

    Args:
        file (`Path`): Its suffix says which.

    Raises:
        `DatasetFormatError`: Names the file, where it holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix in (".json", ".yaml", ".yml"):
            content = parse_json(text) if file.suffix == ".json" else parse_yaml(text)
        else:
            content = [line.strip() for line in text.splitlines() if line.strip()]
            numbered = [re.fullmatch(r"(\d+)[\s:,=]+(\S.*)", line) for line in content]
            content = dict(match.groups() for match in numbered) if all(numbered) else content
        if not isinstance(content, dict | list):
            raise ValueError(f"it holds {short_repr(content)}")
        listed = list(content.items() if isinstance(content, dict) else enumerate(content))
        wrong = [name for _, name in listed if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"a name is {short_repr(wrong[0])}")
        names = {int(number): name for number, name in listed}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DatasetFormatError(
            f'expected {{"0": "name", …}} or a list of names ({error})', file=str(file)
        ) from error
    return {number: name for number, name in names.items() if name.strip()}


def read_mask_values(file: Path, kind: str, labels: dict[int, str], *, binary: bool = False) -> list[Shape]:
    """
    Read the shapes of a mask image; see [`shapes_of_values`].

    Args:
        file (`Path`): The mask image.
        kind (`str`): `instances`, `classes` or `components`.
        labels (`dict[int, str]`): Number -> class.
        binary (`bool`): Every number but 0 is 1.
    """
    try:
        values = read_numbers(file)
    except IMAGE_ERRORS as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error
    if file.parent.name == "SegmentationObject":  # Pascal VOC: 255 is the void around objects
        values = np.where(values == _IGNORED, _BACKGROUND, values)
    return shapes_of_values(values != 0 if binary else values, kind, labels)


def read_numbers(file) -> np.ndarray:
    """
    Read the numbers in a mask image: a palette's numbers and 16 bits stay as they are, alpha is dropped.

    Args:
        file: A path or an open file.

    Returns:
        `np.ndarray` of shape `(height, width)`.

    Raises:
        `ValueError`: Where it is in colour, which holds no numbers. Others of `IMAGE_ERRORS`: where it cannot be
            opened.
    """
    with Image.open(file) as image:
        if image.format == "JPEG":
            raise ValueError("it is a JPEG, which has changed its numbers; save PNG")
        values = np.asarray(image)
        if image.mode in ("LA", "La", "PA"):
            values = values[..., 0]
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]  # grey saved as colour
    if values.ndim != 2:
        raise ValueError("it is in colour; save the numbers of objects or classes, one channel")
    return values


def read_one_mask(file) -> np.ndarray:
    """
    Read where a mask image of one object is drawn, in whatever colour; the soft edges of JPEG and of drawing tools are
    cut at half.

    Args:
        file: A path or an open file.

    Returns:
        `np.ndarray` of shape `(height, width)`: bool.
    """
    with Image.open(file) as image:
        if image.mode == "P":
            return np.asarray(image) != 0
        values = np.asarray(image.convert("RGB") if image.mode in ("PA", "LA", "La", "RGBA", "CMYK") else image)
    values = values if values.ndim == 2 else values.max(axis=-1)
    return values != 0 if len(np.unique(values)) <= 2 else values > values.max() / 2


def read_mask_file(file: Path) -> np.ndarray:
    """As [`read_one_mask`]; raises `ValueError` with the file's name where it cannot be read."""
    try:
        return read_one_mask(file)
    except IMAGE_ERRORS as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error


def shapes_of_values(values: np.ndarray, kind: str, labels: dict[int, str]) -> list[Shape]:
    """
    Make the shapes of a mask image. Each keeps its window in the image alone; its mask is made when it is encoded.

    Args:
        values (`np.ndarray` of shape `(height, width)`): whole numbers; 0 is background unless it is a class.
        kind (`str`): `instances`, `classes` or `components`, see [`ReadOptions`].
        labels (`dict[int, str]`): number -> class; for `instances` one entry, under 0.

    Raises:
        `ValueError`: Where the image holds more than `MAX_INSTANCES` objects, or a number that is not finite.
    """
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise ValueError("the mask holds NaN or infinity; save whole numbers")
    numbers, places = np.unique(values, return_inverse=True)
    if len(numbers) > MAX_INSTANCES:
        raise ValueError(
            f"the mask holds {len(numbers)} different numbers; at most {MAX_INSTANCES} objects an image are read. "
            "Check whether it is noise or a depth map"
        )
    places = places.reshape(values.shape).astype(np.int32)
    windows = ndimage.find_objects(places + 1)
    parts = np.zeros(values.shape if kind == "components" else 0, dtype=np.int32)  # of all classes, from 1
    shapes, total = [], 0
    for place, number in enumerate(numbers.tolist()):
        if kind == "instances":
            if number != _BACKGROUND:
                shape = Shape(f"object {number}", next(iter(labels)))
                shapes.append(_with_window(shape, places, place, windows[place]))
        elif number not in labels:
            if number not in (_BACKGROUND, _IGNORED):
                problem = f"the mask holds {number}, which no class has (known: {sorted(labels)})"
                shapes.append(Shape(f"number {number}", problem=problem))
        elif kind == "classes":
            shape = Shape(f"class {number}", int(number), exhaustive=False)
            shapes.append(_with_window(shape, places, place, windows[place]))
        else:
            found = _label_parts(places == place, parts, total)
            for i, window in enumerate(found, 1):
                shapes.append(_with_window(Shape(f"class {number}, part {i}", int(number)), parts, total + i, window))
            total += len(found)
    return shapes


def _label_parts(mask: np.ndarray, parts: np.ndarray, total: int) -> list[tuple[slice, slice]]:
    """
    Number the connected parts of a mask in an array that all classes share.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool.
        parts (`np.ndarray` of shape `(height, width)`): int32; the parts of this mask are written to it, from
            `total + 1` on.
        total (`int`): How many parts it holds already.

    Returns:
        `list[tuple[slice, slice]]`: The window of each part.
    """
    labelled, number = ndimage.label(mask, structure=np.ones((3, 3)))  # corners touch
    if total + number > MAX_INSTANCES:
        raise ValueError(
            f"the mask has {total + number} connected parts or more; at most {MAX_INSTANCES} objects an image are "
            "read. Remove specks, or set `mask_values: classes`"
        )
    parts[mask] = labelled[mask] + total
    return ndimage.find_objects(labelled)


def _with_window(shape: Shape, places: np.ndarray, number: int, window: tuple[slice, slice]) -> Shape:
    """The shape of all pixels of `places` that are `number`, which `window` contains."""
    rows, columns = window
    shape.mask = partial(np.equal, places[window], number)
    shape.corner, shape.mask_size = (columns.start, rows.start), (places.shape[1], places.shape[0])
    return shape
