"""Context managers for precision, gradients and attention kernels."""

import contextlib
from collections.abc import Iterable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return a context without autocast: box arithmetic and position encodings are off by pixels in bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def to_autocast_dtype(tensor: torch.Tensor) -> torch.Tensor:
    """Cast a tensor to autocast's dtype, so that several layers that read it do not cast it once each."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def cast_output(module: torch.nn.Module) -> None:
    """Cast a module's output to autocast's dtype with a hook; its class, and so its weight decay, stay as they are."""
    module.register_forward_hook(_cast_output)


def _cast_output(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
    return to_autocast_dtype(output)


def get_dtype(module: torch.nn.Module) -> torch.dtype:
    """Return the dtype of a module's weights; DeepSpeed and callers may cast the whole model."""
    return next(module.parameters()).dtype


def frozen_without_graph(
    *modules: torch.nn.Module, inputs: Iterable[torch.Tensor] = ()
) -> torch.autograd.grad_mode.set_grad_enabled:
    """Return a context that records no graph if neither the modules nor their inputs require gradients."""
    trained = any(p.requires_grad for module in modules for p in module.parameters())
    trained |= any(tensor.requires_grad for tensor in inputs)
    return torch.set_grad_enabled(torch.is_grad_enabled() and trained)


def without_cudnn_attention(device: torch.device) -> contextlib.AbstractContextManager:
    """
    Return a context in which attention with an explicit bias never runs in cuDNN.

    Where a row's logsumexp is below about -88.7 and the number of keys is 64 modulo 128, as are SAM 3's 5184 image
    tokens, cuDNN returns NaN gradients of the queries (pytorch#196678; measured on an H200 with torch 2.11 and cuDNN
    9.19, see docs/memory_and_speed.md). The backward pass runs in the kernel of the forward pass.

    Args:
        device (`torch.device`): Device of the tensors; on others than CUDA the context has no effect.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
