"""Positions of the labels of boxes, at which they hide neither small objects nor each other."""

import numpy as np


MAX_HIDDEN_SHARE = 1 / 8  # of the box of an object


def place_labels(
    boxes: list[list[float]],
    sizes: list[tuple[float, float]],
    area: tuple[float, float, float, float],
    anchors: list[float | None] | None = None,
) -> list[tuple[float, float] | None]:
    """
    Find a position for the label of each box: above it, below it, beside it, or inside its upper left corner.

    Args:
        boxes (`list[list[float]]`): Boxes `(x1, y1, x2, y2)`, px.
        sizes (`list[tuple[float, float]]`): Width and height of each label, px.
        area (`tuple[float, float, float, float]`): Part `(x1, y1, x2, y2)` of the picture that labels may cover, px.
        anchors (`list[float | None]`, *optional*): Horizontal centre of each label above its box, px; the label begins
            at the left side of the box without one.

    Returns:
        `list[tuple[float, float] | None]`: Upper left corner of each label; `None` if every position would hide more
            than an eighth of the box of an object, or another label.
    """
    objects = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    extent = np.maximum(np.prod(objects[:, 2:] - objects[:, :2], axis=1), 1.0)
    labels = np.zeros((0, 4))
    positions: list[tuple[float, float] | None] = []
    anchors = [None] * len(boxes) if anchors is None else anchors
    for (x1, y1, x2, y2), (width, height), anchor in zip(boxes, sizes, anchors, strict=True):
        above = x1 if anchor is None else anchor - width / 2
        candidates = ((above, y1 - height), (x1, y2), (x2, y1), (x1 - width, y1), (x1, y1))
        chosen = None
        for x, y in candidates:
            x, y = min(max(x, area[0]), area[2] - width), min(max(y, area[1]), area[3] - height)
            label = np.array([x, y, x + width, y + height])
            if x < area[0] or y < area[1] or _overlap(label, labels).any():
                continue
            if (_overlap(label, objects) <= MAX_HIDDEN_SHARE * extent).all():
                chosen = (x, y)
                labels = np.vstack([labels, label])
                break
        positions.append(chosen)
    return positions


def _overlap(label: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area of the intersection of a label with each of N boxes `(x1, y1, x2, y2)`."""
    low, high = np.maximum(label[:2], others[:, :2]), np.minimum(label[2:], others[:, 2:])
    return np.prod((high - low).clip(0), axis=1)
