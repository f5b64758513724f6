"""Post-processing of predictions to detections at the original image size."""

import numpy as np
import torch

from ..ops.masks import encode_mask, encode_masks, mask_box_xywh


MASKS_PER_BLOCK = 16


def to_detections(
    scores: torch.Tensor, boxes_xyxy: torch.Tensor, masks: torch.Tensor | None, height: int, width: int
) -> list[dict]:
    """
    Convert one pair's predictions to detections at the original image size.

    Masks are resized bilinearly and thresholded at a probability of 0.5.

    Args:
        scores (`torch.Tensor` of shape `(n,)`): Scores, in `[0, 1]`.
        boxes_xyxy (`torch.Tensor` of shape `(n, 4)`): Normalised `(x1, y1, x2, y2)`.
        masks (`torch.Tensor` of shape `(n, h, w)` or `None`): Mask logits.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `list[dict]`: `score`, `bbox` `[x, y, w, h]` in px and, with masks, `segmentation`, a COCO RLE.

    Source:
        `PostProcessImage` of `sam3/eval/postprocessors.py`.
    """
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    corners = boxes_xyxy.float().cpu() * scale
    detections = [
        {"score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for score, (x1, y1, x2, y2) in zip(scores.float().tolist(), corners.tolist(), strict=True)
    ]
    if masks is None:
        return detections
    for start in range(0, len(detections), MASKS_PER_BLOCK):
        counts = encode_masks(masks_at(masks[start : start + MASKS_PER_BLOCK], height, width))
        for detection, text in zip(detections[start : start + MASKS_PER_BLOCK], counts, strict=True):
            detection["segmentation"] = {"size": [height, width], "counts": text}
    return detections


def masks_at(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """
    Resize mask logits bilinearly to the image size and threshold them at 0.

    Args:
        logits (`torch.Tensor` of shape `(n, h, w)`): Mask logits.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `np.ndarray` of shape `(n, height, width)`: Bool masks.
    """
    full = torch.nn.functional.interpolate(
        logits.float()[:, None], (height, width), mode="bilinear", align_corners=False
    )
    return (full[:, 0] > 0).cpu().numpy()


def prompted_detection(mask: np.ndarray, predicted_iou: float) -> dict:
    """
    Convert SAM 2's prediction for one prompt to a detection as of [`to_detections`].

    The score is `(1 + predicted IoU) / 2`: each prompt has a prediction, so each detection must reach the score
    threshold of 0.5, ranked by predicted IoU.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): Bool mask at the original image size.
        predicted_iou (`float`): Predicted IoU, in `[0, 1]`.

    Returns:
        `dict`: `score`, `bbox`, `segmentation` and `predicted_iou`.
    """
    counts, size = encode_mask(mask), list(mask.shape)
    box = mask_box_xywh(counts, *size)
    mask_and_box = {"bbox": box, "segmentation": {"size": size, "counts": counts}}
    return {"score": (1 + predicted_iou) / 2, "predicted_iou": predicted_iou, **mask_and_box}
