"""Decoder and mask head of SAM 3, built from Transformers' submodules, with the outputs that training needs."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.sam3.modeling_sam3 import Sam3DetrDecoder, Sam3DetrDecoderLayer, Sam3MaskDecoder

from ...ops.boxes import box_cxcywh_to_xyxy
from ..contexts import full_precision, get_dtype, without_cudnn_attention


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


def run_decoder(
    decoder: Sam3DetrDecoder,
    vision: torch.Tensor,
    vision_position: torch.Tensor,
    prompt: torch.Tensor,
    prompt_mask: torch.Tensor,
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
        prompt_mask (`torch.Tensor` of shape `(num_pairs, num_tokens)`, bool): `True` for valid tokens.
        grid (`tuple[int, int]`): `(h, w)`.
        with_one_to_many (`bool`): Double the queries (DAC, Hu et al. 2023). The second set skips self-attention and
            shares all weights, so the outputs of the first set do not change.

    Returns:
        `DecoderOutputs`.

    Source:
        Official `sam3/model/decoder.py`.
    """
    hidden, reference = _initial_queries(decoder, vision, with_one_to_many)
    prompt_attention = create_bidirectional_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=prompt_mask, encoder_hidden_states=prompt
    )
    memory = _Memory(prompt, prompt_attention, vision, vision_position)
    states, boxes, presence = [], [], []
    undetached, dtype = reference, get_dtype(decoder)
    for layer in decoder.layers:
        with full_precision(vision):
            position = decoder.ref_point_head(decoder.position_encoding.encode_boxes(reference).to(dtype))
            bias = decoder._get_rpb_matrix(reference.to(dtype), grid)  # (num_pairs, heads, num_queries, h·w)
        # The presence token has no position encoding and no position bias.
        position, bias = F.pad(position.to(hidden.dtype), (0, 0, 1, 0)), F.pad(bias, (0, 0, 1, 0)).to(vision.dtype)
        hidden = _run_layer(layer, hidden, position, bias, memory, 1 + decoder.config.num_queries)
        state = decoder.output_layer_norm(hidden[:, 1:])
        with full_precision(vision):
            delta = decoder.box_head(state.to(dtype)).float()
            refined = (_inverse_sigmoid(reference) + delta).sigmoid()
            # The undetached reference lets the box loss of a layer reach the layer before it.
            boxes.append((_inverse_sigmoid(undetached) + delta).sigmoid())
        undetached, reference = refined, refined.detach()
        states.append(state)
        presence.append(decoder.presence_head(decoder.presence_layer_norm(hidden[:, :1]))[:, 0, 0])
    return DecoderOutputs(torch.stack(states), torch.stack(boxes), torch.stack(presence))


def _initial_queries(
    decoder: Sam3DetrDecoder, vision: torch.Tensor, with_one_to_many: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Build the inputs of the first layer for the pairs of `vision`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Presence token and queries, `(num_pairs, 1 + num_queries, C)`; reference
        boxes `(num_pairs, num_queries, 4)`, normalised `(cx, cy, w, h)`, float32.
    """
    num_pairs = vision.shape[0]  # `len` would become a constant in an exported graph
    queries, references = decoder.query_embed.weight, decoder.reference_points.weight
    if with_one_to_many:
        queries, references = torch.cat([queries, queries]), torch.cat([references, references])
    hidden = torch.cat([decoder.presence_token.weight, queries])[None].expand(num_pairs, -1, -1)
    with full_precision(vision):
        return hidden, references.float().sigmoid()[None].expand(num_pairs, -1, -1)


@dataclass
class _Memory:
    """Keys and values of the cross-attentions of all decoder layers."""

    prompt: torch.Tensor  # (num_pairs, num_tokens, C)
    prompt_attention: torch.Tensor | None  # attention mask of the prompt
    vision: torch.Tensor  # (num_pairs, h·w, C)
    vision_position: torch.Tensor  # (1 or num_pairs, h·w, C)


def _run_layer(
    layer: Sam3DetrDecoderLayer,
    hidden: torch.Tensor,
    position: torch.Tensor,
    vision_attention: torch.Tensor,
    memory: _Memory,
    num_attended: int,
) -> torch.Tensor:
    """
    Run one decoder layer (post-norm).

    Args:
        layer (`Sam3DetrDecoderLayer`): Transformers' module; only its submodules are called.
        hidden (`torch.Tensor` of shape `(num_pairs, 1 + num_queries, C)`): Presence token and queries.
        position (`torch.Tensor` of the shape of `hidden`): Position encoding of the reference boxes.
        vision_attention (`torch.Tensor` of shape `(num_pairs, heads, 1 + num_queries, h·w)`): Position bias.
        memory (`_Memory`): Keys and values.
        num_attended (`int`): Self-attention is among the first `num_attended` tokens: the presence token and the
            one-to-one queries.
    """
    first, rest = hidden[:, :num_attended], hidden[:, num_attended:]
    with_position = first + position[:, :num_attended]
    update, _ = layer.self_attn(query=with_position, key=with_position, value=first)
    first = first + layer.self_attn_dropout(update)
    hidden = layer.self_attn_layer_norm(torch.cat([first, rest], dim=1))

    update, _ = layer.text_cross_attn(
        query=hidden + position, key=memory.prompt, value=memory.prompt, attention_mask=memory.prompt_attention
    )
    hidden = layer.text_cross_attn_layer_norm(hidden + layer.text_cross_attn_dropout(update))

    with without_cudnn_attention(hidden.device):
        update, _ = layer.vision_cross_attn(
            query=hidden + position,
            key=memory.vision + memory.vision_position,
            value=memory.vision,
            attention_mask=vision_attention,
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
    prompt_mask: torch.Tensor,
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
        prompt_mask (`torch.Tensor` of shape `(num_pairs, num_tokens)`, bool): As in [`run_decoder`].

    Returns:
        `torch.Tensor` of shape `(num_pairs, C, h_0, w_0)`.
    """
    normed = head.prompt_cross_attn_norm(vision)
    attention = create_bidirectional_mask(
        config=head.config, inputs_embeds=normed, attention_mask=prompt_mask, encoder_hidden_states=prompt
    )
    update, _ = head.prompt_cross_attn(query=normed, key=prompt, value=prompt, attention_mask=attention)
    vision = vision + head.prompt_cross_attn_dropout(update)
    height, width = pyramid[-1].shape[-2:]
    pixels = vision.transpose(1, 2).reshape(len(vision), -1, height, width)
    decoder = head.pixel_decoder
    for i, level in enumerate(reversed(pyramid[:-1])):
        pixels = F.interpolate(pixels, size=level.shape[-2:], mode="nearest")
        pixels = _add_image_features(pixels, level, images)
        pixels = F.relu(decoder.norms[i](decoder.conv_layers[i](pixels)))
    return pixels


def _add_image_features(pixels: torch.Tensor, level: torch.Tensor, images: list[int]) -> torch.Tensor:
    """Add a level to the pixels of each pair; adjacent pairs of one image share one addition."""
    runs, begin = [], 0
    for pair in range(1, len(images) + 1):
        if pair == len(images) or images[pair] != images[begin]:
            runs.append(pixels[begin:pair] + level[images[begin]])
            begin = pair
    return runs[0] if len(runs) == 1 else torch.cat(runs)


def boxes_to_xyxy(boxes_cxcywh: torch.Tensor) -> torch.Tensor:
    """Convert predicted boxes `(…, 4)` to corners, clipped to `[0, 1]`."""
    return box_cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
