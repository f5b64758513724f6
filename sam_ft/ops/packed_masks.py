"""Masks packed to eight pixels per byte, for the transfer from a process of the data loader to the device."""

import numpy as np
import torch


def pack_masks(masks: torch.Tensor | None) -> torch.Tensor | None:
    """
    Pack square masks into an eighth of their memory.

    Args:
        masks (`torch.Tensor` of shape `(N, R, R)`, *optional*): Bool masks on the CPU.

    Returns:
        `torch.Tensor` of shape `(N, R, ceil(R / 8))` or `None`: Bytes; the first pixel is the highest bit. `None`
            without masks.
    """
    return None if masks is None else torch.from_numpy(np.packbits(masks.numpy(), axis=-1))


def unpack_masks(masks: torch.Tensor | None) -> torch.Tensor | None:
    """
    Unpack the masks of [`pack_masks`] on their device, without a host synchronisation.

    Args:
        masks (`torch.Tensor`, *optional*): Bytes of shape `(N, R, ceil(R / 8))`, or bool masks, which are returned
            unchanged.

    Returns:
        `torch.Tensor` of shape `(N, R, R)` or `None`: Bool masks; `None` without masks.
    """
    if masks is None or masks.dtype == torch.bool:
        return masks
    bits = 1 << torch.arange(7, -1, -1, device=masks.device)
    is_set = masks[..., None].bitwise_and(bits.to(masks.dtype)).ne(0)
    return is_set.flatten(-2)[..., : masks.shape[-2]]
