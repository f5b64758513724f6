"""
Row schema: one image with all its phrases, the output of every reader and the input of everything after it.

The `instances` of a phrase are indices into the instances of the row. An empty list means that the phrase is absent,
which a reader writes only if its source proves it. `exhaustive: false` means that other instances may be unlabelled.
Crowd instances are regions to ignore: neither objects nor absences.
"""

import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from numbers import Integral, Real

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from PIL import ImageOps

from ..ops.masks import check_compressed_counts
from ..utils.text import short_repr
from .safe_text import to_printable


MAX_INSTANCES = 10_000  # Limit per image, far above the 200 queries of SAM 3.
BOX_TOLERANCE = 1.0  # px that a box may exceed the image by: annotation tools round coordinates.
_CHUNK = 256  # rows whose paths are listed at a time

FEATURES = Features(
    {
        "example_id": Value("string"),  # unique in its split
        "image": Image(),  # upright: EXIF is applied when decoded
        "width": Value("int32"),  # of the upright image, px
        "height": Value("int32"),
        "instances": List(
            {
                "bbox": List(Value("float32"), length=4),  # x, y, w, h in px
                "segmentation": Value("string"),  # `counts` of a compressed COCO RLE at the row's size; null: box only
                "area": Value("float32"),  # px of the mask, of the box where there is none
                "is_crowd": Value("bool"),
            }
        ),
        "phrases": List(
            {
                "text": Value("string"),
                "instances": List(Value("int32")),
                "exhaustive": Value("bool"),
            }
        ),
    }
)


class DatasetFormatError(ValueError):
    """
    Error of input data. The message names the file, the record, the field, the value and the fix.

    Args:
        message (`str`): What is wrong and what to do.
        file (`str`): The file or data set.
        record (`str`, *optional*): The record in it.
    """

    def __init__(self, message: str, *, file: str, record: str | None = None):
        self.file, self.record, self.problem = file, record, message
        super().__init__(to_printable(f"{file}{f', {record}' if record else ''}: {message}"))

    def __reduce__(self):
        return partial(type(self), self.problem, file=self.file, record=self.record), ()


def validate_example(
    row: dict, file: str = "row", *, record: str | None = None, image_size: tuple[int, int] | None = None
) -> None:
    """
    Check what `Features` cannot: missing values, sizes, masks, boxes, indices and texts.

    Args:
        row (`dict`): A row with `FEATURES`; its image is not read.
        file (`str`): The file or data set, for messages.
        record (`str`, *optional*): Name of the row in messages. Default: its `example_id`.
        image_size (`tuple[int, int]`, *optional*): Measured width and height of the upright image, px.

    Raises:
        `DatasetFormatError`: If the row is invalid. Boxes may exceed the image by `BOX_TOLERANCE` px, and an image may
            have at most `MAX_INSTANCES` instances.
    """
    record = record or f"example {short_repr(row['example_id'])}"

    def refuse(message: str):
        raise DatasetFormatError(message, file=file, record=record)

    if not isinstance(row["example_id"], str):
        refuse(f"`example_id` is {short_repr(row['example_id'])}; expected a text")
    width, height = row["width"], row["height"]
    if not all(isinstance(side, Integral) and side > 0 for side in (width, height)):
        refuse(f"`width`×`height` is {width}×{height}; both must be positive whole numbers")
    if image_size is not None and (width, height) != tuple(image_size):
        refuse(
            f"`width`×`height` is {width}×{height}, but the upright image is {image_size[0]}×{image_size[1]}. Write "
            "the row again with the size, masks and boxes of the upright image"
        )
    instances, phrases = row["instances"], row["phrases"]
    for name, values in (("instances", instances), ("phrases", phrases)):
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            refuse(f"`{name}` is {short_repr(values)}; expected a list of structs")
    if len(instances) > MAX_INSTANCES:
        refuse(too_many_instances(len(instances)))
    for i, instance in enumerate(instances):
        problem = _instance_problem(instance, width, height)
        if problem:
            refuse(f"`instances[{i}].{problem}")
    seen = set()
    for phrase in phrases:
        problem = _phrase_problem(phrase, seen, len(instances))
        if problem:
            refuse(problem)
        seen.add(phrase["text"])


def too_many_instances(number: int) -> str:
    """
    Return the error message for an image with more than `MAX_INSTANCES` instances.

    Args:
        number (`int`): Number of instances.
    """
    return (
        f"the image has {number} instances; at most {MAX_INSTANCES} an image are read. Cut the image into tiles, or "
        "remove annotations that are noise"
    )


def _instance_problem(instance: dict, width: int, height: int) -> str | None:
    """Return the field and the problem of an instance, without the opening backquote; `None` if it is valid."""
    box, counts, area = instance["bbox"], instance["segmentation"], instance["area"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or min(box[2:]) <= 0:
        return f"bbox` is {short_repr(box)}; expected finite (x, y, w, h) with an area"
    excess = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
    if excess > BOX_TOLERANCE:
        return f"bbox` is {short_repr(box)}, {excess:g} px outside the {width}×{height} image; clip it to the image"
    if not isinstance(counts, str | None):
        return f"segmentation` is {type(counts).__name__}; RLE counts must be str"
    if counts is not None:
        try:
            check_compressed_counts(counts, [height, width], height, width)
        except ValueError as error:
            return f"segmentation` cannot be decoded: {error}"
    if not _is_finite(area) or area < 0:
        return f"area` is {short_repr(area)}; expected a number of px, 0 or more"
    if not isinstance(instance["is_crowd"], bool | np.bool_):
        return f"is_crowd` is {short_repr(instance['is_crowd'])}; expected true or false"
    return None


def _phrase_problem(phrase: dict, seen: set[str], number: int) -> str | None:
    text, indices = phrase["text"], phrase["instances"]
    if not isinstance(text, str) or not text.strip():
        return "`phrases` contains an empty text; write a noun phrase"
    if text in seen:
        return f"`phrases` contains {text!r} twice; merge their instances"
    if not isinstance(indices, list) or not all(isinstance(i, Integral) for i in indices):
        return f"phrase {text!r} has the `instances` {short_repr(indices)}; expected a list of indices"
    out_of_range = [i for i in indices if not 0 <= i < number]
    if out_of_range:
        return f"phrase {text!r} refers to instance {out_of_range[0]}, the row has {number}"
    if len(set(indices)) < len(indices):
        twice = next(i for i, n in Counter(indices).items() if n > 1)
        return f"phrase {text!r} lists instance {twice} more than once; list each instance once"
    if not isinstance(phrase["exhaustive"], bool | np.bool_):
        return f"phrase {text!r} has `exhaustive: {short_repr(phrase['exhaustive'])}`; expected true or false"
    return None


def _is_finite(value) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def to_dataset(rows: list[dict]) -> Dataset:
    """
    Convert rows to a `datasets.Dataset` with `FEATURES`.

    Args:
        rows (`list[dict]`): Rows.
    """
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    return Dataset.from_dict(columns, features=FEATURES)


def image_paths(rows: Dataset) -> Iterator[tuple[str | None, bool]]:
    """
    Yield the path of each row's image, without reading the content of embedded images.

    Args:
        rows (`datasets.Dataset`): Rows with a column `image`.

    Yields:
        `tuple[str | None, bool]`: The path, and whether it is a file instead of the name of an embedded image.
    """
    undecoded = rows.select_columns("image").cast_column("image", Image(decode=False)).with_format("arrow")
    for begin in range(0, len(undecoded), _CHUNK):
        images = undecoded[begin : begin + _CHUNK]["image"]
        has_content = pc.greater(pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), 0), 0).to_pylist()
        for path, is_embedded in zip(pc.struct_field(images, "path").to_pylist(), has_content, strict=True):
            yield path, bool(path) and not is_embedded


def phrase_texts(rows: Dataset) -> set[str]:
    """Return all phrases of rows."""
    phrases = pc.list_flatten(rows.select_columns("phrases").with_format("arrow")[:]["phrases"])
    return set(pc.unique(pc.struct_field(phrases, "text")).to_pylist())


def count_instances(rows: Dataset) -> tuple[int, Counter]:
    """
    Count the instances of rows, without crowds.

    Args:
        rows (`datasets.Dataset`): The rows.

    Returns:
        `tuple[int, Counter]`: Number of instances, and number of instances and crowds of each phrase; 0 for a phrase
        that is absent from all images.
    """
    number, by_phrase = 0, Counter()
    # Chunks bound the memory of the masks, which are copied with the rows.
    for chunk in rows.select_columns(["instances", "phrases"]).with_format("arrow").iter(_CHUNK):
        instances, phrases = (pc.list_flatten(chunk[name]) for name in ("instances", "phrases"))
        number += len(instances) - (pc.sum(pc.struct_field(instances, "is_crowd")).as_py() or 0)
        texts = pc.struct_field(phrases, "text").to_pylist()
        for text, count in zip(
            texts, pc.list_value_length(pc.struct_field(phrases, "instances")).to_pylist(), strict=True
        ):
            by_phrase[text] += count
    return number, by_phrase


def open_image_value(value: str | dict, max_reduction: float = 1.0) -> PILImage.Image:
    """
    Decode an image upright, as a `datasets.Dataset` with `FEATURES` does.

    Args:
        value (`str` or `dict`): Path, or `{"bytes", "path"}`.
        max_reduction (`float`): A JPEG is decoded at an eighth, a quarter or half of its size if this is at least 8, 4
            or 2, which takes a fraction of the time. Default: 1, the whole image.

    Raises:
        `ValueError`: If the image cannot be read. The message names the file.
    """
    source = value if isinstance(value, dict) else {"bytes": None, "path": value}
    try:
        image = PILImage.open(io.BytesIO(source["bytes"]) if source["bytes"] is not None else source["path"])
        if max_reduction >= 2:
            image.draft("RGB", tuple(math.ceil(side / max_reduction) for side in image.size))
        image.load()
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        reason = re.sub(r" <_io\.BytesIO object at 0x\w+>", "", str(error))
        raise ValueError(f"the image {source['path'] or 'inside the row'} cannot be read ({reason})") from error
    return ImageOps.exif_transpose(image)


def to_rgb(image: PILImage.Image) -> PILImage.Image:
    """
    Convert an image to upright 8-bit RGB.

    16-bit and float images are scaled by their range, because `convert` of Pillow would clip them to white.
    Transparency and palettes are removed.

    Args:
        image (`PIL.Image.Image`): Image of any mode.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        image = PILImage.fromarray(scale_to_bytes(np.asarray(image)))
    return image if image.mode == "RGB" else image.convert("RGB")  # the image is a copy already


def scale_to_bytes(values: np.ndarray) -> np.ndarray:
    """
    Convert pixel values to 8 bits: floats, and integers outside 0 to 255, are scaled by their range.

    Args:
        values (`np.ndarray`): Pixel values of all channels.

    Returns:
        `np.ndarray` of the same shape: uint8.
    """
    is_float = np.issubdtype(values.dtype, np.floating)
    values = values.astype(np.float32)
    values = np.nan_to_num(
        values, nan=np.nanmin(values) if np.isfinite(values).any() else 0.0, posinf=None, neginf=None
    )
    low, high = float(values.min()), float(values.max())
    if high > 255 or low < 0 or is_float:
        values = (values - low) * (255.0 / max(high - low, 1e-6))
    return values.round().astype(np.uint8)
