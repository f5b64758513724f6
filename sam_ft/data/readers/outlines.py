"""Outlines that tools store by their parameters, as polygons."""

import math


_CORNERS = 36  # of a round outline; its area is half a per cent short


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> list[float]:
    """`[x1, y1, …]` of an ellipse with centre and half axes in px, turned by `theta` (radians, clockwise as y points down)."""
    points = []
    for i in range(_CORNERS):
        x, y = rx * math.cos(2 * math.pi * i / _CORNERS), ry * math.sin(2 * math.pi * i / _CORNERS)
        points += [cx + x * math.cos(theta) - y * math.sin(theta), cy + x * math.sin(theta) + y * math.cos(theta)]
    return points
