"""Simulation of a training step on fake tensors: memory, arithmetic and traffic without weights, data and GPU."""

import contextlib
import functools
import math
import weakref
from collections.abc import Iterable, Iterator
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding

from ..losses import resized_masks
from ..models.sam3 import vit_layers
from .cards import Card
from .roofline import compute_kernel_seconds


_ALLOCATION = 512  # bytes; CUDA's allocator rounds sizes up to multiples of it
_WITHOUT_KERNEL = {
    "detach", "alias", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view", "lift_fresh",
    "_local_scalar_dense",
}  # fmt: skip
_DEVICE = "cpu"  # of the fake tensors; no memory is allocated there
_ATEN = torch.ops.aten


class StepRecorder(TorchDispatchMode):
    """
    Recorder of the operations on fake tensors.

    Args:
        card (`Card`): Card whose rates give the time of the kernels.
        with_tf32 (`bool`): Whether products of float32 inputs run in TF32.

    Attributes:
        live (`int`): Bytes of all storages that are alive.
        peak (`int`): Maximum of `live` since the last [`StepRecorder.reset`].
        kernels (`int`): Operations that launch a kernel.
        flops (`int`): Floating-point operations of matrix products, convolutions and attention.
        moved (`int`): Bytes that kernels read and write.
        seconds (`float`): Time of the kernels by the roofline; 0 for a card without rates.
    """

    def __init__(self, card: Card, with_tf32: bool = True):
        super().__init__()
        self.card, self.with_tf32, self.live = card, with_tf32, 0
        self._sizes: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Start a new count; storages that are alive remain counted."""
        self.peak, self.kernels, self.flops, self.moved, self.seconds = self.live, 0, 0, 0, 0.0

    def track(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = -(-storage.nbytes() // _ALLOCATION) * _ALLOCATION
                self.live += self._sizes[key]
                weakref.finalize(storage, self._free, key)
        self.peak = max(self.peak, self.live)

    def leave_out(self, tensors: Iterable[torch.Tensor]) -> None:
        """Stop counting the storages of tensors that are not on the card."""
        for tensor in tensors:
            self._free(tensor.untyped_storage()._cdata)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper around each call takes time, and nothing is compiled here

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:  # most dispatched calls only read `tensor.device`
            return torch.device(_DEVICE)
        kwargs = kwargs or {}
        if func is _ATEN._local_scalar_dense.default:
            return _read_on_host(args[0])
        out = func(*args, **kwargs)
        outputs = _list_tensors((out,))
        self.track(tensor for tensor in outputs if isinstance(tensor, FakeTensor))
        inputs = _list_tensors((*args, *kwargs.values()))
        if _launches_kernel(func, inputs, outputs):
            self._count(func, inputs, outputs, args, kwargs, out)
        return out

    def _count(self, func, inputs, outputs, args, kwargs, out) -> None:
        moved = sum(map(_touched_bytes, inputs)) + sum(map(_touched_bytes, outputs))
        flops = 0
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        is_wide = any(tensor.dtype == torch.float32 for tensor in inputs[:2])
        self.kernels += 1
        self.moved += moved
        self.flops += flops
        self.seconds += compute_kernel_seconds(self.card, func._schema.name, moved, flops, is_wide, self.with_tf32)


def _list_tensors(values: Iterable) -> list[torch.Tensor]:
    """List the tensors among arguments, which may be lists of tensors."""
    tensors = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _list_tensors(value)
    return tensors


def _launches_kernel(func, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> bool:
    name = func._schema.name.partition("::")[2]
    if func.is_view or name in _WITHOUT_KERNEL or func._schema.name.startswith("prim::"):
        return False
    if func._schema.is_mutable or not outputs:
        return bool(inputs)
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    return not all(tensor.untyped_storage()._cdata in storages for tensor in outputs)


def _touched_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; repeated elements of an expanded one count once."""
    number = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        number *= size if stride else 1
    return number * tensor.element_size()


def _read_on_host(tensor: torch.Tensor) -> bool | int | float:
    """Return the value that the host reads from a tensor without values: nothing is padded, and all is finite."""
    if tensor.dtype == torch.bool:
        return False
    return 0.0 if tensor.is_floating_point() else 1


def _copy_to_host(tensor: torch.Tensor) -> np.ndarray:
    """Return zeros with about four ones a row, which as costs and matches give a usual number of matched queries."""
    dtype = {torch.bool: bool, torch.float64: np.float64}.get(
        tensor.dtype, np.float32 if tensor.is_floating_point() else np.int64
    )
    values = np.zeros(tensor.shape, dtype)
    if values.size:
        values[..., :: max(values.shape[-1] // 4, 1)] = 1
    return values


def _apply(module: torch.nn.Module, function, recurse: bool = True) -> torch.nn.Module:
    """Apply a cast to the tensors of a module in place; torch's method would swap fake tensors, which is refused."""
    for child in module.children() if recurse else ():
        _apply(child, function)
    for parameter in module._parameters.values():
        if parameter is not None:
            with torch.no_grad():
                parameter.data = function(parameter)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


@contextlib.contextmanager
def simulate(card: Card, *, with_cuda_kernels: bool = True, with_tf32: bool = True) -> Iterator[StepRecorder]:
    """
    Return a context in which every new tensor is fake: it has a shape and a lifetime, but no memory.

    Args:
        card (`Card`): Card whose rates give the time of the kernels.
        with_cuda_kernels (`bool`): Choose attention, normalisation, dropout and rotation as on CUDA. Otherwise those
            of a CPU, to compare the prediction with the resident memory of a real step.
        with_tf32 (`bool`): Whether products of float32 inputs run in TF32.

    Yields:
        `StepRecorder`: Counts of memory and operations.
    """
    plain_numpy = torch.Tensor.numpy

    def numpy(tensor, *, force=False):
        return _copy_to_host(tensor) if isinstance(tensor, FakeTensor) else plain_numpy(tensor, force=force)

    recorder = StepRecorder(card, with_tf32)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.Tensor, "numpy", numpy))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", _apply))
        # Transformers' cache of position encodings lives as long as the process, and would return fake ones later.
        cached = functools.lru_cache(Sam3SinePositionEmbedding.build_sine_position_embedding.__wrapped__)
        stack.enter_context(
            mock.patch.object(Sam3SinePositionEmbedding, "build_sine_position_embedding", staticmethod(cached))
        )
        # Real tensors are clipped in a few kernels for all of them; fake ones would be in two kernels each.
        stack.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", [torch.Tensor, FakeTensor]))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        if with_cuda_kernels:
            for name, function in _cuda_functions().items():
                stack.enter_context(mock.patch.object(F, name, function))
            stack.enter_context(mock.patch.object(vit_layers, "uses_complex_numbers", return_value=True))
            stack.enter_context(mock.patch.object(resized_masks, "uses_strips", return_value=False))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(recorder)
        yield recorder


def _cuda_functions() -> dict:
    """Return functions of `torch.nn.functional` as CUDA runs them: norms in float32, its dropout and attention."""
    layer_norm, group_norm = F.layer_norm, F.group_norm

    def widen(tensor):
        return tensor.float() if tensor is not None and torch.is_autocast_enabled(_DEVICE) else tensor

    def dropout(input, p=0.5, training=True, inplace=False):  # noqa: ARG001
        return _ATEN.native_dropout(input, p, True)[0] if training and p else input

    return {
        "dropout": dropout,
        "layer_norm": lambda input, normalized_shape, weight=None, bias=None, eps=1e-5: layer_norm(
            widen(input), normalized_shape, widen(weight), widen(bias), eps
        ),
        "group_norm": lambda input, num_groups, weight=None, bias=None, eps=1e-5: group_norm(
            widen(input), num_groups, widen(weight), widen(bias), eps
        ),
        "scaled_dot_product_attention": _cuda_attention,
    }


def _cuda_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_
) -> torch.Tensor:
    """
    Run the attention kernel that CUDA would choose: flash without a mask, else the memory-efficient one.

    cuDNN's kernel, which Hopper prefers, stores as much as flash attention.
    """
    if torch.is_autocast_enabled(_DEVICE):
        low = torch.get_autocast_dtype(_DEVICE)
        query, key, value = (tensor.to(low) for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.dtype != torch.bool:
            attn_mask = attn_mask.to(low)
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        return _ATEN._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[
            0
        ]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            zero, low = query.new_zeros(()), query.new_full((), -math.inf)
            attn_mask = torch.where(attn_mask, zero, low)
        length = attn_mask.shape[-1]
        if length % 16:  # the kernel reads rows of 16
            attn_mask = F.pad(attn_mask, (0, 16 - length % 16))[..., :length]
        attn_mask = attn_mask.expand(*query.shape[:3], length)
    with_statistics = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (query, key, value, attn_mask)
    )
    return _ATEN._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, with_statistics, dropout_p, is_causal, scale=scale
    )[0]
