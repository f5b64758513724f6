"""Fusion encoder, decoder and mask head of SAM 3, built from Transformers' submodules."""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers.models.sam3.modeling_sam3 import (
    Sam3DetrDecoder,
    Sam3DetrDecoderLayer,
    Sam3DetrEncoder,
    Sam3MaskDecoder,
)

from ...ops.boxes import box_cxcywh_to_xyxy
from ..contexts import full_precision, get_dtype, to_autocast_dtype, without_cudnn_attention
from .attention_bias import QueryPositions


@dataclass
class DecoderOutputs:
    """
    Outputs of all decoder layers.

    Attributes:
        hidden_states (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, C)`): After the output layer norm;
            one-to-one queries, followed by one-to-many queries if requested.
        boxes (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, 4)`): Normalised `(cx, cy, w, h)`,
            float32.
        presence_logits (`torch.Tensor` of shape `(num_layers, num_pairs)`): Not clamped, as in the official code.
    """

    hidden_states: torch.Tensor
    boxes: torch.Tensor
    presence_logits: torch.Tensor


def run_fusion_encoder(
    encoder: Sam3DetrEncoder,
    vision: torch.Tensor,
    vision_position: torch.Tensor,
    prompt: torch.Tensor,
    prompt_bias: torch.Tensor,
) -> torch.Tensor:
    """
    Run the fusion encoder, in which the image attends to the prompt.

    Args:
        encoder (`Sam3DetrEncoder`): Transformers' module; only its submodules are called.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): Coarsest level of the pyramid.
        vision_position (`torch.Tensor` of shape `(1 or num_pairs, h·w, C)`): Position encoding of `vision`.
        prompt (`torch.Tensor` of shape `(num_pairs, num_tokens, C)`): Text and geometry tokens.
        prompt_bias (`torch.Tensor` of shape `(num_pairs, 1, 1, num_tokens)`): Bias of [`build_padding_bias`].

    Returns:
        `torch.Tensor` of shape `(num_pairs, h·w, C)`.
    """
    prompt, vision_position = to_autocast_dtype(prompt), to_autocast_dtype(vision_position)
    for layer in encoder.layers:
        # Each norm's output is cast once, not once a projection.
        normed = to_autocast_dtype(layer.layer_norm1(vision))
        with_position = normed + vision_position
        update, _ = layer.self_attn(query=with_position, key=with_position, value=normed)
        vision = vision + layer.dropout(update)
        update, _ = layer.cross_attn(
            query=layer.layer_norm2(vision), key=prompt, value=prompt, attention_mask=prompt_bias
        )
        vision = vision + layer.dropout(update)
        vision = vision + layer.dropout(layer.mlp(layer.layer_norm3(vision)))
    return vision


def run_decoder(
    decoder: Sam3DetrDecoder,
    vision: torch.Tensor,
    vision_position: torch.Tensor,
    prompt: torch.Tensor,
    prompt_bias: torch.Tensor,
    grid: tuple[int, int],
    *,
    with_one_to_many: bool,
) -> DecoderOutputs:
    """
    Run the decoder and collect the outputs of every layer.

    Args:
        decoder (`Sam3DetrDecoder`): Transformers' module; only its submodules are called.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): Output of the fusion encoder.
        vision_position (`torch.Tensor` of shape `(1 or num_pairs, h·w, C)`): Position encoding of `vision`.
        prompt (`torch.Tensor` of shape `(num_pairs, num_tokens, C)`): Text and geometry tokens.
        prompt_bias (`torch.Tensor` of shape `(num_pairs, 1, 1, num_tokens)`): Bias of [`build_padding_bias`].
        grid (`tuple[int, int]`): `(h, w)`.
        with_one_to_many (`bool`): Double the queries (DAC, Hu et al. 2023). The second set skips self-attention and
            shares all weights, so the outputs of the first set do not change.

    Returns:
        `DecoderOutputs`.

    Source:
        Official `sam3/model/decoder.py`.
    """
    hidden, reference = _initial_queries(decoder, vision, with_one_to_many)
    positions = QueryPositions(decoder, grid, vision.device)
    memory = _Memory(to_autocast_dtype(prompt), prompt_bias, vision, vision + vision_position)
    states, boxes, presence_tokens = [], [], []
    with full_precision(vision):
        undetached = detached = _inverse_sigmoid(reference)
    dtype = get_dtype(decoder)
    for layer in decoder.layers:
        position = positions.encode(reference).to(hidden.dtype)
        bias = positions.compute_bias(reference, vision.dtype)
        hidden = _run_layer(layer, hidden, position, bias, memory, 1 + decoder.config.num_queries)
        presence_tokens.append(hidden[:, 0])
        state = decoder.output_layer_norm(hidden[:, 1:])
        with full_precision(vision):
            delta = decoder.box_head(state.to(dtype)).float()
            refined = (detached + delta).sigmoid()
            # The undetached reference lets the box loss of a layer reach the layer before it.
            boxes.append((undetached + delta).sigmoid())
            undetached = _inverse_sigmoid(refined)
        reference, detached = refined.detach(), undetached.detach()
        states.append(state)
    presence = decoder.presence_head(decoder.presence_layer_norm(torch.stack(presence_tokens)))[..., 0]
    return DecoderOutputs(torch.stack(states), torch.stack(boxes), presence)


def _initial_queries(
    decoder: Sam3DetrDecoder, vision: torch.Tensor, with_one_to_many: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Build the inputs of the first layer for the pairs of `vision`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Presence token and queries, `(num_pairs, 1 + num_queries, C)`; reference
        boxes `(1, num_queries, 4)`, normalised `(cx, cy, w, h)`, float32. All pairs start from the same boxes, so that
        the first layer computes their positions once.
    """
    num_pairs = vision.shape[0]  # `len` would become a constant in an exported graph
    queries, references = decoder.query_embed.weight, decoder.reference_points.weight
    if with_one_to_many:
        queries, references = torch.cat([queries, queries]), torch.cat([references, references])
    hidden = torch.cat([decoder.presence_token.weight, queries])[None].expand(num_pairs, -1, -1)
    with full_precision(vision):
        return hidden, references.float().sigmoid()[None]


@dataclass
class _Memory:
    """Keys and values of the cross-attentions of all decoder layers."""

    prompt: torch.Tensor  # (num_pairs, num_tokens, C)
    prompt_bias: torch.Tensor  # (num_pairs, 1, 1, num_tokens)
    vision: torch.Tensor  # (num_pairs, h·w, C)
    vision_keys: torch.Tensor  # (num_pairs, h·w, C), `vision` with its position encoding


def _run_layer(
    layer: Sam3DetrDecoderLayer,
    hidden: torch.Tensor,
    position: torch.Tensor,
    vision_bias: torch.Tensor,
    memory: _Memory,
    num_attended: int,
) -> torch.Tensor:
    """
    Run one decoder layer (post-norm).

    Args:
        layer (`Sam3DetrDecoderLayer`): Transformers' module; only its submodules are called.
        hidden (`torch.Tensor` of shape `(num_pairs, 1 + num_queries, C)`): Presence token and queries.
        position (`torch.Tensor` of shape `(1 or num_pairs, 1 + num_queries, C)`): Position encoding of the reference
            boxes.
        vision_bias (`torch.Tensor` of shape `(1 or num_pairs, heads, 1 + num_queries, h·w)`): Position bias.
        memory (`_Memory`): Keys and values.
        num_attended (`int`): Self-attention is among the first `num_attended` tokens: the presence token and the
            one-to-one queries.
    """
    first, rest = hidden[:, :num_attended], hidden[:, num_attended:]
    with_position = to_autocast_dtype(first + position[:, :num_attended])
    update, _ = layer.self_attn(query=with_position, key=with_position, value=first)
    first = first + layer.self_attn_dropout(update)
    hidden = layer.self_attn_layer_norm(torch.cat([first, rest], dim=1))

    update, _ = layer.text_cross_attn(
        query=hidden + position, key=memory.prompt, value=memory.prompt, attention_mask=memory.prompt_bias
    )
    hidden = layer.text_cross_attn_layer_norm(hidden + layer.text_cross_attn_dropout(update))

    with without_cudnn_attention(hidden.device):
        update, _ = layer.vision_cross_attn(
            query=hidden + position,
            key=memory.vision_keys,
            value=memory.vision,
            attention_mask=vision_bias,
        )
    hidden = layer.vision_cross_attn_layer_norm(hidden + layer.vision_cross_attn_dropout(update))

    with full_precision(hidden):  # as in the official decoder
        update = layer.mlp(hidden.to(get_dtype(layer.mlp)))
    return layer.mlp_layer_norm(hidden + layer.mlp_dropout(update))


def _inverse_sigmoid(x: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def embed_pixels(
    head: Sam3MaskDecoder,
    pyramid: list[torch.Tensor],
    images: list[int],
    vision: torch.Tensor,
    prompt: torch.Tensor,
    prompt_bias: torch.Tensor,
) -> torch.Tensor:
    """
    Compute the pixel embeddings of the mask head, before its instance and semantic projections.

    Args:
        head (`Sam3MaskDecoder`): Transformers' module; only its submodules are called.
        pyramid (`list[torch.Tensor]`): Image features `(num_images, C, h_i, w_i)`, fine to coarse. The features of an
            image are broadcast over its pairs, not copied.
        images (`list[int]`): Image index of each pair; pairs of one image are adjacent.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): Output of the fusion encoder; replaces the coarsest
            level.
        prompt (`torch.Tensor` of shape `(num_pairs, num_tokens, C)`): As in [`run_decoder`].
        prompt_bias (`torch.Tensor` of shape `(num_pairs, 1, 1, num_tokens)`): As in [`run_decoder`].

    Returns:
        `torch.Tensor` of shape `(num_pairs, C, h_0, w_0)`.
    """
    normed = head.prompt_cross_attn_norm(vision)
    update, _ = head.prompt_cross_attn(query=normed, key=prompt, value=prompt, attention_mask=prompt_bias)
    vision = vision + head.prompt_cross_attn_dropout(update)
    height, width = pyramid[-1].shape[-2:]
    pixels = vision.transpose(1, 2).reshape(len(vision), -1, height, width)
    decoder = head.pixel_decoder
    for i, level in enumerate(reversed(pyramid[:-1])):
        pixels = F.interpolate(pixels, size=level.shape[-2:], mode="nearest")
        pixels = _add_image_features(pixels, level, images)
        pixels = decoder.norms[i](decoder.conv_layers[i](pixels))
        if level is pyramid[0]:  # read by several projections, each of which would cast it
            pixels = to_autocast_dtype(pixels)
        pixels = F.relu(pixels)
    return pixels


def _add_image_features(pixels: torch.Tensor, level: torch.Tensor, images: list[int]) -> torch.Tensor:
    """Add a level to the pixels of each pair; adjacent pairs of one image share one addition."""
    runs = [(image, len(list(pairs))) for image, pairs in itertools.groupby(images)]
    if len(runs) == 1:
        return pixels + level[images[0]]
    parts = pixels.split([length for _, length in runs])
    return torch.cat([part + level[image] for part, (image, _) in zip(parts, runs, strict=True)])


def boxes_to_xyxy(boxes_cxcywh: torch.Tensor) -> torch.Tensor:
    """Convert predicted boxes `(…, 4)` to corners, clipped to `[0, 1]`."""
    return box_cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
