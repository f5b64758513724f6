"""Detections of one phrase that show the same thing: of several tiles, or twice of one image."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from ..ops.masks import mask_area, mask_box_xywh, uncompressed_to_counts


SAME = 0.5  # intersection over the smaller one from which on two detections of different tiles are one thing
_EDGE = 2  # px from a tile's inner border within which a detection was cut


@dataclass
class Piece:
    """A detection at the image's size, and whether a tile's border cut it."""

    detection: dict
    cut: bool = False


def is_cut(bbox: list[float], window: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    """
    Whether a box reaches a border of its window that is none of the image.

    Args:
        bbox (`list[float]`): `(x, y, w, h)` in px of the image. window: the same. size: height and width of the image.
    """
    x, y, w, h = window
    left, top, right, bottom = bbox[0] - x, bbox[1] - y, x + w - bbox[0] - bbox[2], y + h - bbox[1] - bbox[3]
    inner = (x > 0, y > 0, x + w < size[1], y + h < size[0])
    return any(is_inner and gap <= _EDGE for is_inner, gap in zip(inner, (left, top, right, bottom), strict=True))


def intersection_over_minimum(first: list[dict], second: list[dict]) -> np.ndarray:
    """IoM of masks, of boxes where there are none: `(len(first), len(second))`, 1 where one lies in the other."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    masks = all("segmentation" in one for one in (*first, *second))
    sides = [
        [one["segmentation"] for one in side] if masks else np.array([one["bbox"] for one in side], dtype=np.float64)
        for side in (first, second)
    ]
    # of a crowd pycocotools gives the share of the detection that lies in it
    in_second = coco_mask.iou(sides[0], sides[1], [1] * len(second))
    in_first = coco_mask.iou(sides[1], sides[0], [1] * len(first))
    return np.maximum(np.asarray(in_second), np.asarray(in_first).T)


def suppress(pieces: list[Piece], threshold: float) -> list[dict]:
    """
    Keeps one detection of each thing: greedily the best, whole ones before cut ones. Pieces of a thing that tiles have cut
    become one (as SAHI, Akyon et al. 2022, which calls the overlap IoS).

    Args:
        pieces (`list[Piece]`): of one phrase. threshold (`float`): IoM from which on two are one thing.

    Returns:
        `list[dict]`: best first.
    """
    kept: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.cut, -p.detection["score"])):
        near = intersection_over_minimum([piece.detection], [other.detection for other in kept])
        same = int(near[0].argmax()) if near.size and near.max() >= threshold else None
        if same is None:
            kept.append(piece)
        elif piece.cut and kept[same].cut:
            kept[same].detection = _united(kept[same].detection, piece.detection)
    return sorted((piece.detection for piece in kept), key=lambda d: -d["score"])


def _united(one: dict, other: dict) -> dict:
    if "segmentation" not in one or "segmentation" not in other:
        (x, y, w, h), (u, v, s, t) = one["bbox"], other["bbox"]
        left, top = min(x, u), min(y, v)
        return one | {"bbox": [left, top, max(x + w, u + s) - left, max(y + h, v + t) - top]}
    size = one["segmentation"]["size"]
    merged = coco_mask.merge([one["segmentation"], other["segmentation"]])["counts"].decode("ascii")
    return one | {"segmentation": {"size": size, "counts": merged}, "bbox": mask_box_xywh(merged, *size)}


def placed(detection: dict, window: tuple[int, int, int, int], size: tuple[int, int]) -> dict:
    """A detection of a window in px of the image."""
    x, y, w, h = window
    if (w, h) == (size[1], size[0]):
        return detection
    left, top, width, height = detection["bbox"]
    moved = detection | {"bbox": [left + x, top + y, width, height]}
    if "segmentation" in detection:
        # the window's columns alone, whatever the image's width; runs go down the columns
        columns = np.zeros((size[0], w), dtype=np.uint8)
        columns[y : y + h] = coco_mask.decode(detection["segmentation"])
        flat = np.concatenate([[0], columns.ravel(order="F"), [0]])
        changes = np.flatnonzero(np.diff(flat)) + x * size[0]
        runs = np.diff([0, *changes, size[0] * size[1]]).tolist()
        moved["segmentation"] = {"size": list(size), "counts": uncompressed_to_counts(runs, list(size), *size)}
    return moved


def area_of(detection: dict) -> float:
    """Pixels of the mask, of the box where there is none."""
    if "segmentation" in detection:
        return mask_area(detection["segmentation"]["counts"], *detection["segmentation"]["size"])
    return detection["bbox"][2] * detection["bbox"][3]
