"""Reader of a Supervisely project: meta.json, and one JSON file of objects for each image of each dataset."""

import base64
import binascii
import io
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import example_id_of, images_in, split_of_name
from .images import IMAGE_ERRORS, ImageError, find_image
from .json_files import read_json
from .outlines import draw_polygons
from .records import Record, Shape, Split


FORM = "meta.json with DATASET/img/NAME.jpg and DATASET/ann/NAME.jpg.json (Supervisely; datasets train, val, test)"
UNREAD_KIND = "shape of a kind that is not read"
_MAX_PNG_BYTES = 2**26  # of the compressed mask of an object
_POINT_KINDS = ("point", "line", "polyline", "graph")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a Supervisely project; `None` for another layout."""
    meta = folder / "meta.json"
    if not meta.is_file():
        return None
    datasets = [p.parent for p in sorted(folder.rglob("ann")) if p.is_dir() and (p.parent / "img").is_dir()]
    if not datasets or _classes(meta) is None:
        return None
    splits: dict[str, list[Path]] = {}
    for dataset in datasets:
        names = dataset.relative_to(folder).parts
        split = next((word for word in map(split_of_name, names) if word), "train")
        splits.setdefault(split, []).append(dataset)
    return {split: partial(_read, folder, chosen) for split, chosen in splits.items()}


def _classes(meta: Path) -> list | None:
    try:
        content = read_json(meta, "Supervisely")
    except DatasetFormatError:
        return None
    classes = content.get("classes") if isinstance(content, dict) else None
    return classes if isinstance(classes, list) else None


def _read(folder: Path, datasets: list[Path], _options: ReadOptions) -> Split:
    kinds: dict[str, object] = {}
    for number, entry in enumerate(_classes(folder / "meta.json") or []):
        title = entry.get("title") if isinstance(entry, dict) else None
        if not isinstance(title, str) or not title.strip():
            raise DatasetFormatError(
                f"`title` is {short_repr(title)}; expected the name of a class",
                file=str(folder / "meta.json"),
                record=f"classes[{number}]",
            )
        kinds[title] = entry.get("shape")
    split, num_tags = Split(str(folder), [], {title: title for title in kinds}), 0
    for dataset in datasets:
        files = sorted(f for f in (dataset / "ann").glob("*.json") if not f.name.startswith("."))
        for file in files:
            content = read_json(file, "Supervisely")
            if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
                raise DatasetFormatError(
                    "a Supervisely file contains a list `objects`, which is missing here; download the project again",
                    file=str(file),
                )
            num_tags += bool(content.get("tags"))
            split.records.append(_record(folder, file, content, kinds, split))
        annotated = {file.name.removesuffix(".json") for file in files}
        unlabelled = [image for image in images_in(dataset / "img") if image.name not in annotated]
        if unlabelled:
            split.notes.append(
                f"{len(unlabelled)} images have no file in ann/ and are left out, such as {unlabelled[0]}"
            )
    if num_tags:
        split.notes.append(f"{num_tags} images have tags, which are facts of the image and not read as phrases")
    return split


def _record(folder: Path, file: Path, content: dict, kinds: dict, split: Split) -> Record:
    image_folder = file.parent.parent / "img"
    try:
        image = find_image(file.name.removesuffix(".json"), [image_folder])
    except ImageError as error:
        image = error
    size = content.get("size")
    size = (size.get("width"), size.get("height")) if isinstance(size, dict) else (None, None)
    shapes = []
    for number, entry in enumerate(content["objects"]):
        shape, kind = _shape(f"objects[{number}]", entry, kinds, size)
        if kind is not None:
            detail = f"`geometryType` is {short_repr(kind)}; polygons, bitmaps and rectangles are read"
            split.remarks.append(Remark(UNREAD_KIND, f"{file}, {shape.where}", detail))
        shapes.append(shape)
    name = example_id_of(image_folder / file.name.removesuffix(".json"), folder)
    return Record(name, str(file), image, shapes, size)


def _shape(where: str, entry, kinds: dict, size: tuple) -> tuple[Shape, str | None]:
    """Return an object, and its kind if it is not read."""
    title = entry.get("classTitle") if isinstance(entry, dict) else None
    if not isinstance(title, str) or not title.strip():
        return Shape(where, problem=f"`classTitle` is {short_repr(title)}; expected a class of meta.json"), None
    shape = Shape(where, title, attributes=_attributes(entry.get("tags")))
    kind = entry.get("geometryType") or kinds.get(title)
    if kind == "any":
        kind = "bitmap" if entry.get("bitmap") else "polygon"
    if kind not in ("polygon", "rectangle", "bitmap"):
        return shape, None if kind in _POINT_KINDS else str(kind)
    try:
        _set_geometry(shape, kind, entry, size)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        shape.problem = f"its {kind} cannot be read ({reason}); draw it again in Supervisely"
    return shape, None


def _attributes(tags) -> dict[str, str]:
    """Return the tags of an object as attributes; a tag without a value is its own value."""
    tags = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    values = {str(tag.get("name")): tag.get("value") for tag in tags if tag.get("name")}
    return {name: str(name if value in (None, "") else value) for name, value in values.items()}


def _set_geometry(shape: Shape, kind: str, entry: dict, size: tuple) -> None:
    if kind == "bitmap":
        x, y = entry["bitmap"]["origin"]
        shape.mask, shape.corner = partial(_decode_bitmap, entry["bitmap"]["data"], size), (int(x), int(y))
        return
    exterior = [(float(x), float(y)) for x, y in entry["points"]["exterior"]]
    if kind == "rectangle":
        xs, ys = zip(*exterior, strict=True)
        # The corners of a rectangle are pixels that belong to it.
        shape.box = [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1]
        return
    interiors = [[float(v) for point in part for v in _pair(point)] for part in entry["points"].get("interior") or []]
    outline = [[v for point in exterior for v in point]]
    if interiors:
        shape.mask = partial(_draw_with_holes, outline, interiors, size)
    else:
        shape.polygons = outline


def _pair(point) -> tuple[float, float]:
    x, y = point
    return float(x), float(y)


def _draw_with_holes(outline: list, holes: list, size: tuple) -> np.ndarray:
    if None in size:
        raise ValueError("`size` of the image is missing, which a polygon with holes needs; export again")
    width, height = (int(side) for side in size)
    mask = draw_polygons(outline, width, height)
    for hole in holes:
        mask &= ~draw_polygons([hole], width, height)
    return mask


def _decode_bitmap(data, size: tuple) -> np.ndarray:
    """
    Decode the mask of an object: an image, compressed with zlib, in Base64.

    Args:
        data (`str`): The encoded image; its alpha channel is the mask if it has one.
        size (`tuple`): Listed width and height of the whole image, px, which limit the mask's.

    Returns:
        `np.ndarray`: bool.

    Raises:
        `ValueError`: If it cannot be decoded.
    """
    try:
        decompressor = zlib.decompressobj()
        content = decompressor.decompress(base64.b64decode(data, validate=True), _MAX_PNG_BYTES)
        if decompressor.unconsumed_tail:
            raise ValueError(f"it has more than {_MAX_PNG_BYTES} bytes")
        with Image.open(io.BytesIO(content)) as image:
            if None not in size and (image.width > size[0] or image.height > size[1]):
                raise ValueError(f"it has {image.width}×{image.height} px, the image {size[0]}×{size[1]}")
            if "A" in image.getbands() or "transparency" in image.info:
                return np.asarray(image.convert("RGBA"))[..., 3] > 0
            if image.mode not in ("1", "L", "P"):
                raise ValueError(f"its mode is {image.mode}; expected one channel, or an alpha channel")
            return np.asarray(image) != 0
    except (TypeError, binascii.Error, zlib.error, *IMAGE_ERRORS) as error:
        raise ValueError(f"`bitmap.data` cannot be read ({error}); download the project again") from error
