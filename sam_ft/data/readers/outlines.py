"""Polygons of outlines that annotation tools store as parameters, such as ellipses."""

import math


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
