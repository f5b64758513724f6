"""Outlines of masks as polygons."""

import numpy as np
from scipy import ndimage


def mask_to_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """
    Trace the edges between pixels, so that the polygons' rasterisation equals the mask.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): Bool mask.

    Returns:
        `list[list[float]]` or `None`: The corners `[x1, y1, x2, y2, …]` of each connected piece, in px; `None` where
        the mask has a hole or pieces that touch at a corner, which polygons cannot represent.
    """
    labels, number = ndimage.label(mask)
    parts = []
    for piece in range(1, number + 1):
        loops = _loops(labels == piece)
        if len(loops) != 1:
            return None
        parts.append([float(v) for point in loops[0] for v in point])
    return parts


def outlines(mask: np.ndarray, tolerance: float = 1.0) -> tuple[list[list[float]], bool]:
    """
    Compute simplified outlines of a mask for manual correction, with holes filled.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): Bool mask.
        tolerance (`float`): Maximum deviation of an outline, px, default 1.

    Returns:
        `tuple[list[list[float]], bool]`: The corners `[x1, y1, x2, y2, …]` of each connected piece, the largest first,
        and whether holes were filled.
    """
    whole = ndimage.find_objects(mask.astype(np.uint8))
    if not whole:
        return [], False
    top, left = whole[0][0].start, whole[0][1].start
    mask = mask[whole[0]]  # the empty margin is cropped to save time
    filled = ndimage.binary_fill_holes(mask)
    labels, number = ndimage.label(filled)
    sizes, slices = ndimage.sum_labels(filled, labels, range(1, number + 1)), ndimage.find_objects(labels)
    parts = []
    for piece in np.argsort(-np.asarray(sizes)) + 1:
        window = slices[piece - 1]
        corner = left + window[1].start, top + window[0].start
        loop = np.array(_loops(labels[window] == piece)[0], dtype=np.float64) + corner
        # The outline is split at two opposite corners into two lines.
        far = int(np.linalg.norm(loop - loop[0], axis=1).argmax())
        halves = loop[: far + 1], np.vstack([loop[far:], loop[:1]])
        simple = [point for half in halves for point in _simplify(half, tolerance)[:-1]]
        parts.append([float(v) for point in (simple if len(simple) > 2 else loop) for v in point])
    return parts, bool((filled & ~mask).any())


def _simplify(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Reduce the points of a line `(n, 2)` (Douglas and Peucker 1973)."""
    selected, todo = {0, len(line) - 1}, [(0, len(line) - 1)]
    while todo:
        begin, end = todo.pop()
        if end - begin < 2:
            continue
        (x, y), (u, v) = line[begin], line[end]
        length = max(np.hypot(u - x, v - y), 1e-9)
        distance = np.abs((u - x) * (line[begin + 1 : end, 1] - y) - (v - y) * (line[begin + 1 : end, 0] - x)) / length
        middle = begin + 1 + int(distance.argmax())
        if distance.max() > tolerance:
            selected.add(middle)
            todo += [(begin, middle), (middle, end)]
    return line[sorted(selected)]


def _loops(piece: np.ndarray) -> list[list[tuple[int, int]]]:
    """Trace the closed outlines of one piece, with the piece on the right and corner points only."""
    padded = np.pad(piece, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each entry is a neighbour's (dy, dx) and the (y, x) offsets from the pixel at which their common edge begins and
    # ends.
    for (dy, dx), begin, end in (
        ((-1, 0), (0, 0), (0, 1)), ((0, 1), (0, 1), (1, 1)), ((1, 0), (1, 1), (1, 0)), ((0, -1), (1, 0), (0, 0))
    ):  # fmt: skip
        beside = np.roll(padded, (-dy, -dx), axis=(0, 1))
        for y, x in np.argwhere(padded & ~beside) - 1:
            steps.setdefault((x + begin[1], y + begin[0]), []).append((x + end[1], y + end[0]))
    loops = []
    while steps:
        start = point = next(iter(steps))
        loop: list[tuple[int, int]] = []
        while not loop or point != start:
            nexts = steps[point]
            if len(nexts) > 1:
                return [[], []]  # two pixels that touch at a corner
            loop.append(point)
            del steps[point]
            point = nexts[0]
        corners = [
            p for before, p, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
            if (p[0] - before[0]) * (after[1] - p[1]) != (p[1] - before[1]) * (after[0] - p[0])
        ]  # fmt: skip
        loops.append([(int(x), int(y)) for x, y in corners])
    return loops
