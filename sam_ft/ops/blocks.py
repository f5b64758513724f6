"""Sums over blocks with the memory of a single block."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch


def sum_over_blocks(
    function: Callable, blocks: Iterable, tensors: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor] = ()
) -> tuple[torch.Tensor, list]:
    """
    Sum `function(block, *tensors)` over blocks with the activations of one block in memory at a time.

    If gradients are required, each block's backward pass runs right after its forward pass, and only the summed
    gradients are stored, as in fused linear cross-entropy kernels; `backward` scales the stored gradients. Compared
    with activation checkpointing, nothing is computed twice, no random state is replayed and no matching is cached.

    Args:
        function (`Callable`): `function(block, *tensors)` returns `(loss, extra)`: a scalar that depends on `tensors`
            and `parameters` only, and any value without gradient.
        blocks (`Iterable`): Blocks; each is passed to `function` unchanged.
        tensors (`Sequence[torch.Tensor]`): Inputs through which gradients flow back to the caller.
        parameters (`Sequence[torch.Tensor]`): Leaves that `function` reads directly (a module's weights). Each
            receives a gradient, zero where no block uses it, so that no process of a group waits for one.

    Returns:
        `tuple[torch.Tensor, list]`: The differentiable sum, a scalar, and the list of extras in the order of blocks.
    """
    extras = []
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *parameters))
    if not differentiable:
        total = tensors[0].new_zeros((), dtype=torch.float32)
        for block in blocks:
            loss, extra = function(block, *tensors)
            total = total + loss
            extras.append(extra)
        return total, extras
    return _SumOverBlocks.apply(function, blocks, extras, len(tensors), *tensors, *parameters), extras


def sum_parts(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Sum the named tensors of all blocks, in one operation a block."""
    total: dict[str, torch.Tensor] = {}
    for part in parts:
        common = [name for name in part if name in total]
        if common:
            sums = torch._foreach_add([total[name] for name in common], [part[name] for name in common])
            total |= dict(zip(common, sums, strict=True))
        total |= {name: value for name, value in part.items() if name not in total}
    return total


class _SumOverBlocks(torch.autograd.Function):
    """Autograd function of [`sum_over_blocks`], with gradients computed in the forward pass."""

    @staticmethod
    def forward(ctx, function, blocks, extras, num_tensors, *inputs):
        tensors, parameters = inputs[:num_tensors], inputs[num_tensors:]
        leaves = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        # Parameters are not detached, because the module reads them by attribute.
        sources = [t for t in (*leaves, *parameters) if t.requires_grad]
        sums, is_writable = [None] * len(sources), [False] * len(sources)
        total = inputs[0].new_zeros((), dtype=torch.float32)
        for block in blocks:
            with torch.enable_grad():
                loss, extra = function(block, *leaves)
            extras.append(extra)
            total += loss.detach()
            if not loss.requires_grad:
                continue
            # Autocast would run the backward pass of float32 modules in its lower dtype.
            with torch.autocast(total.device.type, enabled=False):
                grads = torch.autograd.grad(loss, sources, allow_unused=True)
            _add_gradients(sums, is_writable, grads)
        del leaves
        stored = iter(torch.zeros_like(s) if g is None else g for s, g in zip(sources, sums, strict=True))
        ctx.save_for_backward(*(next(stored) if t.requires_grad else None for t in inputs))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        stored = ctx.saved_tensors
        # One operation on all tensors launches a few kernels instead of one a tensor.
        scaled = iter(torch._foreach_mul([g for g in stored if g is not None], grad_output))
        return (None, None, None, None, *(None if g is None else next(scaled) for g in stored))


def _add_gradients(sums: list, is_writable: list[bool], gradients: Sequence[torch.Tensor | None]) -> None:
    """Add the gradients of a block to the sums, without writing to tensors that autograd returned."""
    grads: list[Any] = list(gradients)
    first = [i for i, grad in enumerate(grads) if grad is not None and sums[i] is None]
    second = [i for i, grad in enumerate(grads) if grad is not None and sums[i] is not None and not is_writable[i]]
    later = [i for i, grad in enumerate(grads) if grad is not None and is_writable[i]]
    if later:
        torch._foreach_add_([sums[i] for i in later], [grads[i] for i in later])
    if second:
        added = torch._foreach_add([sums[i] for i in second], [grads[i] for i in second])
        for i, total in zip(second, added, strict=True):
            sums[i], is_writable[i] = total, True
    for i in first:  # autograd may return the same tensor twice
        sums[i] = grads[i]
