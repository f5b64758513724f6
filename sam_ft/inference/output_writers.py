"""Content of the output files of one image: LabelMe and YOLO to label further, overlays, and mask images."""

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ..data.image_entries import ImageEntry
from ..data.row_schema import to_rgb
from ..ops.masks import decode_mask
from ..ops.outline import outlines
from ..reporting.comparisons import append_legend
from ..reporting.phrase_colors import assign_colors
from ..reporting.pictures import draw_instances
from ..utils.json_files import to_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import escape_control_characters
from .predictor import ImagePrediction
from .tiling import open_trusted_image


_FORMAT_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # others as the format


def encode_overlay(
    prediction: ImagePrediction, image: ImageEntry, _folder: Path, channels: Sequence[int] = ()
) -> dict[str, bytes]:
    """
    Encode `NAME.jpg`: masks, boxes and scores drawn on the image, above a legend of the phrases.

    Args:
        prediction (`ImagePrediction`): The prediction.
        image (`ImageEntry`): The image.
        _folder (`Path`): Output folder; unused, as all encoders have the same parameters.
        channels (`Sequence[int]`): Three channels of the image, from 1; see [`open_trusted_image`].

    Returns:
        `dict[str, bytes]`: Content of each file by its name in the output folder.
    """
    texts = {phrase: escape_control_characters(" ".join(phrase.split())) for phrase in prediction.detections}
    colors = assign_colors(texts.values())
    drawn = [
        (text, d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
        for phrase, text in texts.items()
        for d in prediction.detections[phrase]
    ]
    counts = {text: len(prediction.detections[phrase]) for phrase, text in texts.items()}
    picture = draw_instances(to_rgb(open_trusted_image(image.load(), channels)), drawn, colors, "")
    return {f"{prediction.name}.jpg": _encode(append_legend(picture, counts, colors), "JPEG", quality=90)}


def encode_masks(prediction: ImagePrediction, _image: ImageEntry, _folder: Path) -> dict[str, bytes]:
    """
    Encode `NAME/PHRASE.png` for each phrase: a pixel's value is the rank of its instance by score, 0 without one.

    The image has 16 bits for more than 255 instances. Where masks overlap, the higher score wins.

    Args:
        prediction (`ImagePrediction`): The prediction.
        _image (`ImageEntry`): The image; unused, as all encoders have the same parameters.
        _folder (`Path`): Output folder; unused.

    Returns:
        `dict[str, bytes]`: See [`encode_overlay`].
    """
    files: dict[str, bytes] = {}
    names = derive_phrase_file_names(list(prediction.detections))
    for phrase, detections in prediction.detections.items():
        ranks = np.zeros((prediction.height, prediction.width), dtype=np.uint8 if len(detections) < 256 else np.uint16)
        for rank, detection in reversed(list(enumerate(detections, 1))):
            if "segmentation" in detection:
                ranks[decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)] = rank
        files[f"{prediction.name}/{names[phrase]}.png"] = _encode(Image.fromarray(ranks), "PNG")
    return files


def _encode(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


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
        plain = plain.encode()[:200].decode(errors="ignore")  # file systems limit the bytes of a name
        used_names = {name.casefold() for name in names.values()}
        number = next(
            n for n in range(1, len(phrases) + 1) if (plain if n == 1 else f"{plain}-{n}").casefold() not in used_names
        )
        names[phrase] = plain if number == 1 else f"{plain}-{number}"
    return names


def encode_labelme(
    prediction: ImagePrediction, image: ImageEntry, folder: Path, *, with_bitmaps: bool = True
) -> dict[str, bytes]:
    """
    Encode `NAME.json` for LabelMe and X-AnyLabeling.

    Masks become simplified polygons, whose parts share a `group_id`; masks with holes become bitmaps, and detections
    without a mask become rectangles. The scores are the field `score`, which X-AnyLabeling reads, and part of the
    description, which LabelMe shows.

    Args:
        prediction (`ImagePrediction`): The prediction.
        image (`ImageEntry`): The image.
        folder (`Path`): Output folder, which paths of images are relative to.
        with_bitmaps (`bool`): Write masks with holes as bitmaps, which X-AnyLabeling refuses. `False`: the holes are
            filled.

    Returns:
        `dict[str, bytes]`: See [`encode_overlay`].
    """
    file, content = folder / f"{prediction.name}.json", image.load()
    shapes, group = [], 0
    for phrase, detections in prediction.detections.items():
        for detection in detections:
            parts = _labelme_parts(detection, prediction, with_bitmaps)
            group += len(parts) > 1
            for part in parts:
                common = {"label": phrase, "group_id": group if len(parts) > 1 else None, "flags": {}}
                score = {"description": f"score {detection['score']:.3f}", "score": round(detection["score"], 3)}
                shapes.append(common | score | part)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image.file, file.parent)).as_posix()
        if image.is_file
        else f"{file.stem}{find_image_suffix(image, content)}",
        "imageData": None if image.is_file else base64.b64encode(content).decode(),
        "imageHeight": prediction.height,
        "imageWidth": prediction.width,
    }
    return {f"{prediction.name}.json": to_json(content, str(file), indent=1).encode()}


def find_image_suffix(image: ImageEntry, content: Path | bytes) -> str:
    """
    Return the suffix of an image, or that of its format if its name has none.

    Args:
        image (`ImageEntry`): The image.
        content (`Path` or `bytes`): Its file, or its content.
    """
    if image.suffix:
        return image.suffix
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
        return _FORMAT_SUFFIXES.get(picture.format, f".{picture.format.lower()}")


def _labelme_parts(detection: dict, prediction: ImagePrediction, with_bitmaps: bool) -> list[dict]:
    if "segmentation" not in detection:
        x, y, w, h = detection["bbox"]
        return [{"shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]}]
    mask = decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)
    parts, has_holes = outlines(mask)
    if not has_holes or not with_bitmaps:
        return [{"shape_type": "polygon", "points": np.reshape(part, (-1, 2)).tolist()} for part in parts]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cropped = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    content = base64.b64encode(_encode(Image.fromarray(cropped), "PNG")).decode()
    corners = [[float(columns[0]), float(rows[0])], [float(columns[-1]), float(rows[-1])]]
    return [{"shape_type": "mask", "points": corners, "mask": content}]


def encode_yolo(prediction: ImagePrediction, phrases: list[str]) -> tuple[bytes, int]:
    """
    Encode the labels of YOLO: a line an instance, its class and one polygon, whose parts are joined as by Ultralytics.

    Args:
        prediction (`ImagePrediction`): The prediction.
        phrases (`list[str]`): Classes, in the order of their numbers.

    Returns:
        `tuple[bytes, int]`: Content of the label file, and the number of instances whose holes were filled, since the
            format has none.
    """
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
    return "".join(lines).encode(), filled


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
