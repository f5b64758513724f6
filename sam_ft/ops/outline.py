"""The outline of a mask as polygons whose rasterisation is the mask again."""

import numpy as np
from scipy import ndimage


def mask_to_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """
    Traces the edges between pixels.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool.

    Returns:
        `list[list[float]]` or `None`: a part `[x1, y1, x2, y2, …]` for each connected piece, corners alone, in px; `None` where the mask
        has a hole or pieces that touch at a corner, which polygons cannot say.
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
    The outlines of a mask for a person to correct: few points, holes filled.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool. tolerance (`float`): px that an outline may be off.

    Returns:
        `list[list[float]]`: a part `[x1, y1, x2, y2, …]` for each connected piece of more than three points, the largest first.
        `bool`: whether the mask has holes, which were filled.
    """
    whole = ndimage.find_objects(mask.astype(np.uint8))
    if not whole:
        return [], False
    top, left = whole[0][0].start, whole[0][1].start
    mask = mask[whole[0]]  # what is empty around it costs nothing
    filled = ndimage.binary_fill_holes(mask)
    labels, number = ndimage.label(filled)
    sizes, places = ndimage.sum_labels(filled, labels, range(1, number + 1)), ndimage.find_objects(labels)
    parts = []
    for piece in np.argsort(-np.asarray(sizes)) + 1:
        place = places[piece - 1]
        corner = left + place[1].start, top + place[0].start
        loop = np.array(_loops(labels[place] == piece)[0], dtype=np.float64) + corner
        # from corner to opposite corner, so that both halves are lines
        far = int(np.linalg.norm(loop - loop[0], axis=1).argmax())
        halves = loop[: far + 1], np.vstack([loop[far:], loop[:1]])
        simple = [point for half in halves for point in _simplified(half, tolerance)[:-1]]
        parts.append([float(v) for point in (simple if len(simple) > 2 else loop) for v in point])
    return parts, bool((filled & ~mask).any())


def _simplified(line: np.ndarray, tolerance: float) -> np.ndarray:
    """The points of a line `(n, 2)` that it needs (Douglas and Peucker 1973)."""
    kept, todo = {0, len(line) - 1}, [(0, len(line) - 1)]
    while todo:
        begin, end = todo.pop()
        if end - begin < 2:
            continue
        (x, y), (u, v) = line[begin], line[end]
        length = max(np.hypot(u - x, v - y), 1e-9)
        away = np.abs((u - x) * (line[begin + 1 : end, 1] - y) - (v - y) * (line[begin + 1 : end, 0] - x)) / length
        middle = begin + 1 + int(away.argmax())
        if away.max() > tolerance:
            kept.add(middle)
            todo += [(begin, middle), (middle, end)]
    return line[sorted(kept)]


def _loops(piece: np.ndarray) -> list[list[tuple[int, int]]]:
    """The closed outlines of one piece, each with the piece on its right, without points inside straight lines."""
    padded = np.pad(piece, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # an edge between a pixel of the piece and one beside it: (where it begins, where it ends), offsets to (y, x) of the pixel
    for (dy, dx), begin, end in (
        ((-1, 0), (0, 0), (0, 1)), ((0, 1), (0, 1), (1, 1)), ((1, 0), (1, 1), (1, 0)), ((0, -1), (1, 0), (0, 0))
    ):  # fmt: skip
        beside = np.roll(padded, (-dy, -dx), axis=(0, 1))
        for y, x in np.argwhere(padded & ~beside) - 1:
            steps.setdefault((x + begin[1], y + begin[0]), []).append((x + end[1], y + end[0]))
    loops = []
    while steps:
        start = point = next(iter(steps))
        loop = []
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
