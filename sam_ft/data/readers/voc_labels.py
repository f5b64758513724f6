"""Class names, colors and mask images of Pascal VOC and of exports in its layout (CVAT, Datumaro, LabelMe)."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..phrases.vocabulary import is_background_name, is_ignored_name
from ..row_schema import DatasetFormatError
from .class_names import CLASS_NAME_FILES, read_class_names
from .images import IMAGE_ERRORS


LABEL_MAP = "labelmap.txt"
VOID = -1  # number of the pixels that VOC leaves out of training and evaluation, 255 in the files
_VOID_VALUE = 255
_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_MAX_TABLE = 2**16
_MAX_COLORS = 20  # colors of a mask image in a message


def _palette_code(number: int) -> int:
    """Return the color of a number in VOC's palette as `R * 65536 + G * 256 + B`."""
    red = green = blue = 0
    for bit in range(8):
        red |= (number >> (3 * bit) & 1) << (7 - bit)
        green |= (number >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (number >> (3 * bit + 2) & 1) << (7 - bit)
    return red << 16 | green << 8 | blue


_PALETTE = {_palette_code(number): number for number in range(256)}


def _color_text(code: int) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


@dataclass
class VocLabels:
    """
    Classes of the mask images of one data set.

    Attributes:
        names (`dict[int, str]`): Class name of each number, without background and void.
        by_value (`dict[int, int]`): Number of each pixel value, 0 for background and `VOID` for void.
        by_color (`dict[int, int]`): Number of each color, coded as in [`_palette_code`].
        file (`Path`, *optional*): The file of the names; `None` for those of VOC or `class_name`.
        has_colors (`bool`): Whether the file sets the colors, so that those of palettes are used.
        needs_palette (`bool`): Whether only images with VOC's palette have these classes.
    """

    names: dict[int, str]
    by_value: dict[int, int]
    by_color: dict[int, int] = field(default_factory=dict)
    file: Path | None = None
    has_colors: bool = False
    needs_palette: bool = False

    def read(self, file: Path) -> np.ndarray:
        """
        Read the class image of a picture.

        Args:
            file (`Path`): Image with a palette, in color or gray.

        Returns:
            `np.ndarray` of shape `(height, width)`: Class numbers, 0 for background and `VOID` for void.

        Raises:
            `ValueError`: If the image cannot be read, or contains a value or color of no class.
        """
        image = _open_mask(file)
        if image.mode == "P" and self.has_colors:
            image = image.convert("RGB")
        values, inverse = _unique_values(image)
        if image.mode == "RGB":
            numbers = self._look_up(file, values, self.by_color, _color_text)
        elif self.has_colors:
            numbers = self._numbers_of_gray(file, values)
        else:
            self._check_palette(file, image, values)
            numbers = self._look_up(file, values, self.by_value, str)
        return np.asarray(numbers, dtype=np.int32)[inverse]

    def _look_up(self, file: Path, values: list[int], numbers: dict[int, int], to_text) -> list[int]:
        unknown = [to_text(value) for value in values if value not in numbers]
        if unknown:
            kind = "value" if to_text is str else "color"
            source = self.file or "VOC's own classes; set `class_names` for others"
            raise ValueError(
                f"the mask {file} contains the {kind} {', '.join(unknown[:_MAX_COLORS])}, which is of no class "
                f"(classes: {source})"
            )
        return [numbers[value] for value in values]

    def _numbers_of_gray(self, file: Path, values: list[int]) -> list[int]:
        """Return the numbers of gray values: colors of the label map, or positions in it."""
        readings = [
            [numbers.get(value * factor, VOID if value == _VOID_VALUE else None) for value in values]
            for numbers, factor in ((self.by_color, 0x010101), (self.by_value, 1))
        ]
        complete = [numbers for numbers in readings if None not in numbers]
        if not complete or complete[0] != complete[-1]:
            problem = "can be positions in the label map or gray colors" if complete else "are of no class"
            raise ValueError(
                f"the mask {file} is gray, and its values {values[:_MAX_COLORS]} {problem}. Export it in the colors "
                f"of {self.file}"
            )
        return complete[0]

    def _check_palette(self, file: Path, image: Image.Image, values: list[int]) -> None:
        if not self.needs_palette:
            return
        palette = np.reshape(image.getpalette("RGB") if image.mode == "P" else [], (-1, 3)).tolist()
        if any(v >= len(palette) or int.from_bytes(bytes(palette[v]), "big") != _palette_code(v) for v in values):
            raise ValueError(
                f"the mask {file} does not have the palette of Pascal VOC, and no file names its classes. Add "
                f'{LABEL_MAP} or set `class_names`: {{"0": "background", "1": "road", …}}'
            )


def read_object_numbers(file: Path) -> np.ndarray:
    """
    Read the object image of a picture.

    Args:
        file (`Path`): Image with a palette, in color or gray; each object has a value or color of its own.

    Returns:
        `np.ndarray` of shape `(height, width)`: Object numbers, 0 for no object and `VOID` for void.

    Raises:
        `ValueError`: If the image cannot be read.
    """
    image = _open_mask(file)
    values, inverse = _unique_values(image)
    if image.mode == "RGB":  # Colors outside the palette get numbers above those of the palette.
        values = [_PALETTE.get(code, code + 256) for code in values]
    return np.asarray([VOID if value == _VOID_VALUE else value for value in values], dtype=np.int32)[inverse]


def _open_mask(file: Path) -> Image.Image:
    """Return a decoded mask image in the mode `P`, `RGB` or one of gray values, without alpha."""
    try:
        with Image.open(file) as image:
            if image.format == "JPEG" or image.mode == "F":
                raise ValueError("its pixel values are not exact; save the mask as PNG")
            image.load()
            alpha_free = {"RGBA": "RGB", "RGBX": "RGB", "CMYK": "RGB", "LA": "L", "La": "L", "PA": "P", "1": "L"}
            if image.mode == "1":
                return image.convert("L").point(lambda value: value // 255)
            return image.convert(alpha_free[image.mode]) if image.mode in alpha_free else image.copy()
    except IMAGE_ERRORS as error:
        raise ValueError(f"the mask {file} cannot be read ({error}); copy it again") from error


def _unique_values(image: Image.Image) -> tuple[list[int], np.ndarray]:
    """Return the different values or coded colors of an image, and the index of each pixel among them."""
    values = np.asarray(image)
    if values.ndim == 3:
        values = values[..., 0].astype(np.int32) << 16 | values[..., 1].astype(np.int32) << 8 | values[..., 2]
    unique, indices = index_values(values)
    return unique.tolist(), indices


def index_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Find the different values of an image, as `np.unique` does, but without sorting where they are small.

    Args:
        values (`np.ndarray` of shape `(height, width)`): Integers.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: The different values in ascending order, and the index of each pixel among
            them, int32, of shape `(height, width)`.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if high - low >= _MAX_TABLE:
        unique, indices = np.unique(values, return_inverse=True)
        return unique, indices.reshape(values.shape).astype(np.int32)
    shifted = values.astype(np.int64) - low
    is_used = np.bincount(shifted.ravel(), minlength=1) > 0
    return np.flatnonzero(is_used) + low, (np.cumsum(is_used, dtype=np.int32) - 1)[shifted]


def find_labels(folders: list[Path], options: ReadOptions) -> VocLabels:
    """
    Find the classes of a data set.

    Args:
        folders (`list[Path]`): Folders to search for a file of class names, in this order.
        options (`ReadOptions`): Options with `class_names` or `class_name`.

    Returns:
        `VocLabels`: The classes of `class_names`, of a file in the folders, `class_name`, or the classes of VOC.

    Raises:
        `DatasetFormatError`: If the file cannot be read, or gives another class the number or color of background.
    """
    names = (LABEL_MAP, "class_names.txt", *CLASS_NAME_FILES)
    files = [folder / name for folder in folders for name in names]
    file = Path(options.class_names) if options.class_names else next((f for f in files if f.is_file()), None)
    if file is not None:
        text = file.read_text(encoding="utf-8-sig", errors="replace") if file.is_file() else ""
        is_map = file.suffix == ".txt" and any(line.count(":") == 3 for line in text.splitlines())
        return (
            _read_label_map(file, text)
            if is_map or file.name == LABEL_MAP
            else _number_labels(read_class_names(file), file)
        )
    if options.class_name:
        return _number_labels({1: options.class_name}, None)
    labels = _number_labels(dict(enumerate(_NAMES)), None)
    labels.needs_palette = True
    return labels


def _number_of(number: int, name: str) -> int:
    if is_background_name(name):
        return 0
    return VOID if is_ignored_name(name) else number


def _number_labels(names: dict[int, str], file: Path | None) -> VocLabels:
    """Return the classes of numbered names, with the colors of VOC's palette."""
    if 0 in names and _number_of(1, names[0]) > 0:
        raise DatasetFormatError(
            f"the number 0 is background in Pascal VOC, but is named {short_repr(names[0])}. Start the list with "
            "`background`, or number the classes from 1",
            file=str(file),
        )
    by_value = {0: 0, _VOID_VALUE: VOID, **{number: _number_of(number, name) for number, name in names.items()}}
    by_color = {_palette_code(number): by_value[number] for number in by_value if 0 <= number < 256}
    kept = {number: name for number, name in names.items() if by_value[number] > 0}
    return VocLabels(kept, by_value, by_color, file)


def _read_label_map(file: Path, text: str) -> VocLabels:
    """Read the label map of CVAT and Datumaro: `name:R,G,B:parts:actions` in each line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    entries = [line.split(":")[:2] if line.count(":") == 3 else ("", "") for line in lines]
    if not entries:
        raise DatasetFormatError("the label map has no classes; export it again", file=str(file))
    by_value, by_color, kept = {_VOID_VALUE: VOID}, {}, {}
    offset = 0 if is_background_name(entries[0][0]) else 1  # The number 0 is background.
    for number, (name, color) in enumerate(entries):
        sides = color.split(",") if color.strip() else []
        if len(sides) not in (0, 3) or not all(v.strip().isdecimal() and int(v) < 256 for v in sides) or not name:
            raise DatasetFormatError(
                f"expected `name:R,G,B:parts:actions`, found {short_repr(lines[number])}", file=str(file)
            )
        code = int.from_bytes(bytes(map(int, sides)), "big") if sides else _palette_code(number)
        by_value[number] = class_number = _number_of(number + offset, name)
        if code in by_color or (code == 0 and class_number):
            raise DatasetFormatError(
                f"the color {_color_text(code)} of {short_repr(name)} is that of another class or of background; "
                "export the masks with a color for each class",
                file=str(file),
            )
        by_color[code] = class_number
        kept |= {class_number: name} if class_number > 0 else {}
    repeated = [name for name, count in Counter(name for name, _ in entries).items() if count > 1]
    if repeated:
        raise DatasetFormatError(f"the class {short_repr(repeated[0])} occurs twice; remove one", file=str(file))
    by_color = {0: 0, _palette_code(_VOID_VALUE): VOID, **by_color}
    return VocLabels(kept, by_value, by_color, file, has_colors=True)
