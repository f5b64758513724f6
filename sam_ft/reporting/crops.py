"""Parts of images around an object, with the instances inside."""

import numpy as np
from PIL import Image

from ..ops.masks import decode_mask, encode_mask
from .pictures import Instance, draw_instances


Window = tuple[int, int, int, int]  # x1, y1, x2, y2, px


def window_around(box: list[float], size: tuple[int, int], side: float) -> Window:
    """
    Return a square part of an image around a box, moved or cut to lie inside the image.

    Args:
        box (`list[float]`): Box `(x, y, w, h)`, px.
        size (`tuple[int, int]`): Width and height of the image, px.
        side (`float`): Side of the square, px.
    """
    corner, sides = [], [min(int(side), length) for length in size]
    for begin, length, total, part in zip(box[:2], box[2:], size, sides, strict=True):
        corner.append(int(min(max(begin + length / 2 - part / 2, 0), total - part)))
    return corner[0], corner[1], corner[0] + sides[0], corner[1] + sides[1]


def draw_crop(
    image: Image.Image,
    instances: list[Instance],
    colors: dict[str, tuple[int, int, int]],
    window: Window,
    marks: list[list[float]],
) -> Image.Image:
    """
    Draw a part of an image with its instances, and frames around some boxes.

    Args:
        image (`PIL.Image.Image`): RGB image.
        instances (`list[Instance]`): Instances of the whole image.
        colors (`dict[str, tuple[int, int, int]]`): RGB colour by phrase.
        window (`Window`): The part.
        marks (`list[list[float]]`): Boxes `(x, y, w, h)` in the image that get a frame, px.
    """
    x1, y1, _, _ = window
    inside = [moved for moved in (crop_instance(i, image.size, window) for i in instances) if moved is not None]
    moved_marks = [[x - x1, y - y1, w, h] for x, y, w, h in marks]
    return draw_instances(image.crop(window), inside, colors, "", marks=moved_marks)


def crop_instance(instance: Instance, size: tuple[int, int], window: Window) -> Instance | None:
    """Move an instance to a part of the image; `None` if it lies outside."""
    text, counts, (x, y, w, h), score = instance
    x1, y1, x2, y2 = window
    low, high = (max(x, x1), max(y, y1)), (min(x + w, x2), min(y + h, y2))
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    if counts is not None:
        counts = encode_mask(np.ascontiguousarray(decode_mask(counts, size[1], size[0])[y1:y2, x1:x2]))
    return text, counts, [low[0] - x1, low[1] - y1, high[0] - low[0], high[1] - low[1]], score
