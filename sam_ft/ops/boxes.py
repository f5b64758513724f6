"""Box formats and overlaps. A box format is always part of a function's name."""

import torch


def box_cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Converts boxes of shape `(..., 4)` from `(cx, cy, w, h)` to `(x1, y1, x2, y2)`, in the same unit."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """Converts boxes of shape `(..., 4)` from `(x1, y1, x2, y2)` to `(cx, cy, w, h)`, in the same unit."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_xywh_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """Converts boxes of shape `(..., 4)` from COCO's `(x, y, w, h)` to `(cx, cy, w, h)`, in the same unit."""
    return torch.cat([boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]], dim=-1)


def paired_box_overlap(first_xyxy: torch.Tensor, second_xyxy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    IoU and generalised IoU (Rezatofighi et al. 2019) of boxes that face each other.

    Args:
        first_xyxy (`torch.Tensor` of shape `(..., 4)`): boxes `(x1, y1, x2, y2)`.
        second_xyxy (`torch.Tensor` of shape `(..., 4)`): boxes in the same unit, broadcast against the first.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: IoU in `[0, 1]` and GIoU in `[-1, 1]`, both of the broadcast shape without
        its last axis. Two boxes without area have IoU 0 and no NaN, which the official code does not guard against.
    """
    overlap = (
        torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
        - torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    ).clamp(min=0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = _area_xyxy(first_xyxy) + _area_xyxy(second_xyxy) - intersection
    hull = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:]) - torch.minimum(
        first_xyxy[..., :2], second_xyxy[..., :2]
    )
    hull_area = hull[..., 0] * hull[..., 1]
    tiny = torch.finfo(union.dtype).tiny  # keeps 0 / 0 out and leaves every true quotient as it is
    iou = intersection / union.clamp(min=tiny)
    return iou, iou - (hull_area - union) / hull_area.clamp(min=tiny)


def _area_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def boxes_in_region(boxes_xyxy: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """
    The share of each box's area that lies in a region, by a summed-area table (no loop, no host synchronisation).

    Args:
        boxes_xyxy (`torch.Tensor` of shape `(..., 4)`): boxes in `[0, 1]`, relative to the region's width and height.
        region (`torch.Tensor` of shape `(H, W)`): bool.

    Returns:
        `torch.Tensor` of shape `(...)`: values in `[0, 1]`; 0 for a box that covers no pixel centre.
    """
    height, width = region.shape
    table = torch.nn.functional.pad(region.float().cumsum(0).cumsum(1), (1, 0, 1, 0))  # (H + 1, W + 1)
    x1, x2 = ((boxes_xyxy[..., i] * width).round().long().clamp(0, width) for i in (0, 2))
    y1, y2 = ((boxes_xyxy[..., i] * height).round().long().clamp(0, height) for i in (1, 3))
    inside = table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]
    return inside / ((x2 - x1) * (y2 - y1)).clamp(min=1)
