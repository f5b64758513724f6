"""A sum over blocks whose memory is that of one block."""

from collections.abc import Callable, Iterable, Sequence

import torch


def sum_over_blocks(
    function: Callable, blocks: Iterable, tensors: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor] = ()
) -> tuple[torch.Tensor, list]:
    """
    Adds up `function(block, *tensors)` over blocks and holds the activations of one block at a time.

    Where gradients are wanted, each block's backward runs right after its forward and only the summed gradients are
    kept, as fused linear cross-entropy kernels do; `backward` then scales what is stored. Against activation
    checkpointing nothing is computed twice, no random state has to be replayed and no matching has to be cached.

    Args:
        function (`Callable`):
            `function(block, *tensors)` returns `(loss, extra)`: a scalar that depends on `tensors` and `parameters`
            alone, and anything without gradient.
        blocks (`Iterable`): what tells one block from the next; each is passed to `function` as it is.
        tensors (`Sequence[torch.Tensor]`): the inputs through which gradients flow back to the caller.
        parameters (`Sequence[torch.Tensor]`):
            Leaves that `function` reads by itself (a module's weights). Each of them receives a gradient, zero where no
            block used it, so that no process of a group waits for one.

    Returns:
        `tuple[torch.Tensor, list]`: the differentiable sum, a scalar, and the list of extras in the order of blocks.
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
    """Named numbers of all blocks, added up."""
    total: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


class _SumOverBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, blocks, extras, num_tensors, *inputs):
        tensors, parameters = inputs[:num_tensors], inputs[num_tensors:]
        leaves = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        # parameters are differentiated as they are: the module that owns them reads them under its own name
        sources = [t for t in (*leaves, *parameters) if t.requires_grad]
        sums, owned = [None] * len(sources), [False] * len(sources)
        total = inputs[0].new_zeros((), dtype=torch.float32)
        for block in blocks:
            with torch.enable_grad():
                loss, extra = function(block, *leaves)
            extras.append(extra)
            total += loss.detach()
            if not loss.requires_grad:
                continue
            for i, grad in enumerate(torch.autograd.grad(loss, sources, allow_unused=True)):
                if grad is None:
                    continue
                if sums[i] is None:
                    sums[i] = grad  # autograd may hand the same tensor out twice: not ours to write to
                elif owned[i]:
                    sums[i] += grad
                else:
                    sums[i], owned[i] = sums[i] + grad, True
        del leaves
        stored = iter(torch.zeros_like(s) if g is None else g for s, g in zip(sources, sums, strict=True))
        ctx.save_for_backward(*(next(stored) if t.requires_grad else None for t in inputs))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        grads = [None if g is None else g * grad_output.to(g.dtype) for g in ctx.saved_tensors]
        return (None, None, None, None, *grads)
