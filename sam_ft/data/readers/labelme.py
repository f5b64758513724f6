"""LabelMe: one JSON file an image, with shapes."""

import base64
import binascii
import contextlib
import io
import math
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import by_split, example_id_of, images_in
from .images import IMAGE_ERRORS, ImageError, bare_name, listed_name
from .json_files import read_json
from .outlines import ellipse
from .records import ReadOptions, Record, Shape, Split, join_parts


FORM = "NAME.json with `shapes` beside NAME.jpg (LabelMe)"


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a tree of LabelMe files: name -> call that reads it."""
    files = sorted(f for f in folder.rglob("*.json") if not f.name.startswith("."))
    if not any(_is_labelme(file) for file in files[:3]):
        return None
    return {split: partial(_read, folder, chosen) for split, chosen in by_split(files, folder).items()}


def _is_labelme(file: Path) -> bool:
    try:
        content = read_json(file, "LabelMe")
    except DatasetFormatError:
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _read(folder: Path, files: list[Path], options: ReadOptions) -> Split:
    split, labels = Split(str(folder if len(files) > 1 else files[0]), [], {}), set()
    for file in files:
        content = read_json(file, "LabelMe")
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DatasetFormatError(
                "a LabelMe file holds a list `shapes`, and this one does not; move it away", file=str(file)
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
    split.labels_were_found = True
    described = {Path(record.image).resolve() for record in split.records if isinstance(record.image, Path)}
    bare = [f for place in {f.parent for f in files} for f in images_in(place) if f.resolve() not in described]
    if bare:
        split.notes.append(f"{len(bare)} images have no JSON file and are left out, such as {bare[0]}")
    return split


def _image(file: Path, content: dict, split: Split) -> Path | bytes | ImageError:
    """The file that `imagePath` names; the copy inside the JSON, re-encoded by LabelMe, only where that is missing."""
    name = listed_name(content.get("imagePath") or "").replace("\\", "/")
    for path in (file.parent / name, file.parent / bare_name(name)):
        with contextlib.suppress(OSError):  # a name that no file system takes
            if name and path.is_file():
                if _is_another(content.get("imageData"), path):
                    detail = "re-encoded, or of another picture; the file is used"
                    split.remarks.append(Remark("`imageData` is not the image file's content", str(file), detail))
                return path
    if isinstance(content.get("imageData"), str):
        try:
            data = base64.b64decode(content["imageData"], validate=True)
        except (binascii.Error, ValueError) as error:
            return ImageError(
                f"`imagePath` {short_repr(name)} is not there and `imageData` is damaged ({error}). Put the image "
                "beside the file"
            )
        split.notes.append("images whose `imagePath` is not there are read from `imageData`")
        return data
    return ImageError(
        f"the image `imagePath` {short_repr(name)} is missing and there is no `imageData`. Put it beside the file"
    )


def _is_another(embedded, path: Path) -> bool:
    """Whether a JSON file carries something else than the image file's own bytes."""
    if not isinstance(embedded, str) or not embedded:
        return False
    embedded = "".join(embedded.partition(",")[2].split() if embedded.startswith("data:") else embedded.split())
    if abs(len(embedded) * 3 // 4 - path.stat().st_size) > 2:  # four characters for three bytes
        return True
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(embedded) != path.read_bytes()
    return True


def _shapes(listed: list) -> list[Shape]:
    given = [
        (shape.get("group_id"), shape.get("label")) if isinstance(shape, dict) else (None, None) for shape in listed
    ]
    # a placeholder that a converter wrote on everything groups nothing
    placeholder = len({str(group) for group, _ in given}) == 1 and len({str(label) for _, label in given}) > 1
    groups = [None if placeholder or group in (None, "") else str(group) for group, _ in given]
    shapes = (_shape(f"shapes[{number}]", shape) for number, shape in enumerate(listed))
    return join_parts(zip(shapes, groups, strict=True))


def _shape(where: str, shape) -> Shape:
    if not isinstance(shape, dict):
        return Shape(where, problem=f"expected an object, found {short_repr(shape)}")
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label.strip():
        return Shape(where, problem=f"`label` is {short_repr(label)}; expected a class name")
    read = Shape(where, label)
    flags = shape.get("flags")
    read.attributes = {str(k): str(k) for k, v in flags.items() if v} if isinstance(flags, dict) else {}
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        if not all(math.isfinite(v) for point in points for v in point):
            raise ValueError("they are not finite")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        read.problem = f"`points` is {short_repr(shape.get('points'))}; expected [[x, y], …] ({error})"
        return read
    try:
        _place(read, kind, points, shape)
    except (ValueError, OSError) as error:
        read.problem = str(error)
    return read


def _place(read: Shape, kind: str, points: list[tuple[float, float]], shape: dict):
    if kind == "polygon":
        read.polygons = [[v for point in points for v in point]]
    elif kind == "rectangle" and len(points) in (2, 4):
        xs, ys = zip(*points, strict=True)
        read.box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    elif kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        read.polygons = [ellipse(*points[0], radius, radius)]
    elif kind == "mask" and points:
        read.mask, read.corner = partial(_embedded_mask, shape.get("mask")), tuple(round(v) for v in points[0])
    elif kind not in ("point", "points", "line", "linestrip"):
        raise ValueError(
            f"`shape_type` is {short_repr(kind)} with {len(points)} points; expected polygon, rectangle, circle or "
            "mask"
        )


def _embedded_mask(encoded) -> np.ndarray:
    """A mask inside a file, bool, from Base64 of an image."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            return np.asarray(image.convert("L")) > 0
    except (TypeError, *IMAGE_ERRORS) as error:
        raise ValueError(f"`mask` cannot be read ({error}); save the file again") from error
