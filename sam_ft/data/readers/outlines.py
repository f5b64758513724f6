"""Polygons of outlines that annotation tools store as parameters, such as ellipses."""

import math

import numpy as np

from ...ops.masks import decode_mask, polygons_to_counts
from ...utils.text import short_repr


_NUM_CORNERS = 36  # of the polygon of an ellipse, whose area is 0.5 % too small


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> list[float]:
    """
    Compute the polygon of an ellipse.

    Args:
        cx (`float`): x of the center, px.
        cy (`float`): y of the center, px.
        rx (`float`): Semi-axis along x before the rotation, px.
        ry (`float`): Semi-axis along y before the rotation, px.
        theta (`float`): Rotation in radians, clockwise on the screen (y points down), 0 by default.

    Returns:
        `list[float]`: `[x1, y1, x2, y2, …]`, px.
    """
    points = []
    for i in range(_NUM_CORNERS):
        x, y = rx * math.cos(2 * math.pi * i / _NUM_CORNERS), ry * math.sin(2 * math.pi * i / _NUM_CORNERS)
        points += [cx + x * math.cos(theta) - y * math.sin(theta), cy + x * math.sin(theta) + y * math.cos(theta)]
    return points


def flatten_points(points) -> list[float]:
    """
    Convert points of the form `{"x": …, "y": …}` to a polygon.

    Args:
        points (`list[dict]`): The points, px.

    Returns:
        `list[float]`: `[x1, y1, x2, y2, …]`, px.

    Raises:
        `ValueError`: If it is not a list of such points.
    """
    try:
        return [float(point[name]) for point in points for name in ("x", "y")]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'the points are {short_repr(points)}; expected [{{"x": …, "y": …}}, …]') from error


def draw_polygons(polygons: list, width: int, height: int) -> np.ndarray:
    """
    Compute the mask of the union of polygons.

    Args:
        polygons (`list[list[float]]`): Parts `[x1, y1, x2, y2, …]`, px.
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.

    Returns:
        `np.ndarray` of shape `(height, width)`: bool.

    Raises:
        `ValueError`: If a part is not a polygon.
    """
    return decode_mask(polygons_to_counts(polygons, height, width), height, width)
