"""Non-maximum suppression of one phrase's detections, within an image and across its tiles."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from ..ops.masks import mask_area, mask_box_xywh, uncompressed_to_counts


TILE_NMS_IOM = 0.5  # from this intersection over minimum on, detections of different tiles are one object
_BORDER_MARGIN = 2  # px; a detection this close to an inner border of a tile is cut by it


@dataclass
class Piece:
    """
    Detection of one view.

    Attributes:
        detection (`dict`): Detection in px of the image.
        cut (`bool`): Whether a border of its tile cuts it, `False` by default.
    """

    detection: dict
    cut: bool = False


def is_cut(bbox: list[float], window: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    """
    Check whether a box touches a border of its window that is not a border of the image.

    Args:
        bbox (`list[float]`): Box `(x, y, w, h)` in px of the image.
        window (`tuple[int, int, int, int]`): Window `(x, y, w, h)` in px of the image.
        size (`tuple[int, int]`): Height and width of the image, px.
    """
    x, y, w, h = window
    left, top, right, bottom = bbox[0] - x, bbox[1] - y, x + w - bbox[0] - bbox[2], y + h - bbox[1] - bbox[3]
    inner = (x > 0, y > 0, x + w < size[1], y + h < size[0])
    return any(
        is_inner and gap <= _BORDER_MARGIN for is_inner, gap in zip(inner, (left, top, right, bottom), strict=True)
    )


def compute_intersection_over_minimum(first: list[dict], second: list[dict]) -> np.ndarray:
    """
    Compute the intersection over minimum area (IoM) of two sets of detections, by masks or, without masks, by boxes.

    Args:
        first (`list[dict]`): Detections.
        second (`list[dict]`): Detections.

    Returns:
        `np.ndarray` of shape `(len(first), len(second))`: 1 if one detection lies within the other.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    masks = all("segmentation" in d for d in (*first, *second))
    regions = [
        [d["segmentation"] for d in detections]
        if masks
        else np.array([d["bbox"] for d in detections], dtype=np.float64)
        for detections in (first, second)
    ]
    # for a crowd, pycocotools divides the intersection by the area of the detection alone
    in_second = coco_mask.iou(regions[0], regions[1], [1] * len(second))
    in_first = coco_mask.iou(regions[1], regions[0], [1] * len(first))
    return np.maximum(np.asarray(in_second), np.asarray(in_first).T)


def suppress(pieces: list[Piece], threshold: float) -> list[dict]:
    """
    Keep one detection per object, greedily by score and whole detections before cut ones; merge cut detections.

    Args:
        pieces (`list[Piece]`): Detections of one phrase.
        threshold (`float`): IoM from which on two detections are one object.

    Returns:
        `list[dict]`: Kept detections, highest score first.

    Source:
        SAHI, Akyon et al. 2022, which names the overlap IoS.
    """
    kept: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.cut, -p.detection["score"])):
        overlaps = compute_intersection_over_minimum([piece.detection], [other.detection for other in kept])
        match = int(overlaps[0].argmax()) if overlaps.size and overlaps.max() >= threshold else None
        if match is None:
            kept.append(piece)
        elif piece.cut and kept[match].cut:
            kept[match].detection = _merge(kept[match].detection, piece.detection)
    return sorted((piece.detection for piece in kept), key=lambda d: -d["score"])


def _merge(first: dict, second: dict) -> dict:
    """Unite two detections; the score is the first one's."""
    if "segmentation" not in first or "segmentation" not in second:
        (x, y, w, h), (u, v, s, t) = first["bbox"], second["bbox"]
        left, top = min(x, u), min(y, v)
        return first | {"bbox": [left, top, max(x + w, u + s) - left, max(y + h, v + t) - top]}
    size = first["segmentation"]["size"]
    merged = coco_mask.merge([first["segmentation"], second["segmentation"]])["counts"].decode("ascii")
    return first | {"segmentation": {"size": size, "counts": merged}, "bbox": mask_box_xywh(merged, *size)}


def move_to_image(detection: dict, window: tuple[int, int, int, int], size: tuple[int, int]) -> dict:
    """
    Move a detection from the coordinates of a window to those of the image.

    Args:
        detection (`dict`): Detection in px of the window.
        window (`tuple[int, int, int, int]`): Window `(x, y, w, h)` in px of the image.
        size (`tuple[int, int]`): Height and width of the image, px.

    Returns:
        `dict`: Detection in px of the image.
    """
    x, y, w, h = window
    if (w, h) == (size[1], size[0]):
        return detection
    left, top, width, height = detection["bbox"]
    moved = detection | {"bbox": [left + x, top + y, width, height]}
    if "segmentation" in detection:
        # RLE runs go down the columns, so that only the columns of the window are decoded
        columns = np.zeros((size[0], w), dtype=np.uint8)
        columns[y : y + h] = coco_mask.decode(detection["segmentation"])
        flat = np.concatenate([[0], columns.ravel(order="F"), [0]])
        changes = np.flatnonzero(np.diff(flat)) + x * size[0]
        runs = np.diff([0, *changes, size[0] * size[1]]).tolist()
        moved["segmentation"] = {"size": list(size), "counts": uncompressed_to_counts(runs, list(size), *size)}
    return moved


def compute_area(detection: dict) -> float:
    """Compute the area of a detection's mask, px; of its box if it has no mask."""
    if "segmentation" in detection:
        return mask_area(detection["segmentation"]["counts"], *detection["segmentation"]["size"])
    return detection["bbox"][2] * detection["bbox"][3]
