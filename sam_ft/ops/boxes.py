"""Box formats and overlaps; the box format is part of each function's name."""

import torch


def box_cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Convert boxes of shape `(..., 4)` from `(cx, cy, w, h)` to `(x1, y1, x2, y2)`, in the same unit."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """Convert boxes of shape `(..., 4)` from `(x1, y1, x2, y2)` to `(cx, cy, w, h)`, in the same unit."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def paired_box_overlap(first_cxcywh: torch.Tensor, second_cxcywh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute IoU and generalised IoU of paired boxes.

    The four coordinates are processed separately: with the last axis stored first (`planes.movedim(0, -1)`), each step
    runs over contiguous memory.

    Args:
        first_cxcywh (`torch.Tensor` of shape `(..., 4)`): Boxes `(cx, cy, w, h)`.
        second_cxcywh (`torch.Tensor` of shape `(..., 4)`): Boxes in the same unit, broadcast against the first.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: IoU in `[0, 1]` and GIoU in `[-1, 1]`, both of the broadcast shape without
        its last axis. Two boxes without area have IoU 0 instead of the official code's NaN.

    Source:
        Rezatofighi et al. 2019.
    """
    (left, top, right, bottom), (left2, top2, right2, bottom2) = _edges(first_cxcywh), _edges(second_cxcywh)
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp(min=0)
    intersection = width * height
    union = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - intersection
    hull = (torch.maximum(right, right2) - torch.minimum(left, left2)) * (
        torch.maximum(bottom, bottom2) - torch.minimum(top, top2)
    )
    tiny = torch.finfo(union.dtype).tiny  # avoids 0 / 0 without a change of any other quotient
    iou = intersection / union.clamp(min=tiny)
    return iou, iou - (hull - union) / hull.clamp(min=tiny)


def _edges(boxes_cxcywh: torch.Tensor) -> tuple[torch.Tensor, ...]:
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return (
        torch.sub(cx, w, alpha=0.5),
        torch.sub(cy, h, alpha=0.5),
        torch.add(cx, w, alpha=0.5),
        torch.add(cy, h, alpha=0.5),
    )


def boxes_in_region(boxes_xyxy: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """
    Compute the share of each box's area inside a region.

    A summed-area table avoids loops and host synchronisation.

    Args:
        boxes_xyxy (`torch.Tensor` of shape `(..., 4)`): Boxes in `[0, 1]`, relative to the region's width and height.
        region (`torch.Tensor` of shape `(H, W)`): Bool mask.

    Returns:
        `torch.Tensor` of shape `(...)`: Values in `[0, 1]`; 0 for a box that covers no pixel centre.
    """
    height, width = region.shape
    # The sums are integers, because CUDA has no deterministic sum of floats along an axis.
    table = region.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    table = torch.nn.functional.pad(table, (1, 0, 1, 0))  # (H + 1, W + 1)
    x1, x2 = ((boxes_xyxy[..., i] * width).round().long().clamp(0, width) for i in (0, 2))
    y1, y2 = ((boxes_xyxy[..., i] * height).round().long().clamp(0, height) for i in (1, 3))
    inside = table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]
    return inside / ((x2 - x1) * (y2 - y1)).clamp(min=1)
