"""What of an image is shown to the model: the whole, and for large images tiles of it."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..data.row_schema import open_image_value, to_rgb
from ..data.samples.transforms import Geometry


@dataclass
class View:
    """A window of an image, `(x, y, w, h)` px, on the model's canvas `(3, R, R)`, uint8."""

    window: tuple[int, int, int, int]
    canvas: torch.Tensor


@dataclass
class Views:
    """An image as the model is shown it. The whole comes first. `problem`: why there is nothing to show."""

    name: str
    size: tuple[int, int]  # height, width in px
    views: list[View]
    problem: str | None = None


def windows_of(width: int, height: int, tile_size: int | None, overlap: float) -> list[tuple[int, int, int, int]]:
    """
    The whole image, then tiles that cover it where it is larger than one.

    Args:
        width (`int`), height (`int`): px. tile_size (`int`, *optional*): side of a tile, px; none where not given.
        overlap (`float`): share of its side that a tile has in common with the next one, at least.
    """
    windows = [(0, 0, width, height)]
    if tile_size is not None and max(width, height) > tile_size:
        for y in _starts(height, tile_size, overlap):
            windows += [
                (x, y, min(tile_size, width), min(tile_size, height)) for x in _starts(width, tile_size, overlap)
            ]
    return windows


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    if side <= tile:
        return [0]
    number = int(np.ceil((side - tile) / max(tile * (1 - overlap), 1))) + 1
    return np.linspace(0, side - tile, number).round().astype(int).tolist()


def views_of(
    image: Image.Image, name: str, resolution: int, tile_size: int | None = None, overlap: float = 0.2
) -> Views:
    """Cuts an image; see [`windows_of`]."""
    image = to_rgb(image)
    width, height = image.size
    windows = windows_of(width, height, tile_size, overlap)
    # one tensor for all: what a worker sends takes a file handle a tensor
    canvases = torch.empty(len(windows), 3, resolution, resolution, dtype=torch.uint8)
    for canvas, window in zip(canvases, windows, strict=True):
        geometry = Geometry(window, False, (0, 0, resolution, resolution), resolution)
        canvas.copy_(torch.from_numpy(geometry.image(image)).permute(2, 0, 1))
    return Views(
        name, (height, width), [View(window, canvas) for window, canvas in zip(windows, canvases, strict=True)]
    )


def open_own_image(file: str) -> Image.Image:
    """
    As [`open_image_value`], without Pillow's limit against files from strangers: these were named by their owner, and may be surveys of
    gigapixels.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return open_image_value(file)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


class FileViews(Dataset):
    """[`Views`] of files, made in the worker that loads them; a file that cannot be read says why."""

    def __init__(self, files: dict[str, str], resolution: int, tile_size: int | None = None, overlap: float = 0.2):
        self.files, self.resolution, self.tile_size, self.overlap = list(files.items()), resolution, tile_size, overlap

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index: int) -> Views:
        name, file = self.files[index]
        try:
            image = open_own_image(file)
        except ValueError as error:
            return Views(name, (0, 0), [], problem=str(error))
        return views_of(image, name, self.resolution, self.tile_size, self.overlap)
