"""Predictions of a pair to detections at the image's own size."""

import numpy as np
import torch

from ..ops.masks import encode_mask, encode_masks, mask_box_xywh


MASKS_PER_BLOCK = 16


def to_detections(
    scores: torch.Tensor, boxes_xyxy: torch.Tensor, masks: torch.Tensor | None, height: int, width: int
) -> list[dict]:
    """
    Brings one pair's predictions to the image (`sam3/eval/postprocessors.py`, `PostProcessImage`: bilinear to the
    original size, then a threshold of 0.5).

    Args:
        scores (`torch.Tensor` of shape `(n,)`), boxes_xyxy (`torch.Tensor` of shape `(n, 4)`): in `[0, 1]`.
        masks (`torch.Tensor` of shape `(n, h, w)` or `None`): logits.
        height (`int`), width (`int`): of the image, px.

    Returns:
        `list[dict]`: `score`; `bbox` `[x, y, w, h]` in px; `segmentation`, a COCO RLE, or no such key without masks.
    """
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    corners = boxes_xyxy.float().cpu() * scale
    found = [
        {"score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for score, (x1, y1, x2, y2) in zip(scores.float().tolist(), corners.tolist(), strict=True)
    ]
    if masks is None:
        return found
    for start in range(0, len(found), MASKS_PER_BLOCK):
        counts = encode_masks(masks_at(masks[start : start + MASKS_PER_BLOCK], height, width))
        for detection, text in zip(found[start : start + MASKS_PER_BLOCK], counts, strict=True):
            detection["segmentation"] = {"size": [height, width], "counts": text}
    return found


def masks_at(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Bool masks `(n, height, width)` of logits `(n, h, w)`: bilinear to the image's size, then a threshold of 0."""
    full = torch.nn.functional.interpolate(
        logits.float()[:, None], (height, width), mode="bilinear", align_corners=False
    )
    return (full[:, 0] > 0).cpu().numpy()


def prompted_detection(mask: np.ndarray, predicted_iou: float) -> dict:
    """
    SAM 2's answer to a prompt as [`to_detections`] gives SAM 3's: `score`, `bbox`, `segmentation`, and `predicted_iou`. The score is `(1 + predicted IoU) / 2`: every prompt
    is answered, so that every answer counts from a score of 0.5 on, and the surer ones rank first.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool, at the image's size. predicted_iou (`float`): in `[0, 1]`.
    """
    counts, size = encode_mask(mask), list(mask.shape)
    box = mask_box_xywh(counts, *size)
    mask_and_box = {"bbox": box, "segmentation": {"size": size, "counts": counts}}
    return {"score": (1 + predicted_iou) / 2, "predicted_iou": predicted_iou, **mask_and_box}
