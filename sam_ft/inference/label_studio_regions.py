"""Regions of Label Studio: conversion of the detections of an image for the tools of a labelling configuration."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from ..data.readers.brush_rle import encode_brush_rle
from ..ops.masks import decode_mask, polygons_to_counts, to_coco_rle
from ..ops.outline import outlines
from .predictor import ImagePrediction


MAX_POINTS = 200  # of a polygon; outlines of more points are tedious to edit
RELATIVE_TOLERANCE = 1e-3  # deviation of a polygon from its mask as a share of the image's long side; 1 px at least
MIN_IOU = 0.95  # of a polygon and its mask
TAGS = {"polygon": "PolygonLabels", "brush": "BrushLabels", "rectangle": "RectangleLabels"}


@dataclass(frozen=True)
class LabelTool:
    """
    Tool of a labelling configuration that draws labelled regions.

    Attributes:
        kind (`str`): `polygon`, `brush` or `rectangle`.
        name (`str`): Name of the tool.
        image_name (`str`): Name of the image that it draws on.
        labels (`tuple[str, ...]`): Labels.
    """

    kind: str
    name: str
    image_name: str
    labels: tuple[str, ...]


def build_prediction(prediction: ImagePrediction, tools: list[LabelTool], model_version: str, prefix: str) -> dict:
    """
    Build the prediction of a task.

    A mask becomes a polygon if it has one piece without holes and an outline of at most `MAX_POINTS` points represents
    it with an IoU of at least `MIN_IOU`: a simplified outline, see [`outlines`], or else the exact one. Other masks
    become brush masks, which are exact, and detections without a mask become rectangles. A label without that tool has
    the next best of its tools: a polygon for each piece of a mask, with holes filled, or a rectangle.

    Args:
        prediction (`ImagePrediction`): Prediction of the image.
        tools (`list[LabelTool]`): Tools of the configuration.
        model_version (`str`): Version of the predictions in Label Studio.
        prefix (`str`): Beginning of the ids of the regions.

    Returns:
        `dict`: `model_version`, `result` and, if there are detections, `score`, the mean score of the detections.

    Raises:
        `ValueError`: If no tool has the label of a detection, or none of its tools can draw the detection.
    """
    detected = [(phrase, d) for phrase, detections in prediction.detections.items() for d in detections]
    drawn = []
    for phrase, detection in detected:
        by_kind = {tool.kind: tool for tool in reversed(tools) if phrase in tool.labels}
        for kind, value in _convert_geometry(detection, prediction.height, prediction.width, set(by_kind), phrase):
            drawn.append((by_kind[kind], phrase, detection["score"], value))
    regions = [
        {
            "id": f"{prefix}-{number}",
            "type": f"{tool.kind}labels",
            "from_name": tool.name,
            "to_name": tool.image_name,
            "original_width": prediction.width,
            "original_height": prediction.height,
            "image_rotation": 0,
            "score": score,
            "value": value | {f"{tool.kind}labels": [phrase]},
        }
        for number, (tool, phrase, score, value) in enumerate(drawn, 1)
    ]
    answer = {"model_version": model_version, "result": regions}
    if detected:
        answer["score"] = sum(detection["score"] for _, detection in detected) / len(detected)
    return answer


def _convert_geometry(detection: dict, height: int, width: int, kinds: set[str], phrase: str) -> list[tuple]:
    """Return the kinds and geometries, in percent of the image, of the regions of a detection."""
    if "segmentation" in detection and kinds & {"polygon", "brush"}:
        return _convert_mask(detection["segmentation"]["counts"], height, width, kinds)
    if "rectangle" not in kinds:
        needed = "no tool" if not kinds else "no RectangleLabels, and the model predicts boxes without masks"
        raise ValueError(f"the labelling configuration has {needed} for the label {phrase!r}. Add one with this label")
    x, y, w, h = detection["bbox"]
    box = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
    return [("rectangle", box | {"rotation": 0})]


def _convert_mask(counts: str, height: int, width: int, kinds: set[str]) -> list[tuple]:
    mask = decode_mask(counts, height, width)
    polygons = _find_polygon(mask, counts) if "polygon" in kinds else None
    if polygons is None:
        if "brush" in kinds:
            return [("brush", {"format": "rle", "rle": encode_brush_rle(mask)})]
        polygons = outlines(mask, _tolerance(mask))[0]
    corners = [np.reshape(part, (-1, 2)) * 100 / [width, height] for part in polygons]
    return [("polygon", {"points": points.tolist(), "closed": True}) for points in corners]


def _find_polygon(mask: np.ndarray, counts: str) -> list[list[float]] | None:
    """Return the polygon that represents a mask, in px, as the only item; `None` if it needs a brush mask."""
    height, width = mask.shape
    for tolerance in (_tolerance(mask), 0.0):
        parts, has_holes = outlines(mask, tolerance)
        if has_holes or len(parts) != 1 or len(parts[0]) > 2 * MAX_POINTS:
            return None
        drawn = to_coco_rle(polygons_to_counts(parts, height, width), height, width)
        if coco_mask.iou([drawn], [to_coco_rle(counts, height, width)], [0])[0, 0] >= MIN_IOU:
            return parts
    return None


def _tolerance(mask: np.ndarray) -> float:
    return max(1.0, max(mask.shape) * RELATIVE_TOLERANCE)
