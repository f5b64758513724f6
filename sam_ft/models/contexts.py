"""Precision and gradients of a stretch of the forward."""

from collections.abc import Iterable

import torch


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """A context without autocast: box arithmetic and position encodings lose pixels in bf16."""
    return torch.autocast(tensor.device.type, enabled=False)


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """The type of a module's weights: float32, unless DeepSpeed or the caller has cast the whole model."""
    return next(module.parameters()).dtype


def frozen_without_graph(
    *modules: torch.nn.Module, inputs: Iterable[torch.Tensor] = ()
) -> torch.autograd.grad_mode.set_grad_enabled:
    """A context that keeps no graph where neither the modules nor their inputs are trained."""
    trained = any(p.requires_grad for module in modules for p in module.parameters())
    trained |= any(tensor.requires_grad for tensor in inputs)
    return torch.set_grad_enabled(torch.is_grad_enabled() and trained)
