"""
Transforms: one axis-aligned map from the image to the canvas of the model (crop, flip, resize, pad).

The same map applies to pixels, masks and boxes in one step, so that a mask is decoded and resampled once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from ...options.augmentation import TransformOptions


SIDED_WORDS = frozenset({"left", "right", "leftmost", "rightmost", "clockwise", "counterclockwise"})
OFFICIAL_SIDES = range(480, 993, 32)  # px of 1008, from `RandomResize` of the official fine-tuning recipe


@dataclass
class Geometry:
    """
    Map from a window of the image to a target rectangle of the canvas.

    Attributes:
        window (`tuple[int, int, int, int]`): `(x, y, w, h)` in the image, px.
        flip (`bool`): Mirror the window horizontally.
        target (`tuple[int, int, int, int]`): `(x, y, w, h)` on the canvas, px.
        canvas (`int`): Side of the canvas in px. The rest is padded with 0 before normalisation, as in the official
            code.
    """

    window: tuple[int, int, int, int]
    flip: bool
    target: tuple[int, int, int, int]
    canvas: int

    @classmethod
    def whole(cls, width: int, height: int, canvas: int) -> "Geometry":
        """
        Build the map of the whole image to the whole canvas, as evaluation and the SAM 3 processor use it.

        Args:
            width (`int`): Width of the image, px.
            height (`int`): Height of the image, px.
            canvas (`int`): Side of the canvas, px.
        """
        return cls((0, 0, width, height), False, (0, 0, canvas, canvas), canvas)

    @property
    def reduction(self) -> float:
        """Pixels of the image to a pixel of the canvas, along the side where they are fewer."""
        return min(self.window[2] / self.target[2], self.window[3] / self.target[3])

    def image(self, image: Image.Image, reduction: int = 1) -> np.ndarray:
        """
        Resample an image onto the canvas, bilinear with antialiasing.

        Args:
            image (`PIL.Image.Image`): RGB image.
            reduction (`int`): Factor by which the image was reduced when it was decoded.

        Returns:
            `np.ndarray` of shape `(3, canvas, canvas)`: Pixels, uint8.
        """
        x, y, w, h = self.window
        tx, ty, tw, th = self.target
        if image.size == (w, h):
            # PyTorch's kernel, which the processor uses too, takes a third of the time of Pillow's.
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            pixels = F.interpolate(pixels[None], (th, tw), mode="bilinear", antialias=True)[0]
        else:  # Pillow resamples parts of an image, whose edges may be fractions of a pixel.
            box = x / reduction, y / reduction, (x + w) / reduction, (y + h) / reduction
            image = image.resize((tw, th), Image.Resampling.BILINEAR, box=box)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        canvas = torch.zeros(3, self.canvas, self.canvas, dtype=torch.uint8)
        canvas[:, ty : ty + th, tx : tx + tw] = pixels.flip(-1) if self.flip else pixels
        return canvas.numpy()

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """
        Resample a mask onto the canvas, nearest pixel.

        Args:
            mask (`np.ndarray` of shape `(height, width)`): Mask at the size of the image, bool.

        Returns:
            `np.ndarray` of shape `(canvas, canvas)`: Mask, bool.
        """
        canvas = np.zeros((self.canvas, self.canvas), dtype=bool)
        self.paint(mask, canvas)
        return canvas

    @cached_property
    def _sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the image for each row and column of the target, ascending, without the flip."""
        x, y, w, h = self.window
        tw, th = self.target[2:]
        rows = y + ((np.arange(th) + 0.5) * h / th).astype(np.int64)
        return rows, x + ((np.arange(tw) + 0.5) * w / tw).astype(np.int64)

    def paint(self, mask: np.ndarray, canvas: np.ndarray, corner: Sequence[int] = (0, 0)) -> list[int] | None:
        """
        Draw a mask, or the part of it that is set, on an empty canvas, nearest pixel.

        Args:
            mask (`np.ndarray` of shape `(h, w)`): Part of a mask at the size of the image, bool.
            canvas (`np.ndarray` of shape `(canvas, canvas)`): Zeros, bool; changed in place.
            corner (`Sequence[int]`): `(x, y)` of the part in the image, px. Default: `(0, 0)`, the whole mask.

        Returns:
            `list[int]` or `None`: Tight box `(x1, y1, x2, y2)` on the canvas, far edges exclusive; `None` if no pixel
                is left.
        """
        (x, y), (h, w), (tx, ty, tw, _) = corner, mask.shape, self.target
        rows, columns = self._sources
        top, bottom = np.searchsorted(rows, (y, y + h)).tolist()
        left, right = np.searchsorted(columns, (x, x + w)).tolist()
        piece = mask.take(columns[left:right] - x, axis=1).take(rows[top:bottom] - y, axis=0)
        piece = piece[:, ::-1] if self.flip else piece
        top, left = ty + top, tx + (tw - right if self.flip else left)
        canvas[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        ys, xs = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
        if not len(ys):
            return None
        return [left + int(xs[0]), top + int(ys[0]), left + int(xs[-1]) + 1, top + int(ys[-1]) + 1]

    def box_xyxy(self, box_xywh: list[float]) -> np.ndarray:
        """
        Map a box to the canvas and clip it to the window.

        Args:
            box_xywh (`list[float]`): `(x, y, w, h)` in the image, px.

        Returns:
            `np.ndarray` of shape `(4,)`: `(x1, y1, x2, y2)` on the canvas, px.
        """
        x, y, w, h = self.window
        tx, ty, tw, th = self.target
        x1, y1, bw, bh = box_xywh
        xs = np.clip([(x1 - x) / w, (x1 + bw - x) / w], 0, 1)
        ys = np.clip([(y1 - y) / h, (y1 + bh - y) / h], 0, 1)
        if self.flip:
            xs = 1 - xs[::-1]
        return np.array([tx + xs[0] * tw, ty + ys[0] * th, tx + xs[1] * tw, ty + ys[1] * th], dtype=np.float32)

    def visible_share(self, mask: np.ndarray, corner: Sequence[int] = (0, 0)) -> float:
        """
        Compute the share of a mask that lies inside the window.

        Args:
            mask (`np.ndarray` of shape `(h, w)`): Part of a mask at the size of the image, bool; zeros around it.
            corner (`Sequence[int]`): `(x, y)` of the part in the image, px. Default: `(0, 0)`, the whole mask.
        """
        x, y = self.window[0] - corner[0], self.window[1] - corner[1]
        right, bottom = x + self.window[2], y + self.window[3]
        if x <= 0 and y <= 0 and bottom >= mask.shape[0] and right >= mask.shape[1]:
            return float(mask.any())
        visible = mask[max(y, 0) : max(bottom, 0), max(x, 0) : max(right, 0)]
        return float(visible.sum()) / max(float(mask.sum()), 1.0)


def draw_geometry(
    width: int, height: int, texts: list[str], rng: np.random.Generator, options: TransformOptions
) -> Geometry:
    """
    Draw the random geometry of a training sample.

    Args:
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.
        texts (`list[str]`): Phrases of the image; a word of `SIDED_WORDS` in one of them prevents the flip.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        options (`TransformOptions`): Options of the transforms.
    """
    window = (0, 0, width, height)
    if rng.random() < options.crop_probability:
        w = max(round(width * rng.uniform(options.min_crop, 1.0)), 1)
        h = max(round(height * rng.uniform(options.min_crop, 1.0)), 1)
        window = (int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
    flip = rng.random() < options.flip_probability
    if any(SIDED_WORDS & set(text.lower().split()) for text in texts):
        flip = False
    canvas = options.resolution
    target = (0, 0, canvas, canvas)
    if options.resize == "official":
        side = min(max(round(int(rng.choice(OFFICIAL_SIDES)) * canvas / 1008), 1), canvas)
        target = (int(rng.integers(canvas - side + 1)), int(rng.integers(canvas - side + 1)), side, side)
    return Geometry(window, flip, target, canvas)


def jitter_colors(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """
    Multiply brightness, contrast and saturation by random factors.

    Args:
        image (`PIL.Image.Image`): RGB image.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        strength (`float`): Each factor is uniform in `1 ± strength`; 0 returns the image itself.
    """
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        factor = float(rng.uniform(1 - strength, 1 + strength))
        if strength > 0:
            image = enhance(image).enhance(factor)
    return image
