"""Regions of a Label Studio task: geometry in percent of the image, labels and attributes."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...utils.text import short_repr
from .brush_rle import decode_brush_rle
from .outlines import ellipse
from .records import Shape


_KINDS = ("polygon", "rectangle", "brush", "ellipse", "keypoint")
# Results about a whole image, or about a region that another result draws.
_FACTS = ("choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise", "ranker", "relation")


@dataclass
class Region:
    """
    Region of an image.

    Attributes:
        where (`str`): Name of the region in messages.
        kinds (`list[str]`): Types of the results that draw it, such as `polygonlabels`.
        value (`dict`): Geometry and labels.
        image_name (`str`, *optional*): Name of the image in the labelling interface.
        size (`tuple`, *optional*): Width and height of the image, px.
        rotation (`float`): Rotation of the image in the labelling interface, degrees.
        attributes (`dict[str, str]`): Choices of the region by the name of their question.
    """

    where: str
    kinds: list[str] = field(default_factory=list)
    value: dict = field(default_factory=dict)
    image_name: str | None = None
    size: tuple | None = None
    rotation: float = 0.0
    attributes: dict[str, str] = field(default_factory=dict)


def group_regions(results: list, notes: list[str]) -> tuple[list[Region], list[Shape]]:
    """
    Join the results of an annotation to regions: geometry, labels and choices of a region share its id.

    Args:
        results (`list`): `result` of an annotation.
        notes (`list[str]`): Notes of the reader; those on results that are not read are added.

    Returns:
        `tuple[list[Region], list[Shape]]`: The regions, and a shape with a problem for each result without meaning.
    """
    regions: dict[Hashable, Region] = {}
    problems, facts = [], []
    for number, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        kind = result.get("type") if isinstance(result, dict) else None
        if not isinstance(kind, str) or not isinstance(value, dict | None) or (value is None and kind != "relation"):
            problem = f"expected an object with `type` and `value`, found {short_repr(result)}"
            problems.append(Shape(f"result {number}", problem=problem))
        elif kind in _FACTS:
            facts.append((kind, result))
        else:
            _add_result(regions, number, kind, result)
    for kind, result in facts:
        region = regions.get(str(result.get("id"))) if result.get("id") is not None else None
        if region is not None and kind == "choices":
            _add_choices(region, result)
        else:
            subject = "regions" if region is not None or kind == "relation" else "whole images"
            notes.append(f"results of the type {kind!r} of {subject} are not read")
    return list(regions.values()), problems


def _add_result(regions: dict[Hashable, Region], number: int, kind: str, result: dict):
    """Add a result to the region of its id, or to a new one if that region has a result of its type already."""
    name = str(result["id"]) if result.get("id") is not None else number
    if name in regions and kind in regions[name].kinds:
        name = number
    region = regions.setdefault(name, Region(f"region {name}"))
    region.kinds.append(kind)
    region.value |= result["value"]
    image_name = result.get("to_name")
    region.image_name = image_name if isinstance(image_name, str) else region.image_name
    sides = result.get("original_width"), result.get("original_height")
    region.size = sides if None not in sides else region.size
    rotation = result.get("image_rotation")
    region.rotation = rotation if isinstance(rotation, int | float) and rotation else region.rotation


def _add_choices(region: Region, result: dict):
    choices = result["value"].get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], str) and choices[0].strip():
        region.attributes[str(result.get("from_name"))] = choices[0]


def region_shapes(regions: list[Region], size: tuple | None) -> list[Shape]:
    """
    Convert regions to shapes.

    Args:
        regions (`list[Region]`): Regions of one image.
        size (`tuple`, *optional*): Width and height of the image, px.

    Returns:
        `list[Shape]`: A shape for each region and label; a region with two labels is an object of both classes.
    """
    shapes = []
    for region in regions:
        labels = _labels(region)
        for label in labels or [None]:
            shape = Shape(region.where, label, attributes=region.attributes)
            if not labels:
                shape.problem = "it has no label; set one in Label Studio and export again"
            else:
                _set_checked_geometry(shape, region, size)
            shapes.append(shape)
    return shapes


def _labels(region: Region) -> list[str]:
    """Return the labels of a region; the key is the type of its result, such as `polygonlabels`."""
    lists = [value for key, value in region.value.items() if key.endswith("labels") and isinstance(value, list)]
    return list(dict.fromkeys(v for values in lists for v in values if isinstance(v, str) and v.strip()))


def _set_checked_geometry(shape: Shape, region: Region, size: tuple | None):
    kinds = {kind.removesuffix("labels") for kind in region.kinds} - {""}
    if region.rotation:
        shape.problem = (
            f"the image is rotated by {region.rotation} degrees in Label Studio; save it upright and label it again"
        )
    elif region.size is not None and region.size != size:
        shape.problem = (
            f"`original_width`×`original_height` is {short_repr(region.size)}, another region of the task has "
            f"{short_repr(size)}; export the task again"
        )
    elif len(kinds) != 1 or not kinds <= set(_KINDS):
        shape.problem = (
            f"its type is {', '.join(sorted(map(repr, region.kinds)))}; expected one of {', '.join(_KINDS)}"
        )
    else:
        try:
            _set_geometry(shape, kinds.pop(), region.value, size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            shape.problem = f"`value` is {short_repr(region.value)} ({type(error).__name__}: {error}); draw it again"


def _set_geometry(shape: Shape, kind: str, value: dict, size: tuple | None):
    if kind == "polygon":
        points = [_fraction(v) for x, y in value["points"] for v in (x, y)]
        if value.get("closed") is False:
            raise ValueError("the polygon is not closed")
        shape.polygons, shape.relative_polygons = [points], True
    elif kind == "rectangle":
        x, y, width, height = (_fraction(value[key]) for key in ("x", "y", "width", "height"))
        shape.box, shape.relative_box = [x, y, width, height], True
        angle = math.radians(_finite(value.get("rotation") or 0))
        if angle:
            shape.box = _rotated_box(shape.box, angle, *_sides(size))
    elif kind == "ellipse":
        sides = _sides(size)
        cx, cy, rx, ry = (
            _fraction(value[key]) * sides[i % 2] for i, key in enumerate(("x", "y", "radiusX", "radiusY"))
        )
        shape.polygons = [ellipse(cx, cy, rx, ry, math.radians(_finite(value.get("rotation") or 0)))]
    elif kind == "brush":
        if "rle" not in value:
            raise ValueError("a brush without `rle`, as before version 1.0; export the project with a newer version")
        shape.mask = partial(decode_brush_rle, value["rle"], *_sides(size))


def _finite(value) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _fraction(percent) -> float:
    """Return a coordinate in percent as a fraction of the image."""
    number = _finite(percent)
    if not -50 <= number <= 150:
        raise ValueError(f"it contains {number:g}; coordinates of Label Studio are percent of the image, 0 to 100")
    return number / 100


def _sides(size: tuple | None) -> tuple[int, int]:
    if size is None or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"`original_width`×`original_height` is {short_repr(size)}, expected whole numbers")
    return size


def _rotated_box(box: list[float], angle: float, width: int, height: int) -> list[float]:
    """
    Return the box around a rectangle that is rotated about its upper left corner, clockwise on the screen.

    Args:
        box (`list[float]`): `(x, y, w, h)` before the rotation, in fractions of the image.
        angle (`float`): Angle in radians.
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.

    Returns:
        `list[float]`: `(x, y, w, h)`, in fractions of the image.
    """
    x, y, w, h = np.multiply(box, [width, height, width, height])
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [float(v) for v in (*(low / [width, height]), *((high - low) / [width, height]))]
