"""Reader of one mask image for each picture, whose pixel values are objects (PennFudan) or classes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image
from scipy import ndimage

from ...options.data import ReadOptions
from ..row_schema import MAX_INSTANCES, DatasetFormatError
from .class_names import find_class_names, find_instance_name, find_roles
from .files import SPLIT_WORDS, example_id_of, images_in
from .images import IMAGE_ERRORS
from .records import Record, Shape, Split


FORM = "images/NAME.* with masks/NAME.png (PNGImages and PedMasks, too): needs `mask_values`"
KEYS = ("class_name", "class_names", "mask_values")
_IMAGE_FOLDERS = ("images", "PNGImages", "JPEGImages", "imgs", "img", "image")
_MASK_FOLDERS = (
    "masks",
    "PedMasks",
    "SegmentationObject",
    "SegmentationClass",
    "labels",
    "annotations",
    "mask",
    "label",
)
_MASK_SUFFIXES = ("", "_mask", "_masks", "_instance", "_label", "_seg", "_gt")
_BACKGROUND, _IGNORED = 0, 255
_NO_ROLES = MappingProxyType({})


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of mask images; `None` for another layout."""
    splits = {}
    for word in (*SPLIT_WORDS, ""):
        if not word and splits:
            break
        for names in ((word, "{}"), ("{}", word)):  # train/images or images/train
            image_folder, mask_folder = (
                _first_folder(folder, kinds, names) for kinds in (_IMAGE_FOLDERS, _MASK_FOLDERS)
            )
            if image_folder and mask_folder:
                pairs = _find_pairs(image_folder, mask_folder)
                if pairs:
                    split = SPLIT_WORDS.get(word, "train")
                    num_unpaired = len(images_in(image_folder)) - len(pairs)
                    splits.setdefault(split, partial(_read, folder, image_folder, pairs, num_unpaired))
    return splits or None


def _first_folder(folder: Path, kinds: tuple[str, ...], names: tuple[str, str]) -> Path | None:
    candidates = (folder / names[0].format(kind) / names[1].format(kind) for kind in kinds)
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def _find_pairs(image_folder: Path, mask_folder: Path) -> list[tuple[Path, Path]]:
    by_stem = {example_id_of(mask, mask_folder): mask for mask in images_in(mask_folder)}
    pairs = []
    for image in images_in(image_folder):
        name = example_id_of(image, image_folder)
        mask = next((by_stem[name + suffix] for suffix in _MASK_SUFFIXES if name + suffix in by_stem), None)
        if mask is not None:
            pairs.append((image, mask))
    return pairs


def _read(
    folder: Path, image_folder: Path, pairs: list[tuple[Path, Path]], num_unpaired: int, options: ReadOptions
) -> Split:
    if options.mask_values is None:
        raise DatasetFormatError(
            "`mask_values` is not set, and each image has one mask image. Set the meaning of its pixel values: "
            "`mask_values: instances` (one object each), `classes` (one mask for each class) or `components` (classes "
            "whose connected parts are objects)",
            file=str(folder),
        )
    if options.mask_values != "instances" and any(mask.parent.name == "SegmentationObject" for _, mask in pairs):
        raise DatasetFormatError(
            f"`mask_values` is {options.mask_values!r}, but the values in SegmentationObject are objects. Put the "
            "images of classes into SegmentationClass beside it, or set `mask_values: instances`",
            file=str(folder),
        )
    if options.mask_values == "instances":
        labels, is_binary = {0: find_instance_name(folder, options)}, False
    else:
        labels, is_binary = find_class_names(folder, options)
    split = Split(str(folder), [], labels)
    roles = find_roles(labels, options)
    for image, mask in pairs:
        shapes = partial(read_mask_values, mask, options.mask_values, labels, roles, binary=is_binary)
        split.records.append(Record(example_id_of(image, image_folder), str(image), image, shapes))
    if _BACKGROUND in labels and _BACKGROUND not in roles and options.mask_values != "instances":
        split.notes.append(
            f"the value 0 is the class {labels[_BACKGROUND]!r}; remove it from the class names if it is background"
        )
    if num_unpaired:
        split.notes.append(f"{num_unpaired} images have no mask image and are left out")
    if options.mask_values == "classes":
        split.notes.append("all of a class in an image is one mask: present phrases are not exhaustive")
    return split


def read_mask_values(
    file: Path, kind: str, labels: dict[int, str], roles: Mapping[int, str] = _NO_ROLES, *, binary: bool = False
) -> list[Shape]:
    """
    Read the shapes of a mask image; see [`shapes_of_values`].

    Args:
        file (`Path`): The mask image.
        kind (`str`): `instances`, `classes` or `components`.
        labels (`dict[int, str]`): Class name of each pixel value.
        roles (`Mapping[int, str]`): Result of [`find_roles`]; none by default.
        binary (`bool`): Treat every value except 0 as 1, `False` by default.

    Returns:
        `list[Shape]`: One shape for each object.

    Raises:
        `ValueError`: If the image cannot be read, or [`shapes_of_values`] refuses its values.
    """
    try:
        values = read_numbers(file)
    except IMAGE_ERRORS as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error
    if file.parent.name == "SegmentationObject":  # In Pascal VOC, 255 is the void border of objects.
        values = np.where(values == _IGNORED, _BACKGROUND, values)
    return shapes_of_values(values != 0 if binary else values, kind, labels, roles)


def read_numbers(file) -> np.ndarray:
    """
    Read the pixel values of a mask image; palette indices and 16-bit values are unchanged, alpha is dropped.

    Args:
        file: A path or an open file.

    Returns:
        `np.ndarray` of shape `(height, width)`: The pixel values.

    Raises:
        `ValueError`: If the image is in color or a JPEG.
        `IMAGE_ERRORS`: If it cannot be opened.
    """
    with Image.open(file) as image:
        if image.format == "JPEG":
            raise ValueError("it is a JPEG, whose compression changes pixel values; save the mask as PNG")
        values = np.asarray(image)
        if image.mode in ("LA", "La", "PA"):
            values = values[..., 0]
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]  # Three equal channels are a grayscale image.
    if values.ndim != 2:
        raise ValueError("it is in colour; save the numbers of objects or classes, one channel")
    return values


def read_binary_mask(file) -> np.ndarray:
    """
    Read the mask image of one object, drawn in any color; soft edges are thresholded at half of the maximum.

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
    """
    Read the mask image of one object from a file; see [`read_binary_mask`].

    Args:
        file (`Path`): The mask image.

    Returns:
        `np.ndarray` of shape `(height, width)`: bool.

    Raises:
        `ValueError`: If the image cannot be read; contains its path.
    """
    try:
        return read_binary_mask(file)
    except IMAGE_ERRORS as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error


def shapes_of_values(
    values: np.ndarray, kind: str, labels: dict[int, str], roles: Mapping[int, str] = _NO_ROLES
) -> list[Shape]:
    """
    Build the shapes of a mask image.

    Each shape refers to its window of the image; its mask is computed when it is encoded.

    Args:
        values (`np.ndarray` of shape `(height, width)`): Integers; 0 is background unless it is a class.
        kind (`str`): `instances`, `classes` or `components`; see [`ReadOptions`].
        labels (`dict[int, str]`): Class name of each value; for `instances`, one entry with the key 0.
        roles (`Mapping[int, str]`): Result of [`find_roles`]: background has no shape, and each class to ignore has
            one. None by default.

    Returns:
        `list[Shape]`: One shape for each object.

    Raises:
        `ValueError`: If the image contains more than `MAX_INSTANCES` objects, or a value that is not finite.
    """
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise ValueError("the mask contains NaN or infinity; save integers")
    numbers, indices = np.unique(values, return_inverse=True)
    if len(numbers) > MAX_INSTANCES:
        raise ValueError(
            f"the mask contains {len(numbers)} different numbers; at most {MAX_INSTANCES} objects an image are read. "
            "Check whether it is noise or a depth map"
        )
    indices = indices.reshape(values.shape).astype(np.int32)
    windows = ndimage.find_objects(indices + 1)
    parts = np.zeros(values.shape if kind == "components" else 0, dtype=np.int32)  # of all classes, from 1
    shapes, num_parts = [], 0
    for index, number in enumerate(numbers.tolist()):
        if kind == "instances":
            if number != _BACKGROUND:
                shape = Shape(f"object {number}", next(iter(labels)))
                shapes.append(_with_window(shape, indices, index, windows[index]))
        elif roles.get(number) == "background":
            continue
        elif number not in labels:
            if number not in (_BACKGROUND, _IGNORED):
                problem = f"the mask contains {number}, which is the value of no class (classes: {sorted(labels)})"
                shapes.append(Shape(f"number {number}", problem=problem))
        elif kind == "classes" or number in roles:
            shape = Shape(f"class {number}", int(number), exhaustive=number in roles)
            shapes.append(_with_window(shape, indices, index, windows[index]))
        else:
            part_windows = _label_parts(indices == index, parts, num_parts)
            for i, window in enumerate(part_windows, 1):
                shape = Shape(f"class {number}, part {i}", int(number))
                shapes.append(_with_window(shape, parts, num_parts + i, window))
            num_parts += len(part_windows)
    return shapes


def _label_parts(mask: np.ndarray, parts: np.ndarray, num_parts: int) -> list[tuple[slice, slice]]:
    """
    Number the connected parts of a mask in an array that all classes share.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool.
        parts (`np.ndarray` of shape `(height, width)`): int32; the parts of the mask are written to it with numbers
            from `num_parts + 1`.
        num_parts (`int`): Number of parts in the array before the call.

    Returns:
        `list[tuple[slice, slice]]`: The window of each part.
    """
    labelled, number = ndimage.label(mask, structure=np.ones((3, 3)))  # 8-connectivity: pixels may touch at corners.
    if num_parts + number > MAX_INSTANCES:
        raise ValueError(
            f"the mask has {num_parts + number} connected parts or more; at most {MAX_INSTANCES} objects an image are "
            "read. Remove specks, or set `mask_values: classes`"
        )
    parts[mask] = labelled[mask] + num_parts
    return ndimage.find_objects(labelled)


def _with_window(shape: Shape, values: np.ndarray, number: int, window: tuple[slice, slice]) -> Shape:
    """Set the mask of a shape to the pixels of `values` that equal `number`, all inside `window`."""
    rows, columns = window
    shape.mask = partial(np.equal, values[window], number)
    shape.corner, shape.mask_size = (columns.start, rows.start), (values.shape[1], values.shape[0])
    return shape
