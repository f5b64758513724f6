"""COCO run-length encoding of masks on their device: only the ends of the runs move to the host."""

import numpy as np
import torch
from pycocotools import mask as coco_mask


def find_run_ends(masks: torch.Tensor) -> torch.Tensor:
    """
    Find the pixels that differ from their predecessor in COCO's order: down the columns, background before the first.

    Args:
        masks (`torch.Tensor` of shape `(num_masks, height, width)`): Bool masks on any device.

    Returns:
        `torch.Tensor` of shape `(num_ends,)`: Index `(mask · width + x) · height + y` of each such pixel, unsorted, on
        the device of the masks.
    """
    num_masks, height, width = masks.shape
    differs = torch.empty_like(masks)
    torch.ne(masks[:, 1:], masks[:, :-1], out=differs[:, 1:])
    torch.ne(masks[:, 0, 1:], masks[:, -1, :-1], out=differs[:, 0, 1:])  # after the last pixel of the column before
    differs[:, 0, 0] = masks[:, 0, 0]
    if masks.device.type == "cpu":
        flat = torch.from_numpy(np.flatnonzero(differs.numpy()))  # several times as fast as torch.nonzero on a CPU
    else:
        flat = differs.flatten().nonzero()[:, 0]
    rows = flat // width  # mask · height + y
    mask = rows // height
    return (mask * width + flat % width) * height + rows % height


def compress_run_ends(ends: np.ndarray, num_masks: int, height: int, width: int) -> list[str]:
    """
    Compress run ends to the `counts` strings of COCO RLEs.

    Args:
        ends (`np.ndarray` of shape `(num_ends,)`): Indices of [`find_run_ends`].
        num_masks (`int`): Number of masks.
        height (`int`): Height of the masks, px.
        width (`int`): Width of the masks, px.

    Returns:
        `list[str]` of length `num_masks`: Equal to those of `pycocotools.mask.encode`.
    """
    ends, pixels = np.sort(ends), height * width
    limits = np.searchsorted(ends, pixels * np.arange(num_masks + 1))
    counts = []
    for mask in range(num_masks):
        positions = ends[limits[mask] : limits[mask + 1]] - mask * pixels
        runs = np.diff(positions, prepend=0, append=pixels)
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        counts.append(rle["counts"].decode("ascii"))
    return counts
