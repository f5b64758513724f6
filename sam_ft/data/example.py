"""
The row: one image with all its phrases. Every reader ends in it, everything after reads only it.

A phrase's `instances` are indices into the row's instances; an empty list says that the phrase is absent, which a reader
writes only where its source proves it. `exhaustive: false` says that other instances may be unlabelled. Crowd instances
are regions to ignore: neither objects nor absences.
"""

import io

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from PIL import ImageOps


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
        message (`str`): what is wrong and what to do.
        file (`str`), record (`str`, *optional*): where.
    """

    def __init__(self, message: str, *, file: str, record: str | None = None):
        self.file, self.record, self.problem = file, record, message
        super().__init__(f"{file}{f', {record}' if record else ''}: {message}")


def validate_example(row: dict, file: str = "row") -> None:
    """
    Checks what `Features` cannot: indices in range, boxes with an area, texts that say something.

    Raises:
        `DatasetFormatError`: naming the row and field.
    """
    record = f"example {row['example_id']!r}"

    def refuse(message):
        raise DatasetFormatError(message, file=file, record=record)

    if row["width"] <= 0 or row["height"] <= 0:
        refuse(f"`width`×`height` is {row['width']}×{row['height']}; both must be positive")
    for i, instance in enumerate(row["instances"]):
        if not np.isfinite(instance["bbox"]).all() or min(instance["bbox"][2:]) <= 0:
            refuse(f"`instances[{i}].bbox` is {instance['bbox']}; expected finite (x, y, w, h) with an area")
        if not isinstance(instance["segmentation"], str | None):
            refuse(
                f"`instances[{i}].segmentation` is {type(instance['segmentation']).__name__}; RLE counts must be str"
            )
    seen = set()
    for phrase in row["phrases"]:
        if not phrase["text"].strip():
            refuse("`phrases` holds an empty text; name what is to be found")
        if phrase["text"] in seen:
            refuse(f"`phrases` holds {phrase['text']!r} twice; merge their instances")
        seen.add(phrase["text"])
        bad = [i for i in phrase["instances"] if not 0 <= i < len(row["instances"])]
        if bad:
            refuse(f"phrase {phrase['text']!r} refers to instance {bad[0]}, the row has {len(row['instances'])}")


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
    except (OSError, SyntaxError, ValueError) as error:
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
