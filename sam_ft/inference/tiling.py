"""Views of an image: the whole image on the model's canvas, and tiles of large images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..data.image_channels import describe_channels, read_channels
from ..data.image_entries import ImageEntry
from ..data.row_schema import open_image_value, to_rgb
from ..data.samples.transforms import Geometry


@dataclass
class View:
    """
    One view of an image.

    Attributes:
        window (`tuple[int, int, int, int]`): Window `(x, y, w, h)` in px of the image.
        canvas (`torch.Tensor` of shape `(3, R, R)`): Its pixels at the model's resolution, uint8.
    """

    window: tuple[int, int, int, int]
    canvas: torch.Tensor


@dataclass
class Views:
    """
    All views of one image.

    Attributes:
        name (`str`): Name of the image.
        size (`tuple[int, int]`): Height and width, px.
        views (`list[View]`): The whole image, then its tiles.
        problem (`str`, *optional*): Reason why the image cannot be read.
    """

    name: str
    size: tuple[int, int]
    views: list[View]
    problem: str | None = None


@dataclass
class PackedViews:
    """
    Views of several images with their pixels in one tensor, because a worker sends each tensor by a file handle.

    Attributes:
        images (`list[Views]`): The images; their canvases are empty.
        canvases (`torch.Tensor` of shape `(views, 3, R, R)`): Pixels of all views, uint8.
    """

    images: list[Views]
    canvases: torch.Tensor

    @classmethod
    def pack(cls, images: list[Views]) -> "PackedViews":
        """Pack the images of a batch."""
        views = [view for image in images for view in image.views]
        canvases = torch.stack([view.canvas for view in views]) if views else torch.empty(0)
        for view in views:
            view.canvas = None
        return cls(images, canvases)

    def unpack(self) -> list[Views]:
        """Return the images with their canvases."""
        canvases = iter(self.canvases)
        for image in self.images:
            for view in image.views:
                view.canvas = next(canvases)
        return self.images


def compute_windows(width: int, height: int, tile_size: int | None, overlap: float) -> list[tuple[int, int, int, int]]:
    """
    Compute the windows of an image: the whole image, then tiles that cover it if it is larger than one tile.

    Args:
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.
        tile_size (`int`, *optional*): Side of a tile, px; no tiles by default.
        overlap (`float`): Minimum share of its side that a tile has in common with the next one.

    Returns:
        `list[tuple[int, int, int, int]]`: Windows `(x, y, w, h)`, px.
    """
    windows = [(0, 0, width, height)]
    if tile_size is not None and max(width, height) > tile_size:
        for y in _tile_starts(height, tile_size, overlap):
            windows += [
                (x, y, min(tile_size, width), min(tile_size, height)) for x in _tile_starts(width, tile_size, overlap)
            ]
    return windows


def _tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    if side <= tile:
        return [0]
    number = int(np.ceil((side - tile) / max(tile * (1 - overlap), 1))) + 1
    return np.linspace(0, side - tile, number).round().astype(int).tolist()


def cut_views(
    image: Image.Image, name: str, resolution: int, tile_size: int | None = None, overlap: float = 0.2
) -> Views:
    """
    Cut an image into views and resize each to the model's canvas.

    Args:
        image (`PIL.Image.Image`): The image.
        name (`str`): Its name.
        resolution (`int`): Side of the canvas, px.
        tile_size (`int`, *optional*): Side of a tile, px; see [`compute_windows`].
        overlap (`float`): Share of its side that a tile has in common with the next one, 0.2 by default.

    Returns:
        `Views`: The views.
    """
    image = to_rgb(image)
    width, height = image.size
    windows = compute_windows(width, height, tile_size, overlap)
    # one tensor for all views, because each tensor that a worker sends takes a file handle
    canvases = torch.empty(len(windows), 3, resolution, resolution, dtype=torch.uint8)
    for canvas, window in zip(canvases, windows, strict=True):
        geometry = Geometry(window, False, (0, 0, resolution, resolution), resolution)
        canvas.copy_(torch.from_numpy(geometry.image(image)))
    return Views(
        name, (height, width), [View(window, canvas) for window, canvas in zip(windows, canvases, strict=True)]
    )


def open_trusted_image(file: str | Path | bytes, channels: Sequence[int] = ()) -> Image.Image:
    """
    Open an image without Pillow's size limit for untrusted files, because a user's images may have gigapixels.

    Args:
        file (`str`, `Path` or `bytes`): Image file, or its content.
        channels (`Sequence[int]`): Three channels of the image, from 1, see [`read_channels`]; by default an image
            with more channels is refused.

    Returns:
        `PIL.Image.Image`: As from [`open_image_value`].

    Raises:
        `ValueError`: If the image cannot be read, or has channels of which three must be chosen.
    """
    source = file if isinstance(file, bytes) else Path(file)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        if channels:
            return read_channels(source, list(channels))
        image = open_image_value({"bytes": file, "path": None} if isinstance(file, bytes) else str(file))
    except ValueError as error:
        raise ValueError(describe_channels(source) or str(error)) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    problem = describe_channels(source, len(image.getbands()))
    if problem is not None:
        raise ValueError(problem)
    return image


def _open_entry(entry: ImageEntry, channels: Sequence[int]) -> Image.Image:
    content = entry.load()
    try:
        return open_trusted_image(content, channels)
    except ValueError as error:
        if isinstance(content, Path):
            raise
        reason = str(error).replace("inside the row", str(entry)).replace("inside the file", str(entry))
        raise ValueError(reason) from error


class ImageViews(Dataset):
    """
    Dataset of [`Views`] of images.

    A worker cuts an image when it loads it. An image that cannot be read has no views and a `problem`.

    Args:
        images (`Sequence[ImageEntry]`): The images.
        resolution (`int`): Side of the model's canvas, px.
        tile_size (`int`, *optional*): Side of a tile, px; see [`compute_windows`].
        overlap (`float`): Share of its side that a tile has in common with the next one, 0.2 by default.
        channels (`Sequence[int]`): Three channels of the images, from 1; see [`open_trusted_image`].
    """

    def __init__(
        self,
        images: Sequence[ImageEntry],
        resolution: int,
        tile_size: int | None = None,
        overlap: float = 0.2,
        channels: Sequence[int] = (),
    ):
        self.images, self.resolution, self.tile_size, self.overlap = images, resolution, tile_size, overlap
        self.channels = channels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index: int) -> Views:
        entry = self.images[index]
        try:
            image = _open_entry(entry, self.channels)
        except ValueError as error:
            return Views(entry.name, (0, 0), [], problem=str(error))
        return cut_views(image, entry.name, self.resolution, self.tile_size, self.overlap)
