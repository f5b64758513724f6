"""Gallery of training samples: contact sheets and one HTML page."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.samples.pipeline import TrainingSamples
from ..data.samples.sample import Sample
from ..ops.boxes import box_cxcywh_to_xyxy
from ..ops.masks import encode_mask
from ..utils.owned_files import OwnedFiles
from .pictures import color_of, draw_instances, tile
from .template_rendering import render_template


SHEET_COLUMNS, SHEET_ROWS = 4, 3
_INDEX, _ARGUMENT = "index.html", "gallery_dir"


def write_gallery(samples: TrainingSamples, indices: list[int], folder: Path, title: str) -> list[Path]:
    """
    Draw samples of epoch 0 as the collator receives them: augmented, on the model's canvas.

    Args:
        samples (`TrainingSamples`): The samples.
        indices (`list[int]`): Indices of the rows.
        folder (`Path`): Output folder of `sheet-N.png`, `picture-N.jpg` and `index.html`.
        title (`str`): Title of the page.

    Returns:
        `list[Path]`: The sheets, then the page.

    Raises:
        `ValueError`: If the folder contains a file of one of these names that no earlier check wrote.
    """
    size = SHEET_COLUMNS * SHEET_ROWS
    sheets = [f"sheet-{number}.png" for number in range(1, -(-len(indices) // size) + 1)]
    pictures = [f"picture-{number}.jpg" for number in range(len(indices))]
    owned = OwnedFiles(folder, "gallery")
    owned.check_free([*sheets, *pictures, _INDEX], _ARGUMENT)
    panels = [_panel(samples[(0, index)]) for index in indices]
    owned.remove(owned.names)  # an earlier check may have drawn more pictures
    files = []
    for number, name in enumerate(sheets):
        chosen = [panel for panel, _ in panels[number * size : (number + 1) * size]]
        lines = [chosen[i : i + SHEET_COLUMNS] for i in range(0, len(chosen), SHEET_COLUMNS)]
        files.append(owned.write(name, tile(lines).save, _ARGUMENT))
    for name, (panel, _) in zip(pictures, panels, strict=True):
        owned.write(name, partial(panel.save, quality=88), _ARGUMENT)
    entries = [{"file": name, "caption": caption} for name, (_, caption) in zip(pictures, panels, strict=True)]
    page = render_template("gallery.html.j2", title=title, pictures=entries)
    return [*files, owned.write_text(_INDEX, page, _ARGUMENT)]


def _panel(sample: Sample) -> tuple[Image.Image, str]:
    """Draw a sample; return the picture and a caption with its phrases."""
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    side = image.width
    boxes = box_cxcywh_to_xyxy(sample.boxes) * side
    colors = {phrase.text: color_of(i) for i, phrase in enumerate(sample.phrases)}
    drawn = []
    for phrase in sample.phrases:
        for i in phrase.instances:
            x1, y1, x2, y2 = boxes[i].tolist()
            counts = (
                encode_mask(np.asarray(sample.masks[i])) if sample.masks is not None and sample.has_mask[i] else None
            )
            drawn.append((phrase.text, counts, [x1, y1, x2 - x1, y2 - y1], None))
    present = [f"{p.text} ({len(p.instances)})" for p in sample.phrases if p.instances]
    absent = [p.text for p in sample.phrases if not p.instances]
    caption = f"{sample.example_id} · present: {', '.join(present) or 'none'}" + (
        f" · absent: {', '.join(absent)}" if absent else ""
    )
    return draw_instances(image, drawn, colors, sample.example_id[-40:]), caption
