"""Positions of the labels of boxes, at which they hide neither small objects nor each other."""

from collections.abc import Iterator

import numpy as np


MAX_HIDDEN_SHARE = 1 / 8  # of the box of an object
_MAX_BOXES_WITH_LEADERS = 40  # of a picture; more lines would hide the objects
_DISTANCES = (1.5, 3.0)  # of a label with a leader from its box, in heights of the label


def place_labels(
    boxes: list[list[float]],
    sizes: list[tuple[float, float]],
    area: tuple[float, float, float, float],
    anchors: list[float | None] | None = None,
) -> list[tuple[float, float] | None]:
    """
    Find a position for the label of each box: above it, below it, beside it, inside its upper left corner, or apart.

    A label apart from its box needs a line; see [`find_leader`].

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
    with_leaders = len(boxes) <= _MAX_BOXES_WITH_LEADERS
    for box, (width, height), anchor in zip(boxes, sizes, anchors, strict=True):
        chosen = None
        for x, y in _list_candidates(box, width, height, anchor, with_leaders=with_leaders):
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


def _list_candidates(
    box: list[float], width: float, height: float, anchor: float | None, *, with_leaders: bool
) -> Iterator[tuple[float, float]]:
    x1, y1, x2, y2 = box
    above = x1 if anchor is None else anchor - width / 2
    yield from ((above, y1 - height), (x1, y2), (x2, y1), (x1 - width, y1), (x1, y1))
    for distance in (share * height for share in _DISTANCES if with_leaders):
        center = (x1 + x2 - width) / 2
        yield from ((center, y1 - height - distance), (center, y2 + distance))
        for y in ((y1 + y2 - height) / 2, y1 - height - distance, y2 + distance):
            yield from ((x2 + distance, y), (x1 - width - distance, y))


def find_leader(
    box: list[float], position: tuple[float, float], size: tuple[float, float]
) -> tuple[float, float, float, float] | None:
    """
    Return the line from the label of a box to the box.

    Args:
        box (`list[float]`): Box `(x1, y1, x2, y2)`, px.
        position (`tuple[float, float]`): Upper left corner of the label, px.
        size (`tuple[float, float]`): Width and height of the label, px.

    Returns:
        `tuple[float, float, float, float]` or `None`: Ends `(x1, y1, x2, y2)` of the shortest line; `None` if the
            label is at the box.
    """
    begin, end = [0.0, 0.0], [0.0, 0.0]
    for axis in (0, 1):
        low, high = position[axis], position[axis] + size[axis]
        first, last = max(low, box[axis]), min(high, box[axis + 2])
        if first <= last:
            begin[axis] = end[axis] = (first + last) / 2
        else:
            begin[axis], end[axis] = (high, box[axis]) if high < box[axis] else (low, box[axis + 2])
    length = max(abs(begin[0] - end[0]), abs(begin[1] - end[1]))
    return None if length <= size[1] / 2 else (begin[0], begin[1], end[0], end[1])


def _overlap(label: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area of the intersection of a label with each of N boxes `(x1, y1, x2, y2)`."""
    low, high = np.maximum(label[:2], others[:, :2]), np.minimum(label[2:], others[:, 2:])
    return np.prod((high - low).clip(0), axis=1)
