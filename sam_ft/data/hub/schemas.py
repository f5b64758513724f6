"""The schemas that Hub data sets have, and what a row of each says."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from datasets import ClassLabel
from PIL import Image as PILImage

from ..phrases.vocabulary import normalize_phrase
from ..readers.image_roots import ImageRoots
from ..readers.images import IMAGE_ERRORS
from ..readers.mask_values import read_numbers, read_one_mask, shapes_of_values
from ..readers.records import ReadOptions, Shape
from ..readers.sa1b import sa1b_shapes
from ..row_schema import MAX_INSTANCES, too_many_instances
from .columns import Columns, inside, is_image


@dataclass
class Context:
    """
    Attributes:
        columns (`Columns`), options (`ReadOptions`).
        names (`dict`): a label as rows have it -> the class's name; empty where rows have names or phrases.
        roots (`ImageRoots`): folders that image files may lie in.
    """

    columns: Columns
    options: ReadOptions
    names: dict
    roots: ImageRoots


@dataclass
class Schema:
    """
    Attributes:
        says (`str`): what it is, for the report.
        fits (`Callable[[Columns], bool]`), shapes (`Callable[[dict, Context], list[Shape]]`).
        one_phrase_a_row (`bool`): rows of one image are gathered. needs_class_name (`bool`): nothing in it names a class.
        needs_mask_values (`bool`): nothing says what its numbers are. note (`str`): what is assumed of it.
    """

    says: str
    fits: Callable[[Columns], bool]
    shapes: Callable[[dict, Context], list[Shape]]
    one_phrase_a_row: bool = False
    needs_class_name: bool = False
    needs_mask_values: bool = False
    note: str = ""


def _channels(file) -> np.ndarray:
    with PILImage.open(file) as image:
        return np.asarray(image)


def open_image(value, context: Context, read: Callable = _channels) -> np.ndarray:
    """
    Open an undecoded mask image.

    Args:
        value (`dict`): `{"bytes", "path"}`.
        context (`Context`): Names the folders that files may lie in.
        read (`Callable`): Makes the result of an open file or a path; its channels where not given.

    Raises:
        `ValueError`: Where it cannot be read, or lies elsewhere.
    """
    try:
        if value.get("bytes"):
            return read(io.BytesIO(value["bytes"]))
        context.roots.check(Path(value.get("path")))
        return read(value.get("path"))
    except (TypeError, AttributeError, *IMAGE_ERRORS) as error:
        raise ValueError(f"a mask image cannot be read ({error})") from error


def _listed(value) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _limit(objects: list) -> None:
    if len(objects) > MAX_INSTANCES:
        raise ValueError(too_many_instances(len(objects)))


def _at(values: list, index: int):
    return values[index] if index < len(values) else None


def _phrase_rows(row: dict, context: Context) -> list[Shape]:
    text = context.columns.take(row, "phrase")
    phrase = normalize_phrase(text) if isinstance(text, str) else ""
    if not phrase:
        return [Shape("the row", problem=f"`{context.columns.roles['phrase']}` is {text!r}; expected a noun phrase")]
    if "masks" in context.columns:
        masks = _listed(context.columns.take(row, "masks"))
        _limit(masks)
        shapes = (
            Shape(f"mask {i}", phrase, mask=partial(open_image, m, context, read_one_mask))
            for i, m in enumerate(masks)
        )
        return [shape for shape in shapes if shape.with_mask().mask.any()]
    return _segmentations(row, context, [], phrase)


def _objects(row: dict, context: Context) -> list[Shape]:
    return _segmentations(row, context, _listed(context.columns.take(row, "labels")), context.options.class_name)


def _segmentations(row: dict, context: Context, labels: list, unnamed: str | None) -> list[Shape]:
    """`unnamed`: what objects without a label are."""
    columns = context.columns
    drawn, boxes = _drawn(columns.take(row, "segmentation")), _listed(columns.take(row, "boxes"))
    crowds, shapes = _listed(columns.take(row, "crowds")), []
    number = _length(segmentation=drawn, boxes=boxes, labels=labels, crowds=crowds)
    for i in range(number):
        label, segmentation = _at(labels, i), _at(drawn, i)
        shape = Shape(f"object {i}", unnamed if label is None else label)
        # of a box beside a mask nobody says whether it is xywh, xyxy, or a fraction
        shape.box = None if segmentation else _at(boxes, i)
        shape.is_crowd = _at(crowds, i) in (1, True)
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


def _drawn(value) -> list:
    """One segmentation for each object; RLEs may stand as a struct of lists, sizes beside counts."""
    if isinstance(value, dict) and isinstance(value.get("size"), list) and isinstance(value.get("counts"), list):
        sizes, counts = value["size"], value["counts"]
        if all(isinstance(size, list) for size in sizes) and not any(isinstance(count, int) for count in counts):
            _length(size=sizes, counts=counts)
            return [{"size": size, "counts": count} for size, count in zip(sizes, counts, strict=True)]
    return _listed(value)


def _length(**lists: list) -> int:
    """Of lists that speak of the same objects; empty ones say nothing."""
    sizes = {name: len(values) for name, values in lists.items() if values}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the columns differ in length: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
        )
    return next(iter(sizes.values()), 0)


def _mask_list(row: dict, context: Context) -> list[Shape]:
    labels, masks = (_listed(context.columns.take(row, role)) for role in ("labels", "masks"))
    shapes = []
    if labels and len(labels) != len(masks):
        raise ValueError(f"the columns differ in length: labels {len(labels)}, masks {len(masks)}")
    for i, mask in enumerate(masks):
        label = _at(labels, i)
        shape = Shape(f"mask {i}", context.options.class_name if label is None else label)
        if shape.label is None:
            shape.problem = (
                "it has no class; name the column, `column_mapping: {labels: COLUMN}`, or give `class_name`"
            )
        shape.mask = partial(open_image, mask, context, read_one_mask)
        shapes.append(shape)
    return shapes


def _ade(row: dict, context: Context) -> list[Shape]:
    """Red is the class, green the object (Transformers' instance segmentation example)."""
    values = open_image(context.columns.take(row, "masks"), context)
    if values.ndim != 3:
        raise ValueError(
            "the annotation image has one channel; this schema holds the class in red and the object in green"
        )
    pairs = values[..., 0].astype(np.int32) * 256 + values[..., 1]
    shapes = []
    numbers = np.unique(pairs).tolist()
    _limit(numbers)
    for pair in numbers:
        label, instance = divmod(pair, 256)
        if label and instance:
            shapes.append(Shape(f"class {label}, object {instance}", label, mask=partial(np.equal, pairs, pair)))
    return shapes


def _panoptic(row: dict, context: Context) -> list[Shape]:
    """A segment's id is R + 256 G + 65536 B (COCO panoptic)."""
    values = open_image(context.columns.take(row, "masks"), context).astype(np.int64)
    ids = values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]
    shapes = []
    for segment in _structs(context.columns.take(row, "segments")):
        if segment.get("id") is None:
            raise ValueError("`segments_info` has no `id`, so that segments cannot be found in the image")
        if segment.get("isthing") in (0, False):
            # it is there, and no object: its class is neither asked nor absent
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
    return _listed(value)


def _class_map(row: dict, context: Context) -> list[Shape]:
    kind, values = context.options.mask_values, open_image(context.columns.take(row, "masks"), context, read_numbers)
    if context.options.class_name in context.names:  # the only class: every number but 0
        values = values if kind == "instances" else values != 0
        return [replace(s, label=context.options.class_name) for s in shapes_of_values(values, kind, {1: ""})]
    return shapes_of_values(values, kind, context.names)


def _sa1b(row: dict, context: Context) -> list[Shape]:
    return sa1b_shapes(context.columns.take(row, "sa1b"), context.options.class_name)


_STUFF = "panoptic segments with `isthing` false are stuff and left out; where nothing says so, drop stuff by `phrase_map` (sky: null)"
SCHEMAS = (
    Schema("one row a phrase, with its masks", lambda c: "phrase" in c and ("masks" in c or "segmentation" in c), _phrase_rows, True),
    Schema("objects with polygons or RLE", lambda c: "segmentation" in c, _objects),
    Schema("SA-1B", lambda c: "sa1b" in c, _sa1b, needs_class_name=True),
    Schema("a list of mask images", lambda c: "masks" in c and is_image(inside(c.feature("masks"))) and not is_image(c.feature("masks")), _mask_list),
    Schema("an image of classes (red) and objects (green)", lambda c: "masks" in c and "class_ids" in c, _ade),
    Schema("panoptic segments", lambda c: "masks" in c and "segments" in c, _panoptic, note=_STUFF),
    Schema("an image of class numbers", lambda c: "masks" in c, _class_map, needs_mask_values=True),
)  # fmt: skip


def find_schema(columns: Columns) -> Schema:
    """
    Raises:
        `ValueError`: where no column holds masks.
    """
    for schema in SCHEMAS:
        if schema.fits(columns):
            return schema
    roles = ", ".join(f"{role}: {column}" for role, column in columns.roles.items())
    kind = "boxes only, and masks are what is trained" if "boxes" in columns else "no masks"
    raise ValueError(
        f"the data set has {kind} (understood: {roles}; columns: {', '.join(columns.features)}). Where a column holds masks, name it: "
        "`column_mapping: {masks: COLUMN}` or `{segmentation: COLUMN}`"
    )


def label_names(columns: Columns) -> list[str] | None:
    """The classes that the labels' feature declares."""
    feature = inside(columns.feature("labels")) if "labels" in columns else None
    return list(feature.names) if isinstance(feature, ClassLabel) else None
