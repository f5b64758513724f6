"""Pictures of ground truth and predictions, side by side on the image."""

import colorsys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask
from scipy import ndimage

from ..data.row_schema import to_rgb
from ..ops.masks import to_coco_rle
from .label_layout import place_labels


MIN_SCORE = 0.5  # lower scores would cover the image; the metrics include them
MAX_LONG_SIDE = 720  # px of a panel
MIN_LONG_SIDE = 320  # px; smaller images are enlarged so that their labels are legible
SHEET_ROWS = 8
EXAMPLE_SIDE = 640  # px of a panel of a sheet of examples
_GAP = 8  # px between panels
_STRIP, _FONT_SIZE = 20, 13  # px of the title, of texts
_PADDING = 2  # px around the text of a label
_LEGEND_SIZE = 20  # px
_SMALL_SIDE = 32  # px; smaller objects are drawn with thin lines
_FILL, _EDGE = 0.3, (25, 25, 25)  # opacity of masks, colour around them
CLICK_COLORS = {1: (43, 178, 76), 0: (224, 49, 49)}
Detections = dict[tuple[str, str], list[dict]]


def save_comparisons(rows: Iterable[dict], stages: dict[str, Detections], folder: Path) -> Path | None:
    """
    Write one picture per row, the ground truth beside the detections of each stage, and a sheet of the first eight.

    Args:
        rows (`Iterable[dict]`): Rows with their images.
        stages (`dict[str, Detections]`): Detections by (example id, phrase) of each stage, by title, such as `before`;
            see [`to_detections`].
        folder (`Path`): Folder of the pictures; the sheet is written beside it, as `folder.png`.

    Returns:
        `Path` or `None`: The sheet; `None` without rows.
    """
    lines = []
    for row in rows:
        line = comparison_of(row, stages)
        lines += [line] if len(lines) < SHEET_ROWS else []
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in row["example_id"])
        tile([line]).save(folder / f"{name}.png")
    if not lines:
        return None
    sheet = folder.with_suffix(".png")
    tile(lines).save(sheet)
    return sheet


def comparison_of(
    row: dict, stages: dict[str, Detections], colors: dict | None = None, *, min_side: int = MIN_LONG_SIDE
) -> list[Image.Image]:
    """
    Draw the panels of one row: the ground truth, then the detections of each stage.

    Args:
        row (`dict`): Row with its image.
        stages (`dict[str, Detections]`): Detections of each stage, by title.
        colors (`dict[str, tuple]`, *optional*): RGB colour by phrase, by default in the order of the row's phrases.
        min_side (`int`): Minimum long side of a panel, px; as in [`draw_instances`].

    Returns:
        `list[PIL.Image.Image]`: The panels.
    """
    truth, image = truth_of(row), to_rgb(row["image"])
    colors = colors or {phrase["text"]: color_of(i) for i, phrase in enumerate(row["phrases"])}
    line = [draw_instances(image, truth, colors, f"ground truth: {len(truth)}", min_side=min_side)]
    for title, detections in stages.items():
        drawn = detections_of(row, detections)
        prompts = prompts_of(row, detections)
        criterion = "prompted" if prompts else f"with a score of {MIN_SCORE} or more"
        title = f"{title}: {len(drawn)} {criterion}"
        line.append(draw_instances(image, drawn, colors, title, prompts, min_side=min_side))
    return line


def draw_examples(rows: Iterable[dict], stages: dict[str, Detections]) -> Image.Image:
    """
    Draw a sheet of examples with a legend: a line per row, the ground truth, then the detections of each stage.

    Each phrase has one colour on the whole sheet.

    Args:
        rows (`Iterable[dict]`): Rows with their images.
        stages (`dict[str, Detections]`): Detections of each stage, by title.

    Returns:
        `PIL.Image.Image`: The sheet.
    """
    rows = list(rows)
    shown = [item[0] for row in rows for item in truth_of(row)]
    shown += [item[0] for row in rows for detections in stages.values() for item in detections_of(row, detections)]
    phrases = dict.fromkeys(phrase["text"] for row in rows for phrase in row["phrases"])
    colors = {phrase: color_of(i) for i, phrase in enumerate(p for p in phrases if p in shown)}
    sheet = tile([comparison_of(row, stages, colors, min_side=EXAMPLE_SIDE) for row in rows])
    return tile([[sheet], [_draw_legend(colors, sheet.width)]])


def _draw_legend(colors: dict, width: int) -> Image.Image:
    """Draw the colours of phrases in as many lines as necessary."""
    font, height = ImageFont.load_default(_LEGEND_SIZE), round(_LEGEND_SIZE * 1.6)
    positions, x, y = [], 0, 0
    for text in colors:
        length = round(font.getlength(text)) + 3 * _LEGEND_SIZE
        if x and x + length > width:
            x, y = 0, y + height
        positions.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + height), "white")
    draw = ImageDraw.Draw(legend)
    for (text, color), (x, y) in zip(colors.items(), positions, strict=True):
        draw.rectangle([x + 4, y + 6, x + 4 + _LEGEND_SIZE, y + 6 + _LEGEND_SIZE], fill=color)
        draw.text((x + 4 + round(1.4 * _LEGEND_SIZE), y + 4), text, fill="black", font=font)
    return legend


def truth_of(row: dict) -> list[tuple]:
    """List the instances of a row for [`draw_instances`]."""
    instances = row["instances"]
    return [
        (phrase["text"], instances[i]["segmentation"], instances[i]["bbox"], None)
        for phrase in row["phrases"]
        for i in phrase["instances"]
    ]


def detections_of(row: dict, detections: Detections) -> list[tuple]:
    """List the detections of a row with a score of at least `MIN_SCORE` for [`draw_instances`]."""
    return [
        (phrase["text"], d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
        for phrase in row["phrases"]
        for d in detections.get((row["example_id"], phrase["text"]), [])
        if d["score"] >= MIN_SCORE
    ]


def prompts_of(row: dict, detections: Detections) -> list[list[list[float]]]:
    """List the distinct SAM 2 prompts of a row for [`draw_instances`]; an object may have several phrases."""
    prompts = (
        detection["prompt"]
        for phrase in row["phrases"]
        for detection in detections.get((row["example_id"], phrase["text"]), [])
        if detection.get("prompt")
    )
    return list({str(prompt): prompt for prompt in prompts}.values())


def tile(lines: list[list[Image.Image]]) -> Image.Image:
    """
    Place panels in lines on a white sheet, with gaps of 8 px.

    Args:
        lines (`list[list[PIL.Image.Image]]`): Panels of each line.

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


def draw_instances(
    image: Image.Image,
    instances: list[tuple[str, str | None, list[float], float | None]],
    colors: dict,
    title: str,
    prompts: Sequence[list[list[float]]] = (),
    *,
    min_side: int = MIN_LONG_SIDE,
    marks: Sequence[list[float]] = (),
) -> Image.Image:
    """
    Draw masks and phrases on an image, and over them the prompts.

    A mask is an outline with a light fill; an instance without a mask, or with an empty one, is drawn as its box. A
    label that would hide a small object or another label is left out.

    Args:
        image (`PIL.Image.Image`): RGB image.
        instances (`list`): Instances `(phrase, RLE counts or None, box (x, y, w, h) in px, score or None)`.
        colors (`dict[str, tuple]`): RGB colour by phrase.
        title (`str`): Text above the image; empty for no text.
        prompts (`list`): Points `[x, y, label]` of each prompted object, px; label 1 is a click in the object (green),
            0 a click outside it (red), 2 and 3 are the corners of a box (white).
        min_side (`int`): Minimum long side of the picture, px; smaller images are enlarged.
        marks (`list`): Boxes with a frame below the labels, see [`draw_marks`]; for a picture without a title.

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
    font = ImageFont.load_default(round(_FONT_SIZE * (1 + min_side / MIN_LONG_SIDE) / 2))
    strip = round(_STRIP * font.size / _FONT_SIZE) if title else 0
    canvas = Image.new("RGB", (size[0], size[1] + strip), "white")
    canvas.paste(draw_marks(Image.fromarray(pixels), scale, marks), (0, strip))
    draw = ImageDraw.Draw(canvas)
    draw.text((4, 2), title, fill="black", font=font)
    for (text, _, box, _), anchor in zip(instances, anchors, strict=True):
        if anchor is None:
            draw.rectangle(_scale_box(box, scale, strip), outline=colors[text], width=_line_width(box, size, scale))
    boxes = [_scale_box(box, scale, strip) for _, _, box, _ in instances]
    labels = [(text, text if score is None else f"{text} {score:.2f}") for text, _, _, score in instances]
    _draw_labels(draw, boxes, labels, colors, font, anchors, (0, strip, size[0], size[1] + strip))
    for prompt in prompts:
        _draw_prompt(draw, [(x * scale, y * scale + strip, kind) for x, y, kind in prompt])
    return canvas


def draw_marks(picture: Image.Image, scale: float, marks: list[list[float]]) -> Image.Image:
    """
    Draw a black and white frame, colours that no class has, around each of some boxes.

    Args:
        picture (`PIL.Image.Image`): Picture without a title; it is not changed.
        scale (`float`): Size of the picture relative to its image.
        marks (`Sequence[list[float]]`): Boxes `(x, y, w, h)` in the image, px.

    Returns:
        `PIL.Image.Image`: A copy of the picture with the frames.
    """
    marked = picture.copy()
    draw, limits = ImageDraw.Draw(marked), (picture.width - 1, picture.height - 1) * 2
    for mark in marks:
        box = _scale_box(mark, scale, 0)
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
    mask = Image.fromarray(coco_mask.decode(rle) * np.uint8(255))
    enlarged = mask.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    inside = np.asarray(enlarged) > 127
    if not inside.any():  # A mask smaller than a pixel of the picture.
        inside = np.asarray(enlarged) > 0
    part = pixels[top:bottom, left:right]
    part[inside] = (1 - _FILL) * part[inside] + _FILL * np.array(color)
    part[inside & ~ndimage.binary_erosion(inside, iterations=width)] = color
    part[ndimage.binary_dilation(inside) & ~inside] = _EDGE
    rows = np.flatnonzero(inside.any(axis=1))
    return left + float(np.flatnonzero(inside[rows[0]]).mean()) if len(rows) else None


def _scale_box(box: list[float], scale: float, strip: int) -> list[float]:
    """Return the corners of a box `(x, y, w, h)` of the image on the picture, px."""
    x, y, w, h = box
    return [x * scale, y * scale + strip, (x + w) * scale, (y + h) * scale + strip]


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    boxes: list[list[float]],
    labels: list[tuple[str, str]],
    colors: dict,
    font: ImageFont.FreeTypeFont,
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
        font (`ImageFont.FreeTypeFont`): Font.
        anchors (`list[float | None]`): Horizontal centre of each label above its box, px; as in [`place_labels`].
        area (`tuple[float, float, float, float]`): Part of the picture that labels may cover, px.
    """
    height = sum(font.getmetrics()) + _PADDING
    sizes = [(round(font.getlength(label)) + 4 * _PADDING, height) for _, label in labels]
    positions = place_labels(boxes, sizes, area, anchors)
    for position, (width, height), (text, label) in zip(positions, sizes, labels, strict=True):
        if position is not None:
            x, y = position
            draw.rectangle([x, y, x + width, y + height], fill=colors[text])
            draw.text((x + 2 * _PADDING, y), label, fill="black", font=font, anchor="la")


def _draw_prompt(draw: ImageDraw.ImageDraw, points: list[tuple[float, float, int]], radius: int = 4) -> None:
    corners = [(x, y) for x, y, kind in points if kind in (2, 3)]
    if corners:
        draw.rectangle([*corners[0], *corners[1]], outline="white", width=1)
    for x, y, kind in points:
        if kind in CLICK_COLORS:
            bounds = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(bounds, fill=CLICK_COLORS[kind], outline="white", width=1)


def color_of(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of the n-th phrase of a picture; consecutive colours differ in hue."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 1.0))
