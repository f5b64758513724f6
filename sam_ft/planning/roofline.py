"""Time of kernels from arithmetic and memory traffic (roofline), and its assumptions."""

from typing import cast

from .cards import Card


# Shares of a card's rates that kernels reach.
BANDWIDTH_SHARE = 0.8
MATMUL_SHARE = 0.7
ATTENTION_SHARE = 0.45  # flash attention, forward and backward
MASKED_ATTENTION_SHARE = 0.12  # memory-efficient attention with a mask
CONVOLUTION_SHARE = 0.45
MIN_KERNEL_SECONDS = 2.5e-6
HOST_SECONDS_PER_KERNEL = 32e-6  # Python, autograd and launch: 25 to 37 µs a kernel were measured beside an H200


def compute_kernel_seconds(
    card: Card, name: str, moved: int, flops: int, is_wide: bool, with_tf32: bool = True
) -> float:
    """
    Compute the time of a kernel on a card.

    Args:
        card (`Card`): The card.
        name (`str`): Name of the operation, such as `aten::mm`.
        moved (`int`): Bytes read and written.
        flops (`int`): Floating-point operations; 0 for operations that are bound by memory.
        is_wide (`bool`): Whether the inputs are float32.
        with_tf32 (`bool`): Whether products of float32 inputs run in TF32, as they do in training by default.

    Returns:
        `float`: Seconds; 0 for a card without rates.
    """
    if card.bandwidth is None:
        return 0.0
    seconds = max(moved / (BANDWIDTH_SHARE * card.bandwidth * 1e9), MIN_KERNEL_SECONDS)
    if not flops:
        return seconds
    wide_rate = card.tf32 if with_tf32 else card.fp32
    if "attention" in name:
        share = MASKED_ATTENTION_SHARE if "efficient" in name else ATTENTION_SHARE
        rate = card.fp32 if is_wide else card.bf16 or card.fp32
    elif "convolution" in name:
        share, rate = CONVOLUTION_SHARE, wide_rate if is_wide else card.bf16 or wide_rate
    else:
        share, rate = MATMUL_SHARE, wide_rate if is_wide else card.bf16 or wide_rate
    return max(seconds, flops / (share * cast(float, rate) * 1e12))  # A card with a bandwidth has all rates.
