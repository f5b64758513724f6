"""Corrective clicks: positive on missing pixels, negative on surplus pixels."""

import numpy as np
import torch
from scipy import ndimage


def uniform_clicks(
    targets: torch.Tensor, masks: torch.Tensor | None, draws: torch.Tensor, from_truth: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Sample one click per object, uniformly over the wrong pixels.

    A click is positive on a missing pixel and negative on a surplus one. Without wrong pixels it lies on the
    background; without background it is a negative click at (0, 0). There is no host synchronisation.

    Args:
        targets (`torch.Tensor` of shape `(N, H, W)`): Bool ground-truth masks.
        masks (`torch.Tensor` of shape `(N, H, W)`, *optional*): Bool predicted masks; without them, clicks lie in the
            targets.
        draws (`torch.Tensor` of shape `(N,)`): Uniform numbers in `[0, 1)` that select the pixels, on any device.
        from_truth (`torch.Tensor` of shape `(N,)`, *optional*): Bool; true for a click in the target, independent of
            the mask.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: x and y `(N, 2)` in px, and labels `(N,)`: 1 positive, 0 negative.

    Source:
        `sample_random_points_from_errors` of `sam2_utils.py`.
    """
    wrong = targets if masks is None else targets ^ masks
    if from_truth is not None:
        wrong = torch.where(from_truth[:, None, None], targets, wrong)
    candidates = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, ~targets).flatten(1)
    cumulative = candidates.cumsum(1, dtype=torch.int32)
    total = cumulative[:, -1]
    rank = torch.minimum((draws.to(torch.float32) * total).to(torch.int32), (total - 1).clamp(min=0)) + 1
    pixel = torch.searchsorted(cumulative, rank[:, None].contiguous())[:, 0].clamp(max=candidates.shape[1] - 1)
    pixel = torch.where(total > 0, pixel, 0)
    labels = targets.flatten(1).gather(1, pixel[:, None])[:, 0] & (total > 0)
    width = targets.shape[-1]
    return torch.stack([pixel % width, pixel // width], dim=-1).float(), labels.long()


def center_click(target: np.ndarray, mask: np.ndarray | None = None) -> tuple[list[float], int]:
    """
    Compute the click of an evaluation: the pixel farthest from the edge of the larger error.

    Args:
        target (`np.ndarray` of shape `(H, W)`): Bool ground-truth mask.
        mask (`np.ndarray` of shape `(H, W)`, *optional*): Bool predicted mask, default empty.

    Returns:
        `tuple[list[float], int]`: x and y in px, and 1 (positive) or 0 (negative). Without wrong pixels, a negative
        click at (0, 0).

    Source:
        `sample_one_point_from_error_center` of `sam2_utils.py`.
    """
    mask = np.zeros_like(target) if mask is None else mask
    missing, surplus = _deepest(target & ~mask), _deepest(mask & ~target)
    positive = missing[0] > surplus[0]  # at equal depth the click is negative, as in the official code
    return (missing if positive else surplus)[1], int(positive)


def _deepest(region: np.ndarray) -> tuple[float, list[float]]:
    """Return depth and `[x, y]` of a region's deepest pixel, the first of equals; the image border is outside."""
    if not region.any():
        return 0.0, [0.0, 0.0]
    left, top, right, bottom = map(int, tight_box(region))
    piece = np.pad(region[top : bottom + 1, left : right + 1], 1)
    depth = ndimage.distance_transform_edt(piece)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(depth[y, x]), [float(x - 1 + left), float(y - 1 + top)]


def tight_box(mask: np.ndarray) -> list[float]:
    """
    Compute the box of the outermost pixels of a mask.

    Args:
        mask (`np.ndarray` of shape `(H, W)`): Bool mask that is not empty.

    Returns:
        `list[float]`: `[x1, y1, x2, y2]` in px; both corners are pixels of the box.

    Source:
        `mask_to_box` of `sam2/utils/misc.py`.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(xs[0]), float(ys[0]), float(xs[-1]), float(ys[-1])]
