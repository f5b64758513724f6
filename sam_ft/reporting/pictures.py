"""Pictures of ground truth and predictions, side by side on the image."""

import colorsys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from ..data.row_schema import to_rgb
from ..ops.masks import to_coco_rle
from .label_layout import place_labels


MIN_SCORE = 0.5  # lower scores would cover the image; the metrics include them
MAX_LONG_SIDE = 720  # px of a panel
MIN_LONG_SIDE = 320  # px; smaller images are enlarged so that their labels are legible
SHEET_ROWS = 8
_STRIP, _FONT_SIZE = 20, 13  # px of the title, of texts
_SMALL_SIDE = 32  # px; smaller boxes are drawn with thin lines
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


def comparison_of(row: dict, stages: dict[str, Detections]) -> list[Image.Image]:
    """
    Draw the panels of one row: the ground truth, then the detections of each stage.

    Args:
        row (`dict`): Row with its image.
        stages (`dict[str, Detections]`): Detections of each stage, by title.

    Returns:
        `list[PIL.Image.Image]`: The panels.
    """
    truth = truth_of(row)
    line = [_panel(row, truth, f"ground truth: {len(truth)}")]
    for title, detections in stages.items():
        drawn = detections_of(row, detections)
        prompts = prompts_of(row, detections)
        criterion = "prompted" if prompts else f"with a score of {MIN_SCORE} or more"
        line.append(_panel(row, drawn, f"{title}: {len(drawn)} {criterion}", prompts))
    return line


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


def _panel(row: dict, instances: list[tuple], title: str, prompts: list[list[list[float]]] = ()) -> Image.Image:
    colors = {phrase["text"]: color_of(i) for i, phrase in enumerate(row["phrases"])}
    return draw_instances(to_rgb(row["image"]), instances, colors, title, prompts)


def tile(lines: list[list[Image.Image]]) -> Image.Image:
    """
    Place panels in lines on a white sheet, with gaps of 8 px.

    Args:
        lines (`list[list[PIL.Image.Image]]`): Panels of each line.

    Returns:
        `PIL.Image.Image`: The sheet, as wide as its widest line.
    """
    gap = 8
    width = max(sum(panel.width + gap for panel in line) for line in lines) - gap
    height = sum(max(panel.height for panel in line) + gap for line in lines) - gap
    sheet, y = Image.new("RGB", (width, height), "white"), 0
    for line in lines:
        x = 0
        for panel in line:
            sheet.paste(panel, (x, y))
            x += panel.width + gap
        y += max(panel.height for panel in line) + gap
    return sheet


def draw_instances(
    image: Image.Image,
    instances: list[tuple[str, str | None, list[float], float | None]],
    colors: dict,
    title: str,
    prompts: list[list[list[float]]] = (),
) -> Image.Image:
    """
    Draw masks, boxes and phrases on an image, and over them the prompts.

    A label that would hide a small object or another label is left out.

    Args:
        image (`PIL.Image.Image`): RGB image.
        instances (`list`): Instances `(phrase, RLE counts or None, box (x, y, w, h) in px, score or None)`.
        colors (`dict[str, tuple]`): RGB colour by phrase.
        title (`str`): Text above the image; empty for no text.
        prompts (`list`): Points `[x, y, label]` of each prompted object, px; label 1 is a click in the object (green),
            0 a click outside it (red), 2 and 3 are the corners of a box (white).

    Returns:
        `PIL.Image.Image`: Picture with a long side of 320 to 720 px and a strip for the title.
    """
    pixels = np.asarray(image, dtype=np.float32).copy()
    for text, counts, _, _ in instances:
        if counts is not None:
            part, mask = _mask_part(counts, image.height, image.width)
            pixels[part][mask] = 0.5 * pixels[part][mask] + 0.5 * np.array(colors[text], dtype=np.float32)
    scale = min(MAX_LONG_SIDE / max(image.size), max(1.0, MIN_LONG_SIDE / max(image.size)))
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    strip = _STRIP if title else 0
    canvas = Image.new("RGB", (size[0], size[1] + strip), "white")
    canvas.paste(Image.fromarray(pixels.astype(np.uint8)).resize(size), (0, strip))
    draw = ImageDraw.Draw(canvas)
    draw.text((4, 2), title, fill="black", font=ImageFont.load_default(_FONT_SIZE))
    boxes = [_scale_box(box, scale, strip) for _, _, box, _ in instances]
    for (text, _, _, _), box in zip(instances, boxes, strict=True):
        is_small = min(box[2] - box[0], box[3] - box[1]) < _SMALL_SIDE
        draw.rectangle(box, outline=colors[text], width=1 if is_small else 2)
    labels = [(text, text if score is None else f"{text} {score:.2f}") for text, _, _, score in instances]
    _draw_labels(draw, boxes, labels, colors, (0, strip, size[0], size[1] + strip))
    for prompt in prompts:
        _draw_prompt(draw, [(x * scale, y * scale + strip, kind) for x, y, kind in prompt])
    return canvas


def draw_marks(picture: Image.Image, scale: float, marks: list[list[float]]) -> Image.Image:
    """
    Draw a black and white frame, colours that no class has, around each of some boxes.

    Args:
        picture (`PIL.Image.Image`): Picture of [`draw_instances`] without a title; it is not changed.
        scale (`float`): Size of the picture relative to its image.
        marks (`list[list[float]]`): Boxes `(x, y, w, h)` in the image, px.

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


def _mask_part(counts: str, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the rows and columns of the box of a mask, and the mask inside it; bool."""
    rle = to_coco_rle(counts, height, width)
    x, y, w, h = (int(side) for side in coco_mask.toBbox(rle))
    part = slice(y, y + h), slice(x, x + w)
    return part, coco_mask.decode(rle)[part].astype(bool)


def _scale_box(box: list[float], scale: float, strip: int) -> list[float]:
    """Return the corners of a box `(x, y, w, h)` of the image on the picture, px."""
    x, y, w, h = box
    return [x * scale, y * scale + strip, (x + w) * scale, (y + h) * scale + strip]


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    boxes: list[list[float]],
    labels: list[tuple[str, str]],
    colors: dict,
    area: tuple[float, float, float, float],
) -> None:
    """Draw the label of each box `(x1, y1, x2, y2)`, given as a pair of phrase and text, where it hides nothing."""
    font = ImageFont.load_default(_FONT_SIZE)
    sizes = [draw.textbbox((0, 0), label, font=font, anchor="lt")[2:] for _, label in labels]
    for position, (width, height), (text, label) in zip(place_labels(boxes, sizes, area), sizes, labels, strict=True):
        if position is not None:
            x, y = position
            draw.rectangle([x, y, x + width, y + height], fill=colors[text])
            draw.text(position, label, fill="black", font=font, anchor="lt")


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
