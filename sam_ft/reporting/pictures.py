"""Pictures of instances on their image: masks, boxes, labels, prompts and marks."""

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from ..ops.masks import to_coco_rle
from .label_fonts import find_font, shorten_label
from .label_layout import find_leader, place_labels
from .phrase_colors import contrasting_color


MAX_LONG_SIDE = 720  # px of a picture
MIN_LONG_SIDE = 320  # px; smaller images are enlarged so that their labels are legible
_GAP = 8  # px between pictures of a sheet
_STRIP, _FONT_SIZE = 20, 13  # px of the title, of texts
_PADDING = 2  # px around the text of a label
_SMALL_SIDE = 32  # px; smaller objects are drawn with thin lines
_FILL, _EDGE = 0.3, (25, 25, 25)  # opacity of masks, colour around them
CLICK_COLORS = {1: (43, 178, 76), 0: (224, 49, 49)}
Instance = tuple[str, str | None, list[float], float | None]  # of `draw_instances`
Panel = tuple[str, Image.Image]  # caption and picture


def draw_instances(
    image: Image.Image,
    instances: list[Instance],
    colors: dict,
    title: str,
    prompts: list[list[list[float]]] = (),
    *,
    min_side: int = MIN_LONG_SIDE,
    marks: list[list[float]] = (),
) -> Image.Image:
    """
    Draw masks and phrases on an image, and over them the prompts.

    A mask is an outline with a light fill; an instance without a mask, or with an empty one, is drawn as its box. A
    label that would hide a small object is drawn beside it with a line, or left out where there is no space.

    Args:
        image (`PIL.Image.Image`): RGB image.
        instances (`list`): Instances `(phrase, RLE counts or None, box (x, y, w, h) in px, score or None)`.
        colors (`dict[str, tuple]`): RGB colour by phrase.
        title (`str`): Text above the image; empty for no text.
        prompts (`list`): Points `[x, y, label]` of each prompted object, px; label 1 is a click in the object (green),
            0 a click outside it (red), 2 and 3 are the corners of a box (white).
        min_side (`int`): Minimum long side of the picture, px; smaller images are enlarged.
        marks (`list`): Boxes with a frame below the labels, see [`draw_marks`].

    Returns:
        `PIL.Image.Image`: Picture with a long side of `min_side` to 720 px and a strip for the title.
    """
    scale = min(MAX_LONG_SIDE / max(image.size), max(1.0, min_side / max(image.size)))
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    pixels = np.array(image.resize(size, Image.Resampling.BICUBIC))
    anchors: list[float | None] = [None] * len(instances)
    # Large objects come first, so that they do not cover small ones.
    for i in sorted(range(len(instances)), key=lambda i: -instances[i][2][2] * instances[i][2][3]):
        text, counts, box, _ = instances[i]
        if counts is not None:
            anchors[i] = _draw_mask(pixels, counts, image.size, colors[text], _line_width(box, size, scale))
    canvas = draw_marks(Image.fromarray(pixels), scale, marks)
    draw = ImageDraw.Draw(canvas)
    for (text, _, box, _), anchor in zip(instances, anchors, strict=True):
        if anchor is None:
            draw.rectangle(_scale_box(box, scale), outline=colors[text], width=_line_width(box, size, scale))
    boxes = [_scale_box(box, scale) for _, _, box, _ in instances]
    labels = [(text, _label_of(text, score)) for text, _, _, score in instances]
    _draw_labels(draw, boxes, labels, colors, _font_size(min_side), anchors, (0, 0, *size))
    for prompt in prompts:
        _draw_prompt(draw, [(x * scale, y * scale, kind) for x, y, kind in prompt])
    return add_title(canvas, title, min_side=min_side) if title else canvas


def _font_size(min_side: int) -> int:
    return round(_FONT_SIZE * (1 + min_side / MIN_LONG_SIDE) / 2)


def _label_of(text: str, score: float | None) -> str:
    return shorten_label(text) if score is None else f"{shorten_label(text)} {score:.2f}"


def add_title(picture: Image.Image, title: str, *, min_side: int = MIN_LONG_SIDE) -> Image.Image:
    """
    Return a picture below a white strip with a title.

    Args:
        picture (`PIL.Image.Image`): Picture of [`draw_instances`] without a title.
        title (`str`): Text of the strip, cut to the width of the picture.
        min_side (`int`): As in [`draw_instances`]; it sets the size of the text.
    """
    text, font = find_font(title, _font_size(min_side))
    strip = round(_STRIP * font.size / _FONT_SIZE)
    while len(text) > 4 and font.getlength(text) > picture.width - 8:
        text = shorten_label(text, len(text) - 1)
    canvas = Image.new("RGB", (picture.width, picture.height + strip), "white")
    canvas.paste(picture, (0, strip))
    ImageDraw.Draw(canvas).text((4, 2), text, fill="black", font=font)
    return canvas


def tile(lines: list[list[Image.Image]]) -> Image.Image:
    """
    Place pictures in lines on a white sheet, with gaps of 8 px.

    Args:
        lines (`list[list[PIL.Image.Image]]`): Pictures of each line.

    Returns:
        `PIL.Image.Image`: The sheet, as wide as its widest line.
    """
    width = max(sum(panel.width + _GAP for panel in line) for line in lines) - _GAP
    height = sum(max(panel.height for panel in line) + _GAP for line in lines) - _GAP
    sheet, y = Image.new("RGB", (width, height), "white"), 0
    for line in lines:
        x = 0
        for panel in line:
            sheet.paste(panel, (x, y))
            x += panel.width + _GAP
        y += max(panel.height for panel in line) + _GAP
    return sheet


def draw_marks(picture: Image.Image, scale: float, marks: list[list[float]]) -> Image.Image:
    """
    Draw a black and white frame, colours that no class has, around each of some boxes.

    Args:
        picture (`PIL.Image.Image`): Picture without a title; it is not changed.
        scale (`float`): Size of the picture relative to its image.
        marks (`list[list[float]]`): Boxes `(x, y, w, h)` in the image, px.

    Returns:
        `PIL.Image.Image`: A copy of the picture with the frames.
    """
    marked = picture.copy()
    draw, limits = ImageDraw.Draw(marked), (picture.width - 1, picture.height - 1) * 2
    for mark in marks:
        box = _scale_box(mark, scale)
        for color, distance, width in (("white", 6, 6), ("black", 4, 2)):
            grown = [box[0] - distance, box[1] - distance, box[2] + distance, box[3] + distance]
            frame = [min(max(value, 0), limit) for value, limit in zip(grown, limits, strict=True)]
            draw.rectangle(frame, outline=color, width=width)
    return marked


def _line_width(box: list[float], size: tuple[int, int], scale: float) -> int:
    """Return the width of the outline of an object on a picture of a size, px."""
    return 1 if min(box[2:]) * scale < _SMALL_SIDE else max(2, max(size) // 160)


def _draw_mask(
    pixels: np.ndarray, counts: str, size: tuple[int, int], color: tuple[int, int, int], width: int
) -> float | None:
    """
    Draw a mask into the pixels of a picture: a light fill, an outline inside its border, and a thin dark line around.

    Args:
        pixels (`np.ndarray` of shape `(height, width, 3)`): Picture, changed in place.
        counts (`str`): RLE counts of the mask.
        size (`tuple[int, int]`): Width and height of the image of the mask, px.
        color (`tuple[int, int, int]`): RGB colour.
        width (`int`): Width of the outline, px.

    Returns:
        `float` or `None`: Horizontal position of the top of the mask, px; `None` for an empty mask.
    """
    rle = to_coco_rle(counts, size[1], size[0])
    x, y, w, h = coco_mask.toBbox(rle)
    scales = pixels.shape[1] / size[0], pixels.shape[0] / size[1]
    left, top = max(int((x - 1) * scales[0]) - 1, 0), max(int((y - 1) * scales[1]) - 1, 0)
    right = min(int((x + w + 1) * scales[0]) + 2, pixels.shape[1])
    bottom = min(int((y + h + 1) * scales[1]) + 2, pixels.shape[0])
    box = (left / scales[0], top / scales[1], min(right / scales[0], size[0]), min(bottom / scales[1], size[1]))
    # The part of the mask that the filter of the resizing reads.
    margin = int(1 / min(*scales, 1)) + 2
    x1, y1 = max(int(box[0]) - margin, 0), max(int(box[1]) - margin, 0)
    mask = coco_mask.decode(rle)[y1 : int(box[3]) + margin, x1 : int(box[2]) + margin] * np.uint8(255)
    box = (box[0] - x1, box[1] - y1, box[2] - x1, box[3] - y1)
    enlarged = Image.fromarray(mask).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    inside = np.asarray(enlarged) > 127
    if not inside.any():  # A mask smaller than a pixel of the picture.
        inside = np.asarray(enlarged) > 0
    part = pixels[top:bottom, left:right]
    part[inside] = (1 - _FILL) * part[inside] + _FILL * np.array(color)
    part[inside & ~ndimage.binary_erosion(inside, iterations=width)] = color
    part[ndimage.binary_dilation(inside) & ~inside] = _EDGE
    rows = np.flatnonzero(inside.any(axis=1))
    return left + float(np.flatnonzero(inside[rows[0]]).mean()) if len(rows) else None


def _scale_box(box: list[float], scale: float) -> list[float]:
    """Return the corners of a box `(x, y, w, h)` of the image on the picture, px."""
    x, y, w, h = box
    return [x * scale, y * scale, (x + w) * scale, (y + h) * scale]


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    boxes: list[list[float]],
    labels: list[tuple[str, str]],
    colors: dict,
    font_size: int,
    anchors: list[float | None],
    area: tuple[float, float, float, float],
) -> None:
    """
    Draw the label of each box, given as a pair of phrase and text, where it hides nothing.

    Args:
        draw (`ImageDraw.ImageDraw`): Picture.
        boxes (`list[list[float]]`): Boxes `(x1, y1, x2, y2)`, px.
        labels (`list[tuple[str, str]]`): Phrase and text of each label.
        colors (`dict[str, tuple]`): RGB colour by phrase.
        font_size (`int`): Size of the texts, px.
        anchors (`list[float | None]`): Horizontal centre of each label above its box, px; as in [`place_labels`].
        area (`tuple[float, float, float, float]`): Part of the picture that labels may cover, px.
    """
    texts = [find_font(label, font_size) for _, label in labels]
    sizes = [(round(font.getlength(label)) + 4 * _PADDING, sum(font.getmetrics()) + _PADDING) for label, font in texts]
    placed = list(zip(boxes, place_labels(boxes, sizes, area, anchors), sizes, strict=True))
    for (box, position, size), (phrase, _) in zip(placed, labels, strict=True):
        leader = None if position is None else find_leader(box, position, size)
        if leader is not None:
            draw.line(leader, fill=_EDGE, width=3)
            draw.line(leader, fill=colors[phrase], width=1)
    for (_, position, (width, height)), (phrase, _), (label, font) in zip(placed, labels, texts, strict=True):
        if position is not None:
            x, y = position
            draw.rectangle([x, y, x + width, y + height], fill=colors[phrase])
            fill = contrasting_color(colors[phrase])
            draw.text((x + 2 * _PADDING, y), label, fill=fill, font=font, anchor="la")


def _draw_prompt(draw: ImageDraw.ImageDraw, points: list[tuple[float, float, int]], radius: int = 4) -> None:
    corners = [(x, y) for x, y, kind in points if kind in (2, 3)]
    if corners:
        draw.rectangle([*corners[0], *corners[1]], outline="white", width=1)
    for x, y, kind in points:
        if kind in CLICK_COLORS:
            bounds = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(bounds, fill=CLICK_COLORS[kind], outline="white", width=1)
