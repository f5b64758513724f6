"""Synthetic scenes: objects with a shape, a colour, a size and a fill on textured backgrounds."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ...ops.masks import encode_mask
from ...options.scenes import SceneOptions


COLORS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (240, 205, 40),
    "green": (50, 150, 60),
    "blue": (33, 90, 210),
    "purple": (130, 50, 165),
    "black": (25, 25, 28),
}
# Radius as a share of the shorter side of the image. The gaps make "small" and "large" unambiguous.
SIZES = {"tiny": (0.045, 0.06), "small": (0.08, 0.11), "medium": (0.15, 0.19), "large": (0.24, 0.3)}
_SIZE_WEIGHTS = {"tiny": 0.08, "small": 0.2, "medium": 0.4, "large": 0.32}
_FILL_WEIGHTS = {"solid": 0.52, "outlined": 0.16, "striped": 0.16, "dotted": 0.16}


@dataclass
class SceneObject:
    """
    Object of a scene.

    Attributes:
        shape (`str`): Shape, of `ALL_SHAPES`.
        color (`str`): Colour, of `COLORS`.
        fill (`str`): Fill, of `FILLS`.
        size (`str`): Size, of `SIZES`.
        mask (`np.ndarray` of shape `(height, width)`): Visible part, bool.
    """

    shape: str
    color: str
    fill: str
    size: str
    mask: np.ndarray

    def rle(self) -> str:
        """Return the mask as `counts` of a compressed COCO RLE."""
        return encode_mask(self.mask)


def draw_scene(rng: np.random.Generator, options: SceneOptions) -> tuple[Image.Image, list[SceneObject]]:
    """
    Draw one scene.

    An object that would hide more than half of another object, or that would be less than half visible, is moved, and
    dropped after 20 tries. Every object of the image is thus in the ground truth.

    Args:
        rng (`np.random.Generator`): Random generator.
        options (`SceneOptions`): Options of the scene.

    Returns:
        `tuple[Image.Image, list[SceneObject]]`: The RGB image and its objects in drawing order.
    """
    pixels = _draw_ground(rng, options)
    for _ in range(rng.poisson(options.clutter)):
        _draw_scribble(pixels, rng)
    objects: list[SceneObject] = []
    full_areas: list[int] = []  # px of each object before others covered it
    for _ in range(int(rng.integers(options.min_shapes, options.max_shapes + 1))):
        shape, color, fill, size = _draw_attributes(rng, options)
        for _ in range(20):
            pose = _draw_pose(size, rng, options)
            mask, full_area = _draw_silhouette(shape, pose, options)
            # Two overlapping objects of one colour would have no visible edge.
            hides = any(
                (t.mask & ~mask).sum() * 2 < n or (t.color == color and (t.mask & mask).any())
                for t, n in zip(objects, full_areas)
            )
            if hides or mask.sum() < max(0.5 * full_area, 6):
                continue
            _paint(pixels, mask, color, fill, pose, rng)
            for scene_object in objects:
                scene_object.mask &= ~mask
            objects.append(SceneObject(shape, color, fill, size, mask))
            full_areas.append(int(mask.sum()))
            break
    noise = rng.normal(0, rng.uniform(0, 6), pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)), objects


def _draw_attributes(rng: np.random.Generator, options: SceneOptions) -> tuple[str, str, str, str]:
    size = _weighted(options.sizes, _SIZE_WEIGHTS, rng)
    shape, color = (values[rng.integers(len(values))] for values in (options.shapes, options.colors))
    # A pattern is not visible on an object of a few pixels.
    fill = "solid" if size == "tiny" else _weighted(options.fills, _FILL_WEIGHTS, rng)
    return shape, color, fill, size


def _weighted(values: list[str], weights: dict[str, float], rng: np.random.Generator) -> str:
    shares = np.array([weights[value] for value in values])
    return values[rng.choice(len(values), p=shares / shares.sum())]


@dataclass
class _Pose:
    """Centre `(x, y)` and radius in px, and rotation in radians."""

    centre: tuple[float, float]
    radius: float
    rotation: float


def _draw_pose(size: str, rng: np.random.Generator, options: SceneOptions) -> _Pose:
    low, high = SIZES[size]
    radius = float(rng.uniform(low, high)) * min(options.width, options.height)
    margin = -0.3 * radius if rng.random() < options.cut_off else radius
    x, y = (float(rng.uniform(margin, side - margin)) for side in (options.width, options.height))
    return _Pose((x, y), radius, float(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION)))


# ---- Shapes: outlines in [-1, 1], before rotation


def _polygon(corners: int) -> list[tuple[float, float]]:
    return [(math.sin(2 * math.pi * i / corners), -math.cos(2 * math.pi * i / corners)) for i in range(corners)]


def _crescent() -> list[tuple[float, float]]:
    """Return two arcs through the same tips, the inner one flatter."""
    angles = np.linspace(0.3 * math.pi, 1.7 * math.pi, 32)
    outer = [(math.cos(a), math.sin(a)) for a in angles]
    tip_x, tip_y = outer[0]
    inner = [(tip_x + 0.55 * (x - tip_x), y * (tip_y - 0.1 * (tip_x - x)) / tip_y) for x, y in reversed(outer)]
    return outer + inner


def _heart() -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    xs = 16 * np.sin(angles) ** 3
    ys = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    return [(x / 17, -(y + 2.5) / 15.5) for x, y in zip(xs, ys)]


def _arc(start: float, end: float, squeeze: float = 1.0) -> list[tuple[float, float]]:
    """Return points of an ellipse between two angles, in full turns; its height is `squeeze` times its width."""
    return [(math.cos(2 * math.pi * t), squeeze * math.sin(2 * math.pi * t)) for t in np.linspace(start, end, 32)]


_ARM = 0.32
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _polygon(48),
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _polygon(3),
    "rectangle": [(-1, -0.36), (1, -0.36), (1, 0.36), (-1, 0.36)],
    "crescent": _crescent(),
    "arrow": [(-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25)],
    "oval": _arc(0, 1, 0.55),
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "pentagon": _polygon(5),
    "trapezoid": [(-0.5, -0.6), (0.5, -0.6), (1, 0.6), (-1, 0.6)],
    "dome": [(x, y + 0.4) for x, y in _arc(0.5, 1)],
    "corner": [(-0.8, -0.9), (-0.25, -0.9), (-0.25, 0.35), (0.8, 0.35), (0.8, 0.9), (-0.8, 0.9)],
    "hammer": [
        (-0.9, -0.9), (0.9, -0.9), (0.9, -0.35), (0.28, -0.35), (0.28, 1), (-0.28, 1), (-0.28, -0.35), (-0.9, -0.35),
    ],
    "drop": [(0, -1), *((0.62 * x, 0.62 * y + 0.36) for x, y in _arc(-0.08, 0.58))],
    "bolt": [(0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2), (0.45, -1)],
    "hut": [(0, -1), (0.9, -0.2), (0.65, -0.2), (0.65, 0.85), (-0.65, 0.85), (-0.65, -0.2), (-0.9, -0.2)],
    "star": [(x * r, y * r) for (x, y), r in zip(_polygon(10), (1, 0.42) * 5)],
    "heart": _heart(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip
_MAX_ROTATION = 0.35  # radians to either side: a square on its corner would be a diamond


# Optional shapes; the embedded model was trained on them in the second half of its training.
def _draw_silhouette(shape: str, pose: _Pose, options: SceneOptions) -> tuple[np.ndarray, int]:
    """Return the mask inside the image, and the area in px that the object would have away from the border."""
    cos, sin = pose.radius * math.cos(pose.rotation), pose.radius * math.sin(pose.rotation)
    points = [(pose.centre[0] + cos * x - sin * y, pose.centre[1] + sin * x + cos * y) for x, y in _OUTLINES[shape]]
    canvas = Image.new("1", (options.width, options.height))
    ImageDraw.Draw(canvas).polygon(points, fill=1)
    xs, ys = np.array(points).T
    full_area = abs(float(np.dot(xs, np.roll(ys, 1)) - np.dot(ys, np.roll(xs, 1)))) / 2  # shoelace formula
    return np.array(canvas), int(full_area)


# ---- Colour and texture


def _paint(pixels: np.ndarray, mask: np.ndarray, color: str, fill: str, pose: _Pose, rng: np.random.Generator):
    """Paint the pixels of a mask in a colour, and the gaps of its fill in a pale grey."""
    ink = np.array(COLORS[color]) + rng.uniform(-14, 14, 3)
    paper = rng.uniform(232, 255)
    y, x = np.nonzero(mask)
    inked = np.ones(len(x), dtype=bool)
    step = max(0.42 * pose.radius, 4.0)
    u, v = _rotate(x - pose.centre[0], y - pose.centre[1], float(rng.uniform(0, math.pi)))
    if fill == "striped":
        inked = (u / step) % 1.0 < 0.55
    elif fill == "dotted":
        inked = ((u / step) % 1.0 - 0.5) ** 2 + ((v / step) % 1.0 - 0.5) ** 2 > 0.09
    elif fill == "outlined":
        inked = ~_erode(mask, max(round(0.16 * pose.radius), 1))[y, x]
    pixels[y, x] = np.where(inked[:, None], ink, paper)


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _erode(mask: np.ndarray, depth: int) -> np.ndarray:
    """Erode a mask by `depth` px; the edge of the image does not count as its border."""
    for _ in range(depth):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _draw_ground(rng: np.random.Generator, options: SceneOptions) -> np.ndarray:
    """Draw a textured background `(height, width, 3)`, float in [0, 255]; pale, and dark for `night`."""
    kind = options.grounds[rng.integers(len(options.grounds))]
    base = (
        rng.uniform(20, 55, 3) + (25, 25, 45) if kind == "night" else rng.uniform(175, 235) + rng.uniform(-14, 14, 3)
    )
    second = base + rng.uniform(-22, 22)
    angle, step = rng.uniform(0, math.pi), rng.uniform(0.06, 0.2) * min(options.width, options.height)
    y, x = np.mgrid[: options.height, : options.width]
    u, v = _rotate(x, y, angle)
    share = {
        "gradient": (u - u.min()) / (np.ptp(u) + 1),
        "checkered": ((u // step + v // step) % 2),
        "ruled": ((u / step) % 1.0 < 0.15),
        "speckled": rng.random(u.shape) < 0.12,
        "night": rng.random(u.shape) < 0.02,
    }.get(kind, np.zeros(u.shape))[..., None]
    if kind == "night":
        second = np.full(3, 200.0)  # colour of the stars
    return base * (1 - share) + second * share


def _draw_scribble(pixels: np.ndarray, rng: np.random.Generator):
    """Draw a thin line of a muted colour, which belongs to no object."""
    height, width = pixels.shape[:2]
    canvas = Image.new("1", (width, height))
    points = [(float(rng.uniform(0, width)), float(rng.uniform(0, height))) for _ in range(2)]
    ImageDraw.Draw(canvas).line(points, fill=1, width=int(rng.integers(1, 3)))
    pixels[np.array(canvas)] = pixels.mean() + rng.uniform(-90, 20, 3)
