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
