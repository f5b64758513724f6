"""Indices that are computed on the host."""

from collections.abc import Sequence

import torch


def to_index(values: Sequence, device: torch.device) -> torch.Tensor:
    """
    Copy indices to a device without waiting for it; an index that is a list would wait.

    Args:
        values (`Sequence`): Integers, or equally long sequences of integers.
        device (`torch.device`): Device of the indexed tensor.

    Returns:
        `torch.Tensor`: int64.
    """
    return torch.tensor(values, dtype=torch.long).to(device, non_blocking=True)
