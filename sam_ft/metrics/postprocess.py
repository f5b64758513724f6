"""Predictions of a pair to detections at the image's own size."""

import torch

from ..ops.masks import encode_masks


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
        block = masks[start : start + MASKS_PER_BLOCK].float()[:, None]
        block = torch.nn.functional.interpolate(block, (height, width), mode="bilinear", align_corners=False)[:, 0] > 0
        counts = encode_masks(block.cpu().numpy())
        for detection, text in zip(found[start : start + MASKS_PER_BLOCK], counts, strict=True):
            detection["segmentation"] = {"size": [height, width], "counts": text}
    return found
