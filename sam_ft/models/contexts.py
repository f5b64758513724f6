"""Context managers for precision and gradients."""

from collections.abc import Iterable

import torch


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return a context without autocast: box arithmetic and position encodings are off by pixels in bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """Return the dtype of a module's weights; DeepSpeed and callers may cast the whole model."""
    return next(module.parameters()).dtype


def frozen_without_graph(
    *modules: torch.nn.Module, inputs: Iterable[torch.Tensor] = ()
) -> torch.autograd.grad_mode.set_grad_enabled:
    """Return a context that records no graph if neither the modules nor their inputs require gradients."""
    trained = any(p.requires_grad for module in modules for p in module.parameters())
    trained |= any(tensor.requires_grad for tensor in inputs)
    return torch.set_grad_enabled(torch.is_grad_enabled() and trained)
