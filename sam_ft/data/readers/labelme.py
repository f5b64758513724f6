"""Reader of LabelMe: one JSON file of shapes for each image."""

import base64
import binascii
import contextlib
import io
import math
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import example_id_of, group_by_split, images_in
from .images import IMAGE_ERRORS, ImageError, bare_name, exif_swaps_sides, file_name_text
from .json_files import read_json
from .outlines import ellipse
from .records import Record, Shape, Split, join_parts


MAX_DIFFERENCE = 8.0  # mean difference of gray values, of 255, between encodings of one picture
FORM = "NAME.json with `shapes` beside NAME.jpg (LabelMe)"


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of LabelMe files; `None` for another layout."""
    files = sorted(f for f in folder.rglob("*.json") if not f.name.startswith("."))
    if not any(_is_labelme(file) for file in files[:3]):
        return None
    return {split: partial(_read, folder, chosen) for split, chosen in group_by_split(files, folder).items()}


def _is_labelme(file: Path) -> bool:
    try:
        content = read_json(file, "LabelMe")
    except DatasetFormatError:
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split, labels = Split(str(folder if len(files) > 1 else files[0]), [], {}), set()
    for file in files:
        content = read_json(file, "LabelMe")
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DatasetFormatError(
                "a LabelMe file contains a list `shapes`, which is missing here; move the file away", file=str(file)
            )
        shapes = _shapes(content["shapes"])
        labels |= {shape.label for shape in shapes if shape.label is not None}
        split.records.append(
            Record(
                example_id_of(file, folder),
                str(file),
                _image(file, content, split),
                shapes,
                (content.get("imageWidth"), content.get("imageHeight")),
            )
        )
    split.labels = {label: label for label in sorted(labels)}
    split.has_inferred_labels = True
    annotated = {Path(record.image).resolve() for record in split.records if isinstance(record.image, Path)}
    unlabelled = [f for parent in {f.parent for f in files} for f in images_in(parent) if f.resolve() not in annotated]
    if unlabelled:
        split.notes.append(f"{len(unlabelled)} images have no JSON file and are left out, such as {unlabelled[0]}")
    return split


def _image(file: Path, content: dict, split: Split) -> Path | bytes | ImageError:
    """Return the file in `imagePath`; if it is missing, the copy in the JSON, which LabelMe has encoded again."""
    name = file_name_text(content.get("imagePath") or "").replace("\\", "/")
    for path in (file.parent / name, file.parent / bare_name(name)):
        with contextlib.suppress(OSError):  # A name that the file system does not allow is a missing file.
            # Converters write the name of the JSON file instead of the image's.
            if name and path.is_file() and not path.samefile(file):
                if _differs(content.get("imageData"), path):
                    detail = "another size or other pixels; the file is used"
                    split.remarks.append(Remark("`imageData` is of another image than the file", str(file), detail))
                return path
    if isinstance(content.get("imageData"), str):
        try:
            data = base64.b64decode(content["imageData"], validate=True)
        except (binascii.Error, ValueError) as error:
            return ImageError(
                f"the image `imagePath` {short_repr(name)} is missing and `imageData` is damaged ({error}). Put the "
                "image beside the file"
            )
        split.notes.append("images whose `imagePath` is missing are read from `imageData`")
        return data
    return ImageError(
        f"the image `imagePath` {short_repr(name)} is missing and there is no `imageData`. Put it beside the file"
    )


def _differs(embedded, path: Path) -> bool:
    """Return whether the embedded image shows another picture than the file; LabelMe encodes the same one again."""
    if not isinstance(embedded, str) or not embedded:
        return False
    embedded = "".join(embedded.partition(",")[2].split() if embedded.startswith("data:") else embedded.split())
    try:
        data = base64.b64decode(embedded)
    except (binascii.Error, ValueError):
        return True
    if len(data) == path.stat().st_size and data == path.read_bytes():
        return False
    try:
        (size, pixels), (file_size, file_pixels) = _thumbnail(io.BytesIO(data)), _thumbnail(path)
    except IMAGE_ERRORS:
        return True
    return size != file_size or float(np.abs(pixels - file_pixels).mean()) > MAX_DIFFERENCE


def _thumbnail(source: io.BytesIO | Path) -> tuple[tuple[int, int], np.ndarray]:
    """Return the size of an upright image, and its gray values in 32 x 32 pixels."""
    with Image.open(source) as image:
        size = (image.height, image.width) if exif_swaps_sides(image) else image.size
        image.draft("L", (256, 256))  # A JPEG file is decoded at a fraction of its size.
        gray = ImageOps.exif_transpose(image).convert("L").resize((32, 32), Image.Resampling.BOX)
    return size, np.asarray(gray, np.float32)


def _shapes(entries: list) -> list[Shape]:
    keys = [
        (entry.get("group_id"), entry.get("label")) if isinstance(entry, dict) else (None, None) for entry in entries
    ]
    # Converters write the same `group_id` to all shapes; it does not group shapes of different labels.
    is_placeholder = len({str(group) for group, _ in keys}) == 1 and len({str(label) for _, label in keys}) > 1
    groups = [None if is_placeholder or group in (None, "") else str(group) for group, _ in keys]
    shapes = (_shape(f"shapes[{number}]", entry) for number, entry in enumerate(entries))
    return join_parts(zip(shapes, groups, strict=True))


def _shape(where: str, entry) -> Shape:
    if not isinstance(entry, dict):
        return Shape(where, problem=f"expected an object, found {short_repr(entry)}")
    label, kind = entry.get("label"), entry.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label.strip():
        return Shape(where, problem=f"`label` is {short_repr(label)}; expected a class name")
    shape = Shape(where, label)
    flags = entry.get("flags")
    shape.attributes = {str(k): str(k) for k, v in flags.items() if v} if isinstance(flags, dict) else {}
    try:
        points = [(float(x), float(y)) for x, y in entry["points"]]
        if not all(math.isfinite(v) for point in points for v in point):
            raise ValueError("they are not finite")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        shape.problem = f"`points` is {short_repr(entry.get('points'))}; expected [[x, y], …] ({error})"
        return shape
    try:
        _set_geometry(shape, kind, points, entry)
    except (ValueError, OSError) as error:
        shape.problem = str(error)
    return shape


def _set_geometry(shape: Shape, kind: str, points: list[tuple[float, float]], entry: dict):
    if kind == "polygon":
        shape.polygons = [[v for point in points for v in point]]
    elif kind == "rectangle" and len(points) in (2, 4):
        xs, ys = zip(*points, strict=True)
        shape.box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    elif kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        shape.polygons = [ellipse(*points[0], radius, radius)]
    elif kind == "mask" and points:
        shape.mask, shape.corner = partial(_decode_mask, entry.get("mask")), tuple(round(v) for v in points[0])
    elif kind not in ("point", "points", "line", "linestrip"):
        raise ValueError(
            f"`shape_type` is {short_repr(kind)} with {len(points)} points; expected polygon, rectangle, circle or "
            "mask"
        )


def _decode_mask(encoded) -> np.ndarray:
    """Return a bool mask from an image in Base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            return np.asarray(image.convert("L")) > 0
    except (TypeError, *IMAGE_ERRORS) as error:
        raise ValueError(f"`mask` cannot be read ({error}); save the file again") from error
