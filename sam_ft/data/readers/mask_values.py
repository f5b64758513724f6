"""One mask image for each picture, whose numbers are objects (PennFudan) or classes."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scipy import ndimage

from ..example import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in
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
    Reads `{"0": "name", …}` or `["name", …]` from JSON or YAML, or a name a line from text, with or without its number.

    Raises:
        `DatasetFormatError`: naming the file, where it holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix in (".json", ".yaml", ".yml"):
            content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        else:
            content = [line.strip() for line in text.splitlines() if line.strip()]
            numbered = [re.fullmatch(r"(\d+)[\s:,=]+(\S.*)", line) for line in content]
            content = dict(match.groups() for match in numbered) if all(numbered) else content
        if not isinstance(content, dict | list):
            raise ValueError(f"it holds {content!r:.60}")
        listed = list(content.items() if isinstance(content, dict) else enumerate(content))
        wrong = [name for _, name in listed if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"a name is {wrong[0]!r}")
        names = {int(number): name for number, name in listed}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise DatasetFormatError(
            f'expected {{"0": "name", …}} or a list of names ({error})', file=str(file)
        ) from error
    return {number: name for number, name in names.items() if name.strip()}


def read_mask_values(file: Path, kind: str, labels: dict[int, str], *, binary: bool = False) -> list[Shape]:
    """The shapes of a mask image; see [`shapes_of_values`]. `binary`: every number but 0 is 1."""
    try:
        values = read_numbers(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error
    if file.parent.name == "SegmentationObject":  # Pascal VOC: 255 is the void around objects
        values = np.where(values == _IGNORED, _BACKGROUND, values)
    return shapes_of_values(values != 0 if binary else values, kind, labels)


def read_numbers(file) -> np.ndarray:
    """
    The numbers `(height, width)` in a mask image: a palette's numbers and 16 bits stay as they are, alpha is dropped.

    Raises:
        `ValueError`: where it is in colour, which holds no numbers. `OSError`, `SyntaxError`: where it cannot be opened.
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
    Where a mask image of one object is drawn, `(height, width)` bool, in whatever colour; the soft edges of JPEG and of drawing
    tools are cut at half.
    """
    with Image.open(file) as image:
        if image.mode == "P":
            return np.asarray(image) != 0
        values = np.asarray(image.convert("RGB") if image.mode in ("PA", "LA", "La", "RGBA", "CMYK") else image)
    values = values if values.ndim == 2 else values.max(axis=-1)
    return values != 0 if len(np.unique(values)) <= 2 else values > values.max() / 2


def shapes_of_values(values: np.ndarray, kind: str, labels: dict[int, str]) -> list[Shape]:
    """
    Args:
        values (`np.ndarray` of shape `(height, width)`): whole numbers; 0 is background unless it is a class.
        kind (`str`): `instances`, `classes` or `components`, see [`ReadOptions`].
        labels (`dict[int, str]`): number -> class; for `instances` one entry, under 0.
    """
    shapes = []
    for number in np.unique(values).tolist():
        mask = values == number
        if kind == "instances":
            if number != _BACKGROUND:
                shapes.append(Shape(f"object {number}", next(iter(labels)), mask=mask))
        elif number not in labels:
            if number not in (_BACKGROUND, _IGNORED):
                shapes.append(
                    Shape(
                        f"number {number}",
                        problem=f"the mask holds {number}, which no class has (known: {sorted(labels)})",
                    )
                )
        elif kind == "classes":
            shapes.append(Shape(f"class {number}", int(number), mask=mask, exhaustive=False))
        else:
            parts, total = ndimage.label(mask, structure=np.ones((3, 3)))  # corners touch
            shapes += [Shape(f"class {number}, part {i}", int(number), mask=parts == i) for i in range(1, total + 1)]
    return shapes
