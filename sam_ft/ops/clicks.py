"""Where a person would click next: inside what is missing, or on what is too much."""

import numpy as np
import torch
from scipy import ndimage


def uniform_clicks(
    targets: torch.Tensor, masks: torch.Tensor | None, draws: torch.Tensor, from_truth: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    A click uniform over the pixels that are wrong (`sam2_utils.py`, `sample_random_points_from_errors`): positive where something is missing,
    negative where something is too much. Where nothing is wrong, on the background; where that is empty too, at (0, 0), negative.

    Args:
        targets, masks (`torch.Tensor` of shape `(N, H, W)`): bool; without `masks` the click lies in the target, which is all missing.
        draws (`torch.Tensor` of shape `(N,)`): in `[0, 1)`; which pixel it is. They decide alone, on whatever device.
        from_truth (`torch.Tensor` of shape `(N,)`, *optional*): bool; click in the target whatever the mask is.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `(N, 2)` x and y in px, and labels `(N,)`: 1 positive, 0 negative. Nothing waits for the device.
    """
    wrong = targets if masks is None else targets ^ masks
    if from_truth is not None:
        wrong = torch.where(from_truth[:, None, None], targets, wrong)
    candidates = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, ~targets).flatten(1)
    places = candidates.cumsum(1, dtype=torch.int32)
    total = places[:, -1]
    wanted = torch.minimum((draws.to(torch.float32) * total).to(torch.int32), (total - 1).clamp(min=0)) + 1
    found = torch.searchsorted(places, wanted[:, None].contiguous())[:, 0].clamp(max=candidates.shape[1] - 1)
    found = torch.where(total > 0, found, 0)
    labels = targets.flatten(1).gather(1, found[:, None])[:, 0] & (total > 0)
    width = targets.shape[-1]
    return torch.stack([found % width, found // width], dim=-1).float(), labels.long()


def center_click(target: np.ndarray, mask: np.ndarray | None = None) -> tuple[list[float], int]:
    """
    The click of an evaluation (`sam2_utils.py`, `sample_one_point_from_error_center`): the pixel farthest from the edge of the larger error.

    Args:
        target, mask (`np.ndarray` of shape `(H, W)`): bool; without `mask` all of the target is missing.

    Returns:
        `tuple[list[float], int]`: x and y in px, and 1 (positive) or 0. At (0, 0), negative, where nothing is wrong.
    """
    mask = np.zeros_like(target) if mask is None else mask
    missing, surplus = _deepest(target & ~mask), _deepest(mask & ~target)
    positive = missing[0] > surplus[0]  # equally deep: negative, as officially
    return (missing if positive else surplus)[1], int(positive)


def _deepest(region: np.ndarray) -> tuple[float, list[float]]:
    """The pixel farthest from what is outside the region, the frame's rim being outside, the first of equals, and how far it is."""
    if not region.any():
        return 0.0, [0.0, 0.0]
    left, top, right, bottom = map(int, tight_box(region))
    piece = np.pad(region[top : bottom + 1, left : right + 1], 1)
    depth = ndimage.distance_transform_edt(piece)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(depth[y, x]), [float(x - 1 + left), float(y - 1 + top)]


def tight_box(mask: np.ndarray) -> list[float]:
    """`[x1, y1, x2, y2]` in px of the outermost pixels of a bool mask `(H, W)` that is not empty, both inside (`sam2/utils/misc.py`, `mask_to_box`)."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(xs[0]), float(ys[0]), float(xs[-1]), float(ys[-1])]
