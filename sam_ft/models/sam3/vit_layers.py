"""ViT layers of SAM 3 with fewer casts and kernels than Transformers', and equal weights and outputs."""

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.sam3 import modeling_sam3
from transformers.models.sam3.modeling_sam3 import (
    Sam3ViTModel,
    Sam3ViTRoPEAttention,
    apply_rotary_pos_emb_2d,
    eager_attention_forward,
    window_partition,
    window_unpartition,
)

from ..contexts import to_autocast_dtype


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
            normed, padded = window_partition(normed, self.window_size)
        update, _ = self.attention(normed, self._compute_rotation(normed), **kwargs)
        if self.window_size > 0:
            update = window_unpartition(update, self.window_size, padded, (height, width))
        hidden_states = hidden_states + update
        return hidden_states + self.dropout(self.mlp(self.layer_norm2(hidden_states)))

    def _compute_rotation(self, tokens: torch.Tensor) -> Rotation:
        """Compute, or look up, the rotation of queries and keys: cosine and sine, or complex numbers on a GPU."""
        if torch.compiler.is_compiling():
            return self.rotary_emb(tokens, self.position_ids)
        key = self.window_size, tokens.device
        if key not in self.rotations:
            cos, sin = self.rotary_emb(tokens, self.position_ids)
            # Fewer kernels; neither compilers nor exporters support complex numbers.
            self.rotations[key] = torch.complex(cos[..., ::2], sin[..., ::2]) if tokens.is_cuda else (cos, sin)
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
            projection(hidden_states).view(windows, height * width, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, key, position_embeddings)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask=None, dropout=dropout, scaling=self.scaling, is_causal=False, **kwargs
        )  # fmt: skip
        return self.o_proj(output.reshape(windows, height, width, -1)), weights


def rotate(query: torch.Tensor, key: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Rotate pairs of channels of queries and keys in float32.

    Args:
        query (`torch.Tensor` of shape `(windows, heads, tokens, C)`): Queries.
        key (`torch.Tensor` of the shape of `query`): Keys.
        rotation (`tuple[torch.Tensor, torch.Tensor]` or `torch.Tensor`): Cosine and sine `(tokens, C)`, or complex
            numbers `(tokens, C / 2)`.
    """
    if isinstance(rotation, tuple):
        return apply_rotary_pos_emb_2d(query, key, *rotation)
    query, key = (
        torch.view_as_real(torch.view_as_complex(t.float().unflatten(-1, (-1, 2))) * rotation).flatten(-2).type_as(t)
        for t in (query, key)
    )
    return query, key


def use_fast_layers(trunk: Sam3ViTModel) -> None:
    """Replace the classes of the layers of a ViT; parameters, buffers and hooks stay as they are."""
    rotations: dict = {}  # shared by all layers
    for layer in trunk.layers:
        layer.__class__, layer.attention.__class__ = Sam3ViTLayer, Sam3ViTAttention
        layer.rotations = rotations
