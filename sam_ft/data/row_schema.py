"""
The row: one image with all its phrases. Every reader ends in it, everything after reads only it.

A phrase's `instances` are indices into the row's instances; an empty list says that the phrase is absent, which a reader
writes only where its source proves it. `exhaustive: false` says that other instances may be unlabelled. Crowd instances
are regions to ignore: neither objects nor absences.
"""

import io
import math
from collections import Counter
from numbers import Integral, Real

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from PIL import ImageOps

from ..ops.masks import check_compressed_counts
from ..utils.text import short_repr
from .safe_text import to_printable


MAX_INSTANCES = 10_000  # instances of one image that are read: far more than the 200 queries of SAM 3 can find
BOX_TOLERANCE = 1.0  # px that a box may reach over the image's edge: tools round coordinates

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
    Input data that cannot be used as they are. The message names file, record and field, what was found, and the fix.

    Args:
        message (`str`): What is wrong and what to do.
        file (`str`): The file or data set.
        record (`str`, *optional*): The record in it.
    """

    def __init__(self, message: str, *, file: str, record: str | None = None):
        self.file, self.record, self.problem = file, record, message
        super().__init__(to_printable(f"{file}{f', {record}' if record else ''}: {message}"))


def validate_example(
    row: dict, file: str = "row", *, record: str | None = None, image_size: tuple[int, int] | None = None
) -> None:
    """
    Check what `Features` cannot: values that are there, sizes, masks, boxes, indices and texts.

    Args:
        row (`dict`): A row with `FEATURES`; its image is not read.
        file (`str`): The file or data set, for messages.
        record (`str`, *optional*): Name of the row in messages. Default: its `example_id`.
        image_size (`tuple[int, int]`, *optional*): Width and height of the upright image in px, where they were
            measured.

    Raises:
        `DatasetFormatError`: Names the row and field. Boxes may reach `BOX_TOLERANCE` px over the edge of the image,
            and an image may have at most `MAX_INSTANCES` instances.
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
    """Return the message about an image with more than `MAX_INSTANCES` instances."""
    return (
        f"the image has {number} instances; at most {MAX_INSTANCES} an image are read. Cut the image into tiles, or "
        "remove annotations that are noise"
    )


def _instance_problem(instance: dict, width: int, height: int) -> str | None:
    """Field and problem of an instance, beginning behind the opening backquote."""
    box, counts, area = instance["bbox"], instance["segmentation"], instance["area"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or min(box[2:]) <= 0:
        return f"bbox` is {short_repr(box)}; expected finite (x, y, w, h) with an area"
    far = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
    if far > BOX_TOLERANCE:
        return f"bbox` is {short_repr(box)}, {far:g} px outside the {width}×{height} image; cut it at the image's edge"
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
        return "`phrases` holds an empty text; name what is to be found"
    if text in seen:
        return f"`phrases` holds {text!r} twice; merge their instances"
    if not isinstance(indices, list) or not all(isinstance(i, Integral) for i in indices):
        return f"phrase {text!r} has the `instances` {short_repr(indices)}; expected a list of indices"
    bad = [i for i in indices if not 0 <= i < number]
    if bad:
        return f"phrase {text!r} refers to instance {bad[0]}, the row has {number}"
    if len(set(indices)) < len(indices):
        twice = next(i for i, n in Counter(indices).items() if n > 1)
        return f"phrase {text!r} lists instance {twice} more than once; list each instance once"
    if not isinstance(phrase["exhaustive"], bool | np.bool_):
        return f"phrase {text!r} has `exhaustive: {short_repr(phrase['exhaustive'])}`; expected true or false"
    return None


def _is_finite(value) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def to_dataset(rows: list[dict]) -> Dataset:
    """Rows as a `datasets.Dataset` with `FEATURES`."""
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    return Dataset.from_dict(columns, features=FEATURES)


def open_image_value(value: str | dict) -> PILImage.Image:
    """
    Decodes an image as a `datasets.Dataset` with `FEATURES` does: from a path or `{"bytes", "path"}`, upright.

    Raises:
        `ValueError`: where it cannot be read; names the file.
    """
    given = value if isinstance(value, dict) else {"bytes": None, "path": value}
    try:
        image = PILImage.open(io.BytesIO(given["bytes"]) if given["bytes"] is not None else given["path"])
        image.load()
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        raise ValueError(f"the image {given['path'] or 'inside the row'} cannot be read ({error})") from error
    return ImageOps.exif_transpose(image)


def to_rgb(image: PILImage.Image) -> PILImage.Image:
    """
    An upright 8-bit RGB image. 16-bit and float images are scaled by their own range: Pillow's `convert` would clip them
    to white. Transparent and palette images lose their alpha and palette.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image, dtype=np.float32)
        values = np.nan_to_num(
            values, nan=np.nanmin(values) if np.isfinite(values).any() else 0.0, posinf=None, neginf=None
        )
        low, high = float(values.min()), float(values.max())
        if high > 255 or low < 0 or image.mode == "F":
            values = (values - low) * (255.0 / max(high - low, 1e-6))
        image = PILImage.fromarray(values.round().astype(np.uint8))
    return image.convert("RGB")
