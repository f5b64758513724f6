"""Schemas of Hub data sets, and conversion of a row of each schema to shapes."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from datasets import ClassLabel
from PIL import Image as PILImage

from ...options.data import ReadOptions
from ..phrases.vocabulary import normalize_phrase
from ..readers.class_names import find_roles
from ..readers.image_roots import ImageRoots
from ..readers.images import IMAGE_ERRORS
from ..readers.mask_values import read_binary_mask, read_numbers, shapes_of_values
from ..readers.records import Shape
from ..readers.sa1b import sa1b_shapes
from ..row_schema import MAX_INSTANCES, too_many_instances
from .columns import Columns, inside, is_image


@dataclass
class Context:
    """
    Context of the conversion of a row.

    Attributes:
        columns (`Columns`): Columns by role.
        options (`ReadOptions`): Options of the conversion.
        names (`dict`): Class name of each label in the rows; empty if the rows contain names or phrases.
        roots (`ImageRoots`): Folders that image files may lie in.
    """

    columns: Columns
    options: ReadOptions
    names: dict
    roots: ImageRoots


@dataclass
class Schema:
    """
    Schema of a data set.

    Attributes:
        description (`str`): Description for the report.
        fits (`Callable[[Columns], bool]`): Whether columns have the schema.
        shapes (`Callable[[dict, Context], list[Shape]]`): Conversion of a row to shapes.
        one_phrase_a_row (`bool`): Whether each row has one phrase, so that the rows of an image are joined.
        needs_class_name (`bool`): Whether the schema has no class names, so that `class_name` is required.
        needs_mask_values (`bool`): Whether the meaning of pixel values is undefined, so that `mask_values` is
            required.
        note (`str`): Assumption for the report.
    """

    description: str
    fits: Callable[[Columns], bool]
    shapes: Callable[[dict, Context], list[Shape]]
    one_phrase_a_row: bool = False
    needs_class_name: bool = False
    needs_mask_values: bool = False
    note: str = ""


def _read_channels(file) -> np.ndarray:
    with PILImage.open(file) as image:
        return np.asarray(image)


def open_image(value, context: Context, read: Callable = _read_channels) -> np.ndarray:
    """
    Open an undecoded mask image.

    Args:
        value (`dict`): `{"bytes", "path"}`.
        context (`Context`): Context with the folders that files may lie in.
        read (`Callable`): Function that reads an open file or a path; by default it returns all channels.

    Returns:
        `np.ndarray`: The result of `read`.

    Raises:
        `ValueError`: If the image cannot be read, or lies outside the folders.
    """
    try:
        if value.get("bytes"):
            return read(io.BytesIO(value["bytes"]))
        context.roots.check(Path(value.get("path")))
        return read(value.get("path"))
    except (TypeError, AttributeError, *IMAGE_ERRORS) as error:
        raise ValueError(f"a mask image cannot be read ({error})") from error


def _as_list(value) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _refuse_too_many(objects: list) -> None:
    if len(objects) > MAX_INSTANCES:
        raise ValueError(too_many_instances(len(objects)))


def _item_or_none(values: list, index: int):
    return values[index] if index < len(values) else None


def _phrase_rows(row: dict, context: Context) -> list[Shape]:
    text = context.columns.take(row, "phrase")
    phrase = normalize_phrase(text) if isinstance(text, str) else ""
    if not phrase:
        return [Shape("the row", problem=f"`{context.columns.roles['phrase']}` is {text!r}; expected a noun phrase")]
    if "masks" in context.columns:
        masks = _as_list(context.columns.take(row, "masks"))
        _refuse_too_many(masks)
        shapes = (
            Shape(f"mask {i}", phrase, mask=partial(open_image, m, context, read_binary_mask))
            for i, m in enumerate(masks)
        )
        return [shape for shape in shapes if shape.with_mask().mask.any()]
    return _segmentations(row, context, [], phrase)


def _objects(row: dict, context: Context) -> list[Shape]:
    return _segmentations(row, context, _as_list(context.columns.take(row, "labels")), context.options.class_name)


def _segmentations(row: dict, context: Context, labels: list, default_label: str | None) -> list[Shape]:
    """Convert objects with polygons, RLEs or boxes; an object without a label has `default_label`."""
    columns = context.columns
    segmentations, boxes = (
        _object_segmentations(columns.take(row, "segmentation")),
        _as_list(columns.take(row, "boxes")),
    )
    crowds, shapes = _as_list(columns.take(row, "crowds")), []
    number = _common_length(segmentation=segmentations, boxes=boxes, labels=labels, crowds=crowds)
    for i in range(number):
        label, segmentation = _item_or_none(labels, i), _item_or_none(segmentations, i)
        shape = Shape(f"object {i}", default_label if label is None else label)
        # A box beside a mask is not used: the format (xywh, xyxy, fractions) is undefined.
        shape.box = None if segmentation else _item_or_none(boxes, i)
        shape.is_crowd = _item_or_none(crowds, i) in (1, True)
        if shape.label is None:
            shape.problem = (
                "it has no class; name the column, `column_mapping: {labels: COLUMN}`, or give `class_name`"
            )
        if isinstance(segmentation, dict) and {"x", "y"} <= segmentation.keys():
            segmentation = [[v for point in zip(segmentation["x"], segmentation["y"], strict=False) for v in point]]
        if isinstance(segmentation, dict):
            shape.rle = segmentation
        elif segmentation:
            shape.polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
        elif shape.box is None:
            shape.problem = shape.problem or "it has neither a segmentation nor a box"
        shapes.append(shape)
    return shapes


def _object_segmentations(value) -> list:
    """Return the segmentation of each object; RLEs may be a struct of lists, sizes and counts."""
    if isinstance(value, dict) and isinstance(value.get("size"), list) and isinstance(value.get("counts"), list):
        sizes, counts = value["size"], value["counts"]
        if all(isinstance(size, list) for size in sizes) and not any(isinstance(count, int) for count in counts):
            _common_length(size=sizes, counts=counts)
            return [{"size": size, "counts": count} for size, count in zip(sizes, counts, strict=True)]
    return _as_list(value)


def _common_length(**lists: list) -> int:
    """Return the number of objects, which is the length of all lists that are not empty."""
    sizes = {name: len(values) for name, values in lists.items() if values}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the columns differ in length: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
        )
    return next(iter(sizes.values()), 0)


def _mask_list(row: dict, context: Context) -> list[Shape]:
    labels, masks = (_as_list(context.columns.take(row, role)) for role in ("labels", "masks"))
    shapes = []
    if labels and len(labels) != len(masks):
        raise ValueError(f"the columns differ in length: labels {len(labels)}, masks {len(masks)}")
    for i, mask in enumerate(masks):
        label = _item_or_none(labels, i)
        shape = Shape(f"mask {i}", context.options.class_name if label is None else label)
        if shape.label is None:
            shape.problem = (
                "it has no class; name the column, `column_mapping: {labels: COLUMN}`, or give `class_name`"
            )
        shape.mask = partial(open_image, mask, context, read_binary_mask)
        shapes.append(shape)
    return shapes


def _ade(row: dict, context: Context) -> list[Shape]:
    """Convert an image with the class in red and the object in green (Transformers' instance segmentation example)."""
    values = open_image(context.columns.take(row, "masks"), context)
    if values.ndim != 3:
        raise ValueError(
            "the annotation image has one channel; this schema has the class in red and the object in green"
        )
    pairs = values[..., 0].astype(np.int32) * 256 + values[..., 1]
    shapes = []
    numbers = np.unique(pairs).tolist()
    _refuse_too_many(numbers)
    for pair in numbers:
        label, instance = divmod(pair, 256)
        if label and instance:
            shapes.append(Shape(f"class {label}, object {instance}", label, mask=partial(np.equal, pairs, pair)))
    return shapes


def _panoptic(row: dict, context: Context) -> list[Shape]:
    """Convert COCO panoptic segments, whose id is R + 256 G + 65536 B."""
    values = open_image(context.columns.take(row, "masks"), context).astype(np.int64)
    ids = values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]
    shapes = []
    for segment in _structs(context.columns.take(row, "segments")):
        if segment.get("id") is None:
            raise ValueError("`segments_info` has no `id`, so that segments cannot be found in the image")
        if segment.get("isthing") in (0, False):
            # Stuff is present but not an object: its class is neither a positive nor an absent phrase.
            shapes.append(Shape(f"segment {segment['id']}", segment.get("category_id"), exhaustive=False))
            continue
        shape = Shape(
            f"segment {segment['id']}", segment.get("category_id"), mask=partial(np.equal, ids, segment["id"])
        )
        shape.is_crowd = segment.get("iscrowd") in (1, True)
        shapes.append(shape)
    return shapes


def _structs(value) -> list[dict]:
    if isinstance(value, dict):
        return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    return _as_list(value)


def _class_map(row: dict, context: Context) -> list[Shape]:
    kind, values = context.options.mask_values, open_image(context.columns.take(row, "masks"), context, read_numbers)
    if context.options.class_name in context.names:  # With a single class, all values except 0 are the class.
        values = values if kind == "instances" else values != 0
        return [replace(s, label=context.options.class_name) for s in shapes_of_values(values, kind, {1: ""})]
    return shapes_of_values(values, kind, context.names, find_roles(context.names, context.options))


def _sa1b(row: dict, context: Context) -> list[Shape]:
    return sa1b_shapes(context.columns.take(row, "sa1b"), context.options.class_name)


def _has_phrase_masks(columns: Columns) -> bool:
    return "phrase" in columns and ("masks" in columns or "segmentation" in columns)


def _has_mask_list(columns: Columns) -> bool:
    if "masks" not in columns:
        return False
    feature = columns.feature("masks")
    return is_image(inside(feature)) and not is_image(feature)


_STUFF_NOTE = (
    "panoptic segments with `isthing` false are stuff and left out; without `isthing`, drop stuff classes with "
    "`phrase_map` (sky: null)"
)
SCHEMAS = (
    Schema("one row a phrase, with its masks", _has_phrase_masks, _phrase_rows, True),
    Schema("objects with polygons or RLE", lambda c: "segmentation" in c, _objects),
    Schema("SA-1B", lambda c: "sa1b" in c, _sa1b, needs_class_name=True),
    Schema("a list of mask images", _has_mask_list, _mask_list),
    Schema("an image of classes (red) and objects (green)", lambda c: "masks" in c and "class_ids" in c, _ade),
    Schema("panoptic segments", lambda c: "masks" in c and "segments" in c, _panoptic, note=_STUFF_NOTE),
    Schema("an image of class numbers", lambda c: "masks" in c, _class_map, needs_mask_values=True),
)


def find_schema(columns: Columns) -> Schema:
    """
    Find the schema of a data set.

    Args:
        columns (`Columns`): Columns by role.

    Returns:
        `Schema`: The first of `SCHEMAS` that fits.

    Raises:
        `ValueError`: If no column contains masks.
    """
    for schema in SCHEMAS:
        if schema.fits(columns):
            return schema
    roles = ", ".join(f"{role}: {column}" for role, column in columns.roles.items())
    kind = "boxes only, but training needs masks" if "boxes" in columns else "no masks"
    raise ValueError(
        f"the data set has {kind} (roles: {roles}; columns: {', '.join(columns.features)}). If a column contains "
        "masks, "
        "set `column_mapping: {masks: COLUMN}` or `{segmentation: COLUMN}`"
    )


def declared_names(columns: Columns) -> list[str] | None:
    """Return the class names that the feature of the labels declares, or `None`."""
    feature = inside(columns.feature("labels")) if "labels" in columns else None
    return list(feature.names) if isinstance(feature, ClassLabel) else None
