"""ViT layers of SAM 3 with fewer casts and kernels than Transformers', and equal weights and outputs."""

import os
import shutil
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.sam3 import modeling_sam3
from transformers.models.sam3.modeling_sam3 import (
    Sam3ViTModel,
    Sam3ViTRoPEAttention,
    apply_rotary_pos_emb_2d,
    eager_attention_forward,
)

from ..contexts import to_autocast_dtype


# Images of a training step; docs/memory_and_speed.md has times of one and of four.
MIN_COMPILED_IMAGES = 4
Rotation = tuple[torch.Tensor, torch.Tensor] | torch.Tensor


class Sam3ViTLayer(modeling_sam3.Sam3ViTLayer):
    """
    ViT layer that casts the output of a layer norm once, and whose rotations are computed once for all layers.

    The class has the name of its base, because FSDP finds the layers to wrap by this name.
    """

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Run the layer on `hidden_states` of shape `(I, h, w, C)`."""
        height, width = hidden_states.shape[1:3]
        normed = to_autocast_dtype(self.layer_norm1(hidden_states))
        if self.window_size > 0:
            normed = _partition(normed, self.window_size)
        update, _ = self.attention(normed, self._compute_rotation(normed), **kwargs)
        if self.window_size > 0:
            update = _join(update, self.window_size, height, width)
        hidden_states = hidden_states + update
        return hidden_states + self.dropout(self.mlp(self.layer_norm2(hidden_states)))

    def _compute_rotation(self, tokens: torch.Tensor) -> Rotation:
        """Compute, or look up, the rotation of queries and keys: cosine and sine, or complex numbers on a GPU."""
        if torch.compiler.is_compiling():
            return self.rotary_emb(tokens, self.position_ids)
        key = self.window_size, tokens.device
        if key not in self.rotations:
            cos, sin = self.rotary_emb(tokens, self.position_ids)
            is_complex = uses_complex_numbers(tokens.device)
            self.rotations[key] = torch.complex(cos[..., ::2], sin[..., ::2]) if is_complex else (cos, sin)
        return self.rotations[key]


class Sam3ViTAttention(Sam3ViTRoPEAttention):
    """Self-attention with rotary position encoding."""

    def forward(self, hidden_states: torch.Tensor, position_embeddings: Rotation, **kwargs):
        """
        Attend within each window.

        Args:
            hidden_states (`torch.Tensor` of shape `(windows, h, w, C)`): Tokens.
            position_embeddings (`tuple[torch.Tensor, torch.Tensor]` or `torch.Tensor`): Rotation of each token.
            **kwargs: Further arguments of the attention function.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: Output of the shape of `hidden_states`, and attention weights.
        """
        windows, height, width, _ = hidden_states.shape
        query, key, value = (
            projection(hidden_states).view(windows, height * width, -1, self.head_dim)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        # The gradient of a rotation is copied to contiguous memory, which it is in before the transposition.
        query, key = rotate(query, key, position_embeddings)
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        kwargs |= {"attention_mask": None, "dropout": dropout, "scaling": self.scaling, "is_causal": False}
        output, weights = attend(self, query, key, value, **kwargs)
        return self.o_proj(output.reshape(windows, height, width, -1)), weights


def uses_complex_numbers(device: torch.device) -> bool:
    """Return whether tokens are rotated by complex numbers: in fewer kernels, which compilers and exporters lack."""
    return device.type == "cuda"


def rotate(query: torch.Tensor, key: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Rotate pairs of channels of queries and keys in float32.

    Args:
        query (`torch.Tensor` of shape `(windows, tokens, heads, C)`): Queries.
        key (`torch.Tensor` of the shape of `query`): Keys.
        rotation (`tuple[torch.Tensor, torch.Tensor]` or `torch.Tensor`): Cosine and sine `(tokens, C)`, or complex
            numbers `(tokens, C / 2)`.
    """
    if isinstance(rotation, tuple):
        return apply_rotary_pos_emb_2d(query, key, *(part.unsqueeze(-2) for part in rotation))
    rotation = rotation.unsqueeze(-2)
    query, key = (
        torch.view_as_real(torch.view_as_complex(t.float().unflatten(-1, (-1, 2))) * rotation).flatten(-2).type_as(t)
        for t in (query, key)
    )
    return query, key


def _partition(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """Divide tokens `(I, h, w, C)` into windows `(I · n, size, size, C)`; only incomplete windows are padded."""
    images, height, width, channels = tokens.shape
    if height % size or width % size:
        tokens = F.pad(tokens, (0, 0, 0, -width % size, 0, -height % size))
    tokens = tokens.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)
    return tokens.reshape(-1, size, size, channels)


def _join(windows: torch.Tensor, size: int, height: int, width: int) -> torch.Tensor:
    """Join windows of [`_partition`] to tokens `(I, height, width, C)` without the padding."""
    rows, columns = -(-height // size), -(-width // size)
    tokens = windows.view(-1, rows, columns, size, size, windows.shape[-1]).transpose(2, 3)
    return tokens.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def compile_layers(trunk: Sam3ViTModel, requested: bool | str, images: torch.Tensor) -> None:
    """
    Compile the layers of a ViT one by one before their next call, if they are not compiled yet.

    A compiled layer runs as fewer kernels. Frozen layers, adapters and gradient checkpointing work as before. The
    first steps take longer, once for layers with windows and once for the others.

    Args:
        trunk (`Sam3ViTModel`): ViT with the layers of [`use_fast_layers`].
        requested (`bool` or `str`): Whether to compile. "auto": in training on a GPU with a compiler, for at least
            `MIN_COMPILED_IMAGES` images; below, the launch of kernels limits the speed with and without.
        images (`torch.Tensor` of shape `(I, 3, H, W)`): Images of the next call.

    Raises:
        `ValueError`: If compilation is requested and a compiler is missing.
    """
    if requested is False or torch.compiler.is_compiling() or trunk.layers[0]._compiled_call_impl is not None:
        return
    if requested == "auto":
        is_large = trunk.training and images.is_cuda and images.shape[0] >= MIN_COMPILED_IMAGES
        if not is_large or find_missing_compiler(images.device) is not None:
            return
    missing = find_missing_compiler(images.device)
    if missing is not None:
        raise ValueError(
            f"`compile_vision` is true, but {missing} is missing, which torch.compile needs on {images.device.type}. "
            "Install it, or leave `compile_vision` out"
        )
    for layer in trunk.layers:
        layer.compile()


def find_missing_compiler(device: torch.device) -> str | None:
    """Return the program that torch.compile needs on a device and that is not installed; `None` without one."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton"
    variable, programs = (
        ("CC", ("cc", "gcc", "clang")) if device.type == "cuda" else ("CXX", ("c++", "g++", "clang++"))
    )
    return None if os.environ.get(variable) or any(map(shutil.which, programs)) else f"a compiler ({programs[1]})"


def use_fast_layers(trunk: Sam3ViTModel) -> None:
    """Replace the classes of the layers of a ViT; parameters, buffers and hooks stay as they are."""
    rotations: dict = {}  # shared by all layers
    for layer in trunk.layers:
        layer.__class__, layer.attention.__class__ = Sam3ViTLayer, Sam3ViTAttention
        layer.rotations = rotations
