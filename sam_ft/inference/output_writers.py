"""Output files of one image: LabelMe and YOLO to label further, overlays, and mask images."""

import base64
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ..data.image_entries import ImageEntry
from ..data.row_schema import to_rgb
from ..ops.masks import decode_mask
from ..ops.outline import outlines
from ..reporting.pictures import color_of, draw_instances
from ..utils.files import write_text
from ..utils.json_files import write_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import escape_control_characters
from .predictor import ImagePrediction
from .tiling import open_trusted_image


def write_overlay(prediction: ImagePrediction, image: ImageEntry, folder: Path, channels: Sequence[int] = ()) -> None:
    """
    Write `NAME.jpg`: masks, boxes and scores drawn on the image.

    Args:
        prediction (`ImagePrediction`): The prediction.
        image (`ImageEntry`): The image.
        folder (`Path`): Output folder.
        channels (`Sequence[int]`): Three channels of the image, from 1; see [`open_trusted_image`].
    """
    texts = {phrase: escape_control_characters(" ".join(phrase.split())) for phrase in prediction.detections}
    colors = {text: color_of(i) for i, text in enumerate(texts.values())}
    drawn = [
        (text, d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
        for phrase, text in texts.items()
        for d in prediction.detections[phrase]
    ]
    title = ", ".join(f"{text}: {len(prediction.detections[phrase])}" for phrase, text in texts.items())
    file = folder / f"{prediction.name}.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    draw_instances(to_rgb(open_trusted_image(image.load(), channels)), drawn, colors, title).save(file, quality=90)


def write_masks(prediction: ImagePrediction, _image: ImageEntry, folder: Path) -> None:
    """
    Write `NAME/PHRASE.png` for each phrase: a pixel's value is the rank of its instance by score, 0 without one.

    The image has 16 bits for more than 255 instances. Where masks overlap, the higher score wins.

    Args:
        prediction (`ImagePrediction`): The prediction.
        _image (`ImageEntry`): The image; unused, as all writers have the same parameters.
        folder (`Path`): Output folder.
    """
    names = derive_phrase_file_names(list(prediction.detections))
    for phrase, detections in prediction.detections.items():
        ranks = np.zeros((prediction.height, prediction.width), dtype=np.uint8 if len(detections) < 256 else np.uint16)
        for rank, detection in reversed(list(enumerate(detections, 1))):
            if "segmentation" in detection:
                ranks[decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)] = rank
        file = folder / prediction.name / f"{names[phrase]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ranks).save(file)


def derive_phrase_file_names(phrases: list[str]) -> dict[str, str]:
    """
    Derive a file name from each phrase; equal names are numbered.

    Args:
        phrases (`list[str]`): The phrases.

    Returns:
        `dict[str, str]`: File name, without a suffix, by phrase.
    """
    names: dict[str, str] = {}
    for phrase in phrases:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in phrase)[:80]
        used_names = {name.casefold() for name in names.values()}
        number = next(
            n for n in range(1, len(phrases) + 1) if (plain if n == 1 else f"{plain}-{n}").casefold() not in used_names
        )
        names[phrase] = plain if number == 1 else f"{plain}-{number}"
    return names


def write_labelme(prediction: ImagePrediction, image: ImageEntry, folder: Path) -> None:
    """
    Write `NAME.json` for LabelMe.

    Masks become simplified polygons, whose parts share a `group_id`; masks with holes become bitmaps, and detections
    without a mask become rectangles.

    Args:
        prediction (`ImagePrediction`): The prediction.
        image (`ImageEntry`): The image.
        folder (`Path`): Output folder.
    """
    file = folder / f"{prediction.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    shapes, group = [], 0
    for phrase, detections in prediction.detections.items():
        for detection in detections:
            parts = _labelme_parts(detection, prediction)
            group += len(parts) > 1
            for part in parts:
                common = {"label": phrase, "group_id": group if len(parts) > 1 else None, "flags": {}}
                shapes.append(common | {"description": f"score {detection['score']:.3f}"} | part)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image.file, file.parent)).as_posix()
        if image.is_file
        else f"{file.stem}{image.suffix}",
        "imageData": None if image.is_file else base64.b64encode(image.load()).decode(),
        "imageHeight": prediction.height,
        "imageWidth": prediction.width,
    }
    write_json(file, content, indent=1)


def _labelme_parts(detection: dict, prediction: ImagePrediction) -> list[dict]:
    if "segmentation" not in detection:
        x, y, w, h = detection["bbox"]
        return [{"shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]}]
    mask = decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)
    parts, has_holes = outlines(mask)
    if not has_holes:
        return [{"shape_type": "polygon", "points": np.reshape(part, (-1, 2)).tolist()} for part in parts]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cropped = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    buffer = io.BytesIO()
    Image.fromarray(cropped).save(buffer, "PNG")
    corners = [[float(columns[0]), float(rows[0])], [float(columns[-1]), float(rows[-1])]]
    return [{"shape_type": "mask", "points": corners, "mask": base64.b64encode(buffer.getvalue()).decode()}]


def write_yolo(prediction: ImagePrediction, image: ImageEntry, folder: Path, phrases: list[str]) -> int:
    """
    Write `labels/NAME.txt` and link the image as `images/NAME.*`.

    Each line is an instance: its class and one polygon, whose parts are joined as in Ultralytics' converter.

    Args:
        prediction (`ImagePrediction`): The prediction.
        image (`ImageEntry`): The image.
        folder (`Path`): Output folder.
        phrases (`list[str]`): Classes, in the order of their numbers.

    Returns:
        `int`: Number of instances whose holes were filled, since the format has none.
    """
    label = folder / "labels" / f"{prediction.name}.txt"
    picture = folder / "images" / f"{prediction.name}{image.suffix}"
    for file in (label, picture):
        file.parent.mkdir(parents=True, exist_ok=True)
    lines, filled, scale = [], 0, np.array([prediction.width, prediction.height])
    for phrase, detections in prediction.detections.items():
        for detection in detections:
            if "segmentation" in detection:
                mask = decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)
                parts, has_holes = outlines(mask)
                points = _join_parts([np.reshape(part, (-1, 2)) for part in parts])
                filled += has_holes
            else:
                x, y, w, h = detection["bbox"]
                points = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
            values = " ".join(f"{v:.6f}" for v in np.clip(points / scale, 0, 1).flatten())
            lines.append(f"{phrases.index(phrase)} {values}\n" if len(points) else "")
    write_text(label, "".join(lines))
    picture.unlink(missing_ok=True)  # an earlier image may have had this name
    content = image.load()
    if isinstance(content, bytes):
        picture.write_bytes(content)
        return filled
    try:
        os.link(content.resolve(), picture)  # resolved, because a link to a symbolic link may be broken
    except OSError:  # hard links do not cross file systems
        shutil.copyfile(content, picture)
    return filled


def _join_parts(parts: list[np.ndarray]) -> np.ndarray:
    """Join polygons into one, by a line to and from each next part at the nearest pair of points."""
    points = parts[0] if parts else np.zeros((0, 2))
    for part in parts[1:]:
        distances = np.linalg.norm(points[:, None] - part[None], axis=-1)
        nearest, start = np.unravel_index(distances.argmin(), distances.shape)
        loop = np.roll(part, -start, axis=0)
        points = np.concatenate([points[: nearest + 1], loop, loop[:1], points[nearest:]])
    return points


def write_yolo_names(owned: OwnedFiles, phrases: list[str]) -> None:
    """
    Write `yolo/data.yaml`, without a validation split.

    Args:
        owned (`OwnedFiles`): Files of the predictions' folder.
        phrases (`list[str]`): Classes, in the order of their numbers.
    """
    content = {"path": ".", "train": "images", "names": dict(enumerate(phrases))}
    owned.write_text("yolo/data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False), "predictions_dir")
