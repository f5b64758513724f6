"""Predictions to files: COCO, LabelMe and YOLO for labelling further, pictures, masks."""

import base64
import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ..data.row_schema import to_rgb
from ..ops.masks import decode_mask
from ..ops.outline import outlines
from ..reporting.pictures import color_of, draw_instances
from ..utils.files import write_text
from ..utils.json_files import to_json, write_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import escape_control_characters
from .nms import area_of
from .sam3_predictor import ImagePrediction
from .tiling import open_own_image


def write_overlay(found: ImagePrediction, image: str, folder: Path) -> None:
    """`NAME.jpg`: masks, boxes and scores on the image."""
    shown = {phrase: escape_control_characters(" ".join(phrase.split())) for phrase in found.detections}
    colors = {text: color_of(i) for i, text in enumerate(shown.values())}
    drawn = [
        (text, one.get("segmentation", {}).get("counts"), one["bbox"], one["score"])
        for phrase, text in shown.items()
        for one in found.detections[phrase]
    ]
    title = ", ".join(f"{text}: {len(found.detections[phrase])}" for phrase, text in shown.items())
    file = folder / f"{found.name}.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    draw_instances(to_rgb(open_own_image(image)), drawn, colors, title).save(file, quality=90)


def write_masks(found: ImagePrediction, image: str, folder: Path) -> None:
    """`NAME/PHRASE.png`: n where the n-th best instance is, the best on top; 16 bits where there are more than 255."""
    names = file_names(list(found.detections))
    for phrase, listed in found.detections.items():
        numbers = np.zeros((found.height, found.width), dtype=np.uint8 if len(listed) < 256 else np.uint16)
        for number, one in reversed(list(enumerate(listed, 1))):
            if "segmentation" in one:
                numbers[decode_mask(one["segmentation"]["counts"], found.height, found.width)] = number
        file = folder / found.name / f"{names[phrase]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers).save(file)


def file_names(phrases: list[str]) -> dict[str, str]:
    """Phrases as names of files; those that would be called the same are numbered."""
    names: dict[str, str] = {}
    for phrase in phrases:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in phrase)[:80]
        taken = {name.casefold() for name in names.values()}
        number = next(
            n for n in range(1, len(phrases) + 1) if (plain if n == 1 else f"{plain}-{n}").casefold() not in taken
        )
        names[phrase] = plain if number == 1 else f"{plain}-{number}"
    return names


def write_labelme(found: ImagePrediction, image: str, folder: Path) -> None:
    """
    `NAME.json`, which LabelMe opens: polygons of few points, the parts of an instance under one `group_id`; masks with holes as bitmaps,
    boxes where there is no mask.
    """
    file = folder / f"{found.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    shapes, group = [], 0
    for phrase, listed in found.detections.items():
        for one in listed:
            parts = _labelme_parts(one, found)
            group += len(parts) > 1
            for part in parts:
                common = {"label": phrase, "group_id": group if len(parts) > 1 else None, "flags": {}}
                shapes.append(common | {"description": f"score {one['score']:.3f}"} | part)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image, file.parent)).as_posix(),
        "imageData": None,
        "imageHeight": found.height,
        "imageWidth": found.width,
    }
    write_json(file, content, indent=1)


def _labelme_parts(one: dict, found: ImagePrediction) -> list[dict]:
    if "segmentation" not in one:
        x, y, w, h = one["bbox"]
        return [{"shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]}]
    mask = decode_mask(one["segmentation"]["counts"], found.height, found.width)
    parts, has_holes = outlines(mask)
    if not has_holes:
        return [{"shape_type": "polygon", "points": np.reshape(part, (-1, 2)).tolist()} for part in parts]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    buffer = io.BytesIO()
    Image.fromarray(piece).save(buffer, "PNG")
    corners = [[float(columns[0]), float(rows[0])], [float(columns[-1]), float(rows[-1])]]
    return [{"shape_type": "mask", "points": corners, "mask": base64.b64encode(buffer.getvalue()).decode()}]


def write_yolo(found: ImagePrediction, image: str, folder: Path, phrases: list[str]) -> int:
    """
    `images/NAME.*` (linked) and `labels/NAME.txt`, a line an instance: class, then one polygon, parts joined by a line as Ultralytics does.

    Returns:
        `int`: instances whose holes YOLO cannot say, and which were filled.
    """
    label = folder / "labels" / f"{found.name}.txt"
    picture = folder / "images" / f"{found.name}{Path(image).suffix}"
    for file in (label, picture):
        file.parent.mkdir(parents=True, exist_ok=True)
    lines, filled, scale = [], 0, np.array([found.width, found.height])
    for phrase, listed in found.detections.items():
        for one in listed:
            if "segmentation" in one:
                parts, has_holes = outlines(decode_mask(one["segmentation"]["counts"], found.height, found.width))
                points = _joined([np.reshape(part, (-1, 2)) for part in parts])
                filled += has_holes
            else:
                x, y, w, h = one["bbox"]
                points = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
            values = " ".join(f"{v:.6f}" for v in np.clip(points / scale, 0, 1).flatten())
            lines.append(f"{phrases.index(phrase)} {values}\n" if len(points) else "")
    write_text(label, "".join(lines))
    picture.unlink(missing_ok=True)  # of an earlier image of this name
    try:
        os.link(Path(image).resolve(), picture)  # of the file itself: a link to a symbolic link may lead nowhere
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(image, picture)
    return filled


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One polygon: from the nearest points of what is there to the next part and back the same way."""
    points = parts[0] if parts else np.zeros((0, 2))
    for part in parts[1:]:
        gaps = np.linalg.norm(points[:, None] - part[None], axis=-1)
        here, there = np.unravel_index(gaps.argmin(), gaps.shape)
        loop = np.roll(part, -there, axis=0)
        points = np.concatenate([points[: here + 1], loop, loop[:1], points[here:]])
    return points


def write_yolo_names(owned: OwnedFiles, phrases: list[str]) -> None:
    """
    Write `yolo/data.yaml`. Which images validate is the user's choice.

    Args:
        owned (`OwnedFiles`): Of the predictions' folder.
        phrases (`list[str]`): Classes, in the order of their numbers.
    """
    content = {"path": ".", "train": "images", "names": dict(enumerate(phrases))}
    owned.write_text("yolo/data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False), "predictions_dir")


def write_coco(
    predictions: Iterable[ImagePrediction], files: dict[str, str], phrases: list[str], owned: OwnedFiles
) -> int:
    """
    Write `coco.json`, a data set that `annotation_file` reads (`image_folder`: where the images are), and `results.json`, the same as COCO results.

    Args:
        predictions (`Iterable[ImagePrediction]`): Of all images.
        files (`dict[str, str]`): Name to image file.
        phrases (`list[str]`): Categories, in the order of their ids.
        owned (`OwnedFiles`): Of the predictions' folder.

    Returns:
        `int`: Number of detections.
    """
    numbers = {phrase: number for number, phrase in enumerate(phrases, 1)}
    places = {name: Path(file).resolve() for name, file in files.items()}
    root = Path(os.path.commonpath([place.parent for place in places.values()]))
    images, annotations, results = [], [], []
    for image_id, found in enumerate(predictions, 1):
        listed = places[found.name].relative_to(root).as_posix()
        images.append({"id": image_id, "file_name": listed, "width": found.width, "height": found.height})
        for phrase, detections in found.detections.items():
            for one in detections:
                result = {"image_id": image_id, "category_id": numbers[phrase], **one}
                results.append(result)
                common = {"id": len(annotations) + 1, "iscrowd": 0, "area": area_of(one), "noun_phrase": phrase}
                annotations.append({"segmentation": []} | result | common)
    categories = [{"id": number, "name": phrase, "supercategory": "phrase"} for phrase, number in numbers.items()]
    info = {"description": "predictions of sam-ft", "image_folder": str(root)}
    coco = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    for name, content in (("coco.json", coco), ("results.json", results)):
        owned.write_text(name, to_json(content, name), "predictions_dir")
    return len(results)
