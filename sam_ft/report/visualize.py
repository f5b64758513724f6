"""Truth and prediction side by side on the image."""

import colorsys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.example import to_rgb
from ..ops.masks import decode_mask


SHOWN_SCORE = 0.5  # below it a picture is a thicket; the numbers count every kept detection
LONG_SIDE = 720


def save_comparisons(rows: Iterable[dict], detections: dict[tuple[str, str], list[dict]], folder: Path) -> list[Path]:
    """
    Writes one picture a row: the truth on the left, what the model finds with a score of 0.5 or more on the right.

    Args:
        rows (`Iterable[dict]`): rows with their images.
        detections (`dict[tuple[str, str], list[dict]]`): by (example id, phrase); see [`to_detections`].
        folder (`Path`): made where it is missing.

    Returns:
        `list[Path]`: the pictures.
    """
    paths = []
    for row in rows:
        folder.mkdir(parents=True, exist_ok=True)
        image = to_rgb(row["image"])
        phrases = [phrase["text"] for phrase in row["phrases"]]
        colors = {text: _color(i) for i, text in enumerate(phrases)}
        truth = [
            (phrase["text"], row["instances"][i]["segmentation"], row["instances"][i]["bbox"], None)
            for phrase in row["phrases"]
            for i in phrase["instances"]
        ]
        found = [
            (text, d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
            for text in phrases
            for d in detections.get((row["example_id"], text), [])
            if d["score"] >= SHOWN_SCORE
        ]
        panels = [
            draw_instances(image, truth, colors, f"truth: {len(truth)}"),
            draw_instances(image, found, colors, f"prediction: {len(found)} with a score of {SHOWN_SCORE} or more"),
        ]
        picture = Image.new("RGB", (sum(p.width for p in panels) + 8, panels[0].height), "white")
        picture.paste(panels[0], (0, 0))
        picture.paste(panels[1], (panels[0].width + 8, 0))
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in row["example_id"])
        paths.append(folder / f"{name}.png")
        picture.save(paths[-1])
    return paths


def draw_instances(
    image: Image.Image, instances: list[tuple[str, str | None, list[float], float | None]], colors: dict, title: str
) -> Image.Image:
    """
    Draws masks, boxes and phrases.

    Args:
        image (`PIL.Image.Image`): RGB.
        instances (`list`): `(phrase, RLE counts or None, box (x, y, w, h) in px, score or None)`.
        colors (`dict[str, tuple]`): phrase -> RGB.
        title (`str`): written above the image.

    Returns:
        `PIL.Image.Image`: at most 720 px long, with a strip for the title.
    """
    pixels = np.asarray(image, dtype=np.float32).copy()
    for text, counts, _, _ in instances:
        if counts is not None:
            mask = decode_mask(counts, image.height, image.width)
            pixels[mask] = 0.5 * pixels[mask] + 0.5 * np.array(colors[text], dtype=np.float32)
    scale = min(1.0, LONG_SIDE / max(image.size))
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
    return canvas


def _color(index: int) -> tuple[int, int, int]:
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 1.0))
