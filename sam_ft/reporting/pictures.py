"""Truth and prediction side by side on the image."""

import colorsys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.row_schema import to_rgb
from ..ops.masks import decode_mask


SHOWN_SCORE = 0.5  # below it a picture is a thicket; the numbers count every kept detection
LONG_SIDE = 720  # of a panel at most; smaller images are enlarged to SHORT_SIDE, so that labels can be read
SHORT_SIDE = 320
SHEET_ROWS = 8
CLICK_COLORS = {1: (43, 178, 76), 0: (224, 49, 49)}
Detections = dict[tuple[str, str], list[dict]]


def save_comparisons(rows: Iterable[dict], stages: dict[str, Detections], folder: Path) -> Path | None:
    """
    Writes one picture a row: the truth on the left, then what each stage finds with a score of 0.5 or more; and one picture
    of the first eight, below each other.

    Args:
        rows (`Iterable[dict]`): rows with their images.
        stages (`dict[str, Detections]`): title, such as `before`, -> detections by (example id, phrase); see
            [`to_detections`].
        folder (`Path`): of the pictures of one row each; the sheet is written beside it, as `folder.png`.

    Returns:
        `Path` or `None`: the sheet; nothing is written where there is no row.
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
    """Panels of one row: the truth, then what each stage finds."""
    truth = truth_of(row)
    line = [_panel(row, truth, f"truth: {len(truth)}")]
    for title, detections in stages.items():
        found = detections_of(row, detections)
        prompts = prompts_of(row, detections)
        counted = "prompted" if prompts else f"with a score of {SHOWN_SCORE} or more"
        line.append(_panel(row, found, f"{title}: {len(found)} {counted}", prompts))
    return line


def truth_of(row: dict) -> list[tuple]:
    """A row's instances as [`draw_instances`] takes them."""
    instances = row["instances"]
    return [
        (phrase["text"], instances[i]["segmentation"], instances[i]["bbox"], None)
        for phrase in row["phrases"]
        for i in phrase["instances"]
    ]


def detections_of(row: dict, detections: Detections) -> list[tuple]:
    """A row's detections of a score of 0.5 or more, as [`draw_instances`] takes them."""
    return [
        (phrase["text"], d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
        for phrase in row["phrases"]
        for d in detections.get((row["example_id"], phrase["text"]), [])
        if d["score"] >= SHOWN_SCORE
    ]


def prompts_of(row: dict, detections: Detections) -> list[list[list[float]]]:
    """What SAM 2 was shown of a row's objects, as [`draw_instances`] takes it; an object of two phrases once."""
    found = (
        one["prompt"]
        for phrase in row["phrases"]
        for one in detections.get((row["example_id"], phrase["text"]), [])
        if one.get("prompt")
    )
    return list({str(prompt): prompt for prompt in found}.values())


def _panel(row: dict, instances: list[tuple], title: str, prompts: list[list[list[float]]] = ()) -> Image.Image:
    colors = {phrase["text"]: color_of(i) for i, phrase in enumerate(row["phrases"])}
    return draw_instances(to_rgb(row["image"]), instances, colors, title, prompts)


def tile(lines: list[list[Image.Image]]) -> Image.Image:
    """Panels in lines, each as wide as its content, a gap of 8 px between them."""
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
    Draws masks, boxes and phrases, and over them the clicks and boxes that were shown.

    Args:
        image (`PIL.Image.Image`): RGB.
        instances (`list`): `(phrase, RLE counts or None, box (x, y, w, h) in px, score or None)`.
        colors (`dict[str, tuple]`): phrase -> RGB.
        title (`str`): written above the image.
        prompts (`list`): of each prompted object its points `[x, y, label]`, px: 1 in it (green), 0 outside (red), 2 and 3 a box's corners (white).

    Returns:
        `PIL.Image.Image`: 320 to 720 px long, with a strip for the title.
    """
    pixels = np.asarray(image, dtype=np.float32).copy()
    for text, counts, _, _ in instances:
        if counts is not None:
            mask = decode_mask(counts, image.height, image.width)
            pixels[mask] = 0.5 * pixels[mask] + 0.5 * np.array(colors[text], dtype=np.float32)
    scale = min(LONG_SIDE / max(image.size), max(1.0, SHORT_SIDE / max(image.size)))
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    strip = 20
    canvas = Image.new("RGB", (size[0], size[1] + strip), "white")
    canvas.paste(Image.fromarray(pixels.astype(np.uint8)).resize(size), (0, strip))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    draw.text((4, 2), title, fill="black", font=font)
    for text, _, (x, y, w, h), score in instances:
        corner = x * scale, y * scale + strip
        draw.rectangle([*corner, (x + w) * scale, (y + h) * scale + strip], outline=colors[text], width=2)
        label = text if score is None else f"{text} {score:.2f}"
        box = draw.textbbox((max(corner[0], 0), max(corner[1] - 16, strip)), label, font=font)
        draw.rectangle(box, fill=colors[text])
        draw.text(box[:2], label, fill="black", font=font, anchor="lt")
    for prompt in prompts:
        _draw_prompt(draw, [(x * scale, y * scale + strip, kind) for x, y, kind in prompt])
    return canvas


def _draw_prompt(draw: ImageDraw.ImageDraw, points: list[tuple[float, float, int]], radius: int = 4) -> None:
    corners = [(x, y) for x, y, kind in points if kind in (2, 3)]
    if corners:
        draw.rectangle([*corners[0], *corners[1]], outline="white", width=1)
    for x, y, kind in points:
        if kind in CLICK_COLORS:
            around = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(around, fill=CLICK_COLORS[kind], outline="white", width=1)


def color_of(index: int) -> tuple[int, int, int]:
    """RGB of the n-th phrase of a picture; neighbours differ."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 1.0))
