"""Scenes of coloured shapes as a COCO data set: something to train on before there is data."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..ops.masks import encode_mask, mask_area, mask_box_xywh


SHAPES = ("circle", "rectangle", "triangle")
COLORS = {"red": (214, 40, 40), "green": (56, 142, 60), "blue": (33, 90, 200), "yellow": (245, 190, 30)}


@dataclass
class SceneOptions:
    """
    Attributes:
        num_train, num_validation (`int`): images of the two splits.
        width, height (`int`): size in px.
        min_shapes, max_shapes (`int`): shapes an image.
        min_size, max_size (`float`): a shape's radius, as a share of the image's shorter side.
        shapes (`list[str]`): which of `SHAPES` are drawn.
        seed (`int`): the same seed writes the same files.
    """

    num_train: int = 20
    num_validation: int = 5
    width: int = 640
    height: int = 480
    min_shapes: int = 2
    max_shapes: int = 5
    min_size: float = 0.12
    max_size: float = 0.25
    shapes: list[str] = field(default_factory=lambda: list(SHAPES))
    seed: int = 0


def write_shape_scenes(folder: str | Path, options: SceneOptions | None = None) -> Path:
    """
    Writes `annotations/instances_train.json`, `annotations/instances_val.json`, `train/` and `val/`.

    Categories are the shapes; each annotation also has a `noun_phrase` with its colour ("red circle"), so
    `phrase_source: both` trains attributes too. Masks are the visible parts, as compressed RLE.

    Args:
        folder (`str` or `Path`): written anew; what is there of the same names is replaced.
        options (`SceneOptions`, *optional*).

    Returns:
        `Path`: the folder.
    """
    options, folder = options or SceneOptions(), Path(folder)
    if not 1 <= options.min_shapes <= options.max_shapes:
        raise ValueError(
            f"`min_shapes` {options.min_shapes} and `max_shapes` {options.max_shapes}: need 1 ≤ min ≤ max"
        )
    if not 0 < options.min_size <= options.max_size <= 0.5:
        raise ValueError(f"`min_size` {options.min_size} and `max_size` {options.max_size}: need 0 < min ≤ max ≤ 0.5")
    if not options.shapes or set(options.shapes) - set(SHAPES):
        raise ValueError(f"`shapes` is {options.shapes}; choose from {', '.join(SHAPES)}")
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, count in (("train", options.num_train), ("val", options.num_validation)):
        (folder / split).mkdir(exist_ok=True)
        rng = np.random.default_rng([options.seed, split == "val"])
        coco = {
            "info": {"description": "sam-ft synthetic shapes", "options": asdict(options)},
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": name, "supercategory": "shape"} for i, name in enumerate(SHAPES, 1)],
        }
        for image_id in range(1, count + 1):
            image, shapes = draw_scene(rng, options)
            name = f"{image_id:05d}.png"
            image.save(folder / split / name)
            size = {"width": options.width, "height": options.height}
            coco["images"].append({"id": image_id, "file_name": name, **size})
            for shape, color, mask in shapes:
                counts = encode_mask(mask)
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]) + 1,
                        "image_id": image_id,
                        "category_id": SHAPES.index(shape) + 1,
                        "noun_phrase": f"{color} {shape}",
                        "segmentation": {"size": [options.height, options.width], "counts": counts},
                        "bbox": mask_box_xywh(counts, options.height, options.width),
                        "area": mask_area(counts, options.height, options.width),
                        "iscrowd": 0,
                    }
                )
        text = json.dumps(coco)
        (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
    return folder


def were_written_with(folder: str | Path, options: SceneOptions) -> bool:
    """Whether a folder holds the scenes of exactly these options, whole (the validation file is written last)."""
    file = Path(folder) / "annotations" / "instances_val.json"
    if not file.is_file():
        return False
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("info", {}).get("options") == asdict(options)
    except ValueError:
        return False


def draw_scene(
    rng: np.random.Generator, options: SceneOptions
) -> tuple[Image.Image, list[tuple[str, str, np.ndarray]]]:
    """
    Draws one scene. A shape that would hide more than half of another is drawn elsewhere, or not at all after 20 tries, so
    that every shape in the picture is also in the truth.

    Returns:
        `tuple[Image.Image, list]`: the image, and `(shape, colour, visible mask (height, width) bool)` of each shape in
        drawing order.
    """
    height, width = options.height, options.width
    ground = int(rng.integers(200, 245))
    noise = rng.normal(0, 5, (height, width, 3))
    image = Image.fromarray((ground + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    drawn: list[tuple[str, str, np.ndarray, int]] = []  # the last: pixels without anything in front
    for _ in range(int(rng.integers(options.min_shapes, options.max_shapes + 1))):
        shape, color = str(rng.choice(options.shapes)), str(rng.choice(list(COLORS)))
        for _ in range(20):
            points = _outline(shape, rng, options)
            canvas = Image.new("1", (width, height))
            ImageDraw.Draw(canvas).polygon(points, fill=1)
            mask = np.array(canvas)
            if all((m & ~mask).sum() * 2 >= whole for _, _, m, whole in drawn):
                draw.polygon(points, fill=COLORS[color])
                drawn = [(s, c, m & ~mask, whole) for s, c, m, whole in drawn]
                drawn.append((shape, color, mask, int(mask.sum())))
                break
    return image, [(s, c, m) for s, c, m, _ in drawn]


def _outline(shape: str, rng: np.random.Generator, options: SceneOptions) -> list[tuple[float, float]]:
    width, height = options.width, options.height
    radius = float(rng.uniform(options.min_size, options.max_size)) * min(width, height)
    x, y = float(rng.uniform(radius, width - radius)), float(rng.uniform(radius, height - radius))
    if shape == "rectangle":
        w, h = radius * float(rng.uniform(0.6, 1.0)), radius * float(rng.uniform(0.6, 1.0))
        return [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]
    corners, turn = (64, 0.0) if shape == "circle" else (3, float(rng.uniform(0, 2 * math.pi)))
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
