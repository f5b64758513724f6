"""Comparisons: detections of several stages and the ground truth, side by side, with the colours of the phrases."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from ..data.row_schema import to_rgb
from .label_fonts import find_font, shorten_label
from .phrase_colors import assign_colors
from .pictures import MIN_LONG_SIDE, Instance, Panel, add_title, draw_instances, tile


MIN_SCORE = 0.5  # lower scores would cover the image; the metrics include them
SHEET_ROWS = 8
EXAMPLE_SIDE = 640  # px of a panel of a sheet of examples
TRUTH_TITLE = "ground truth"
_MAX_LEGEND = 24  # phrases in a legend
Detections = dict[tuple[str, str], list[dict]]


@dataclass
class Comparison:
    """
    Panels of one image.

    Attributes:
        caption (`str`): Image and its metrics.
        panels (`list[Panel]`): Panels of [`comparison_of`].
        phrases (`list[str]`): Phrases that are drawn.
    """

    caption: str
    panels: list[Panel]
    phrases: list[str]


def save_comparisons(
    rows: Iterable[dict], stages: dict[str, Detections], folder: Path, phrases: Iterable[str]
) -> Path | None:
    """
    Write one picture per row, the detections of each stage beside the ground truth, and a sheet of the first eight.

    Args:
        rows (`Iterable[dict]`): Rows with their images.
        stages (`dict[str, Detections]`): Detections by (example id, phrase) of each stage, by title, such as `before`;
            see [`to_detections`].
        folder (`Path`): Folder of the pictures; the sheet is written beside it, as `folder.png`.
        phrases (`Iterable[str]`): All phrases of the data, which define the colours.

    Returns:
        `Path` or `None`: The sheet; `None` without rows.
    """
    lines, shown, colors = [], {}, assign_colors(phrases)
    for row in rows:
        line, texts = comparison_of(row, stages, colors), list_drawn_phrases(row, stages)
        if len(lines) < SHEET_ROWS:
            lines.append(line)
            shown |= dict.fromkeys(texts)
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in row["example_id"])
        tile_panels([line], {text: colors[text] for text in texts}).save(folder / f"{name}.png")
    if not lines:
        return None
    sheet = folder.with_suffix(".png")
    tile_panels(lines, {text: colors[text] for text in shown}).save(sheet)
    return sheet


def comparison_of(
    row: dict, stages: dict[str, Detections], colors: dict, *, min_side: int = MIN_LONG_SIDE
) -> list[Panel]:
    """
    Draw the panels of one row: the detections of each stage, then the ground truth.

    Args:
        row (`dict`): Row with its image.
        stages (`dict[str, Detections]`): Detections of each stage, by title.
        colors (`dict[str, tuple]`): RGB colour by phrase.
        min_side (`int`): Minimum long side of a panel, px; as in [`draw_instances`].

    Returns:
        `list[Panel]`: Captions and pictures.
    """
    truth, image = truth_of(row), to_rgb(row["image"])
    panels = []
    for title, detections in stages.items():
        drawn = detections_of(row, detections)
        prompts = prompts_of(row, detections)
        criterion = "prompted" if prompts else f"with a score of {MIN_SCORE} or more"
        picture = draw_instances(image, drawn, colors, "", prompts, min_side=min_side)
        panels.append((f"{title}: {len(drawn)} {criterion}", picture))
    return [*panels, (f"{TRUTH_TITLE}: {len(truth)}", draw_instances(image, truth, colors, "", min_side=min_side))]


def draw_examples(rows: Iterable[dict], stages: dict[str, Detections], phrases: Iterable[str]) -> Image.Image:
    """
    Draw a sheet of examples with a legend: a line per row, the detections of each stage, then the ground truth.

    Args:
        rows (`Iterable[dict]`): Rows with their images.
        stages (`dict[str, Detections]`): Detections of each stage, by title.
        phrases (`Iterable[str]`): All phrases of the data, which define the colours.

    Returns:
        `PIL.Image.Image`: The sheet.
    """
    rows, colors = list(rows), assign_colors(phrases)
    shown = dict.fromkeys(text for row in rows for text in list_drawn_phrases(row, stages))
    lines = [comparison_of(row, stages, colors, min_side=EXAMPLE_SIDE) for row in rows]
    return tile_panels(lines, {text: colors[text] for text in shown}, min_side=EXAMPLE_SIDE)


def truth_of(row: dict) -> list[Instance]:
    """List the instances of a row for [`draw_instances`]."""
    instances = row["instances"]
    return [
        (phrase["text"], instances[i]["segmentation"], instances[i]["bbox"], None)
        for phrase in row["phrases"]
        for i in phrase["instances"]
    ]


def detections_of(row: dict, detections: Detections) -> list[Instance]:
    """List the detections of a row with a score of at least `MIN_SCORE` for [`draw_instances`]."""
    return [
        (phrase["text"], d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
        for phrase in row["phrases"]
        for d in detections.get((row["example_id"], phrase["text"]), [])
        if d["score"] >= MIN_SCORE
    ]


def list_drawn_phrases(row: dict, stages: dict[str, Detections]) -> list[str]:
    """List the phrases of a row that have an instance in a panel of [`comparison_of`]."""
    drawn = [*truth_of(row), *(item for detections in stages.values() for item in detections_of(row, detections))]
    texts = {text for text, *_ in drawn}
    return [phrase["text"] for phrase in row["phrases"] if phrase["text"] in texts]


def prompts_of(row: dict, detections: Detections) -> list[list[list[float]]]:
    """List the distinct SAM 2 prompts of a row for [`draw_instances`]; an object may have several phrases."""
    prompts = (
        detection["prompt"]
        for phrase in row["phrases"]
        for detection in detections.get((row["example_id"], phrase["text"]), [])
        if detection.get("prompt")
    )
    return list({str(prompt): prompt for prompt in prompts}.values())


def tile_panels(
    lines: list[list[Panel]], colors: dict[str, tuple[int, int, int]], *, min_side: int = MIN_LONG_SIDE
) -> Image.Image:
    """
    Place panels in lines on a white sheet, with their captions and a legend below.

    Args:
        lines (`list[list[Panel]]`): Captions and pictures of each line.
        colors (`dict[str, tuple[int, int, int]]`): RGB colour by phrase of the legend.
        min_side (`int`): As in [`draw_instances`]; it sets the size of the texts.

    Returns:
        `PIL.Image.Image`: The sheet, as wide as its widest line.
    """
    sheet = tile([[add_title(picture, caption, min_side=min_side) for caption, picture in line] for line in lines])
    if not colors:
        return sheet
    return tile([[sheet], [draw_legend(colors, sheet.width, 20 if min_side >= EXAMPLE_SIDE else 14)]])


def draw_legend(
    colors: dict[str, tuple[int, int, int]], width: int, size: int = 14, texts: dict[str, str] | None = None
) -> Image.Image:
    """
    Draw the colours of phrases in as many lines as necessary.

    Args:
        colors (`dict[str, tuple[int, int, int]]`): RGB colour by phrase.
        width (`int`): Width of the picture, px.
        size (`int`): Size of the texts, px.
        texts (`dict[str, str]`, *optional*): Text of each phrase; the phrase itself by default.

    Returns:
        `PIL.Image.Image`: The legend; further phrases than the first 24 are counted.
    """
    entries = [((texts or {}).get(phrase, phrase), color) for phrase, color in list(colors.items())[:_MAX_LEGEND]]
    if len(colors) > _MAX_LEGEND:
        entries.append((f"and {len(colors) - _MAX_LEGEND} more", None))
    height, placed, x, y = round(size * 1.6), [], 0, 0
    for full, color in entries:
        text, font = find_font(shorten_label(full, max((width - 3 * size) * 2 // size, 8)), size)
        length = round(font.getlength(text)) + round(2.5 * size)
        if x and x + length > width:
            x, y = 0, y + height
        placed.append((text, font, color, (x, y)))
        x += length
    legend = Image.new("RGB", (width, y + height), "white")
    draw = ImageDraw.Draw(legend)
    for text, font, color, (x, y) in placed:
        if color is not None:
            top = y + (height - size) // 2
            draw.rectangle([x + 4, top, x + 4 + size, top + size], fill=color, outline=(90, 90, 90))
        draw.text((x + 4 + round(1.4 * size) * (color is not None), y + height // 2), text, "black", font, "lm")
    return legend


def append_legend(picture: Image.Image, counts: dict[str, int], colors: dict[str, tuple]) -> Image.Image:
    """
    Append a legend with the number of detections of each phrase to a picture.

    Args:
        picture (`PIL.Image.Image`): Picture of [`draw_instances`].
        counts (`dict[str, int]`): Number of detections of each prompted phrase.
        colors (`dict[str, tuple]`): RGB colour by phrase.
    """
    texts = {text: f"{shorten_label(text)}: {number}" for text, number in counts.items()}
    order = sorted(counts, key=lambda text: counts[text] == 0)  # The limit leaves out phrases without detections.
    legend = draw_legend({text: colors[text] for text in order}, picture.width, texts=texts)
    return tile([[picture], [legend]])
