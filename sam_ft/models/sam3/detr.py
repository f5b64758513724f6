"""SAM 3's decoder and mask head run from Transformers' own submodules, with the outputs that training needs."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.sam3.modeling_sam3 import Sam3DetrDecoder, Sam3DetrDecoderLayer, Sam3MaskDecoder

from ...ops.boxes import box_cxcywh_to_xyxy
from ..contexts import dtype_of, full_precision


@dataclass
class DecoderOutputs:
    """
    Attributes:
        hidden_states (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, C)`): normalised; the one-to-one
            queries first, with `with_one_to_many` the one-to-many queries behind them.
        boxes (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, 4)`): normalised `(cx, cy, w, h)`, float32.
        presence_logits (`torch.Tensor` of shape `(num_layers, num_pairs)`): not clamped, as in the official code.
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
    Runs the decoder and keeps every layer (`sam3/model/decoder.py`).

    With `with_one_to_many` the queries are doubled (DAC, Hu et al. 2023): the second set skips self-attention and shares
    everything else, so it adds no parameter and leaves the first set's outputs as they are.

    Args:
        decoder (`Sam3DetrDecoder`): Transformers' module; only its submodules are called.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): the fusion encoder's output.
        vision_position (`torch.Tensor` of shape `(1 or num_pairs, h·w, C)`): its position encoding.
        prompt (`torch.Tensor` of shape `(num_pairs, num_tokens, C)`), prompt_mask (`(num_pairs, num_tokens)`, bool, True
            where valid): text and geometry tokens.
        grid (`tuple[int, int]`): `(h, w)`.

    Returns:
        `DecoderOutputs`.
    """
    num_pairs = vision.shape[0]  # `len` would be a constant of an exported graph
    queries = decoder.query_embed.weight
    references = decoder.reference_points.weight
    if with_one_to_many:
        queries, references = torch.cat([queries, queries]), torch.cat([references, references])
    attended = 1 + decoder.config.num_queries  # presence token and one-to-one queries: what self-attention sees
    # (num_pairs, 1 + num_queries, C): the presence token first
    hidden = torch.cat([decoder.presence_token.weight, queries])[None].expand(num_pairs, -1, -1)
    with full_precision(vision):
        reference = references.float().sigmoid()[None].expand(num_pairs, -1, -1)
    prompt_attention = create_bidirectional_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=prompt_mask, encoder_hidden_states=prompt
    )

    states, boxes, presence = [], [], []
    undetached, kind = reference, dtype_of(decoder)
    for layer in decoder.layers:
        with full_precision(vision):
            position = decoder.ref_point_head(decoder.position_encoding.encode_boxes(reference).to(kind))
            bias = decoder._get_rpb_matrix(reference.to(kind), grid)  # (num_pairs, heads, num_queries, h·w)
        hidden = _run_layer(
            layer,
            hidden,
            F.pad(position.to(hidden.dtype), (0, 0, 1, 0)),  # the presence token has no position …
            prompt,
            prompt_attention,
            vision,
            vision_position,
            F.pad(bias, (0, 0, 1, 0)).to(vision.dtype),  # … and looks everywhere alike
            attended,
        )
        state = decoder.output_layer_norm(hidden[:, 1:])
        with full_precision(vision):
            delta = decoder.box_head(state.to(kind)).float()
            refined = (_inverse_sigmoid(reference) + delta).sigmoid()
            # the head's box starts from the undetached reference: a layer's box loss also teaches the layer before it
            boxes.append((_inverse_sigmoid(undetached) + delta).sigmoid())
        undetached, reference = refined, refined.detach()
        states.append(state)
        presence.append(decoder.presence_head(decoder.presence_layer_norm(hidden[:, :1]))[:, 0, 0])
    return DecoderOutputs(torch.stack(states), torch.stack(boxes), torch.stack(presence))


def _run_layer(
    layer: Sam3DetrDecoderLayer,
    hidden: torch.Tensor,
    position: torch.Tensor,
    prompt: torch.Tensor,
    prompt_attention: torch.Tensor | None,
    vision: torch.Tensor,
    vision_position: torch.Tensor,
    vision_attention: torch.Tensor,
    attended: int,
) -> torch.Tensor:
    """One decoder layer (post-norm), self-attention among the first `attended` tokens only."""
    first, rest = hidden[:, :attended], hidden[:, attended:]
    placed = first + position[:, :attended]
    update, _ = layer.self_attn(query=placed, key=placed, value=first)
    first = first + layer.self_attn_dropout(update)
    hidden = layer.self_attn_layer_norm(torch.cat([first, rest], dim=1))

    update, _ = layer.text_cross_attn(
        query=hidden + position, key=prompt, value=prompt, attention_mask=prompt_attention
    )
    hidden = layer.text_cross_attn_layer_norm(hidden + layer.text_cross_attn_dropout(update))

    update, _ = layer.vision_cross_attn(
        query=hidden + position, key=vision + vision_position, value=vision, attention_mask=vision_attention
    )
    hidden = layer.vision_cross_attn_layer_norm(hidden + layer.vision_cross_attn_dropout(update))

    with full_precision(hidden):  # as in the official decoder
        update = layer.mlp(hidden.to(dtype_of(layer.mlp)))
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
    The mask head's pixel embeddings, before its instance and semantic projections.

    Args:
        head (`Sam3MaskDecoder`): Transformers' module; only its submodules are called.
        pyramid (`list[torch.Tensor]`): the images' features from fine to coarse, each `(num_images, C, h_i, w_i)`. An
            image's features are broadcast over its pairs, not copied.
        images (`list[int]`): for each pair its image; equal ones side by side.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): the fusion encoder's output; replaces the coarsest level.
        prompt, prompt_mask: as in [`run_decoder`].

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
    runs, begin = [], 0
    for pair in range(1, len(images) + 1):
        if pair == len(images) or images[pair] != images[begin]:
            runs.append(pixels[begin:pair] + level[images[begin]])
            begin = pair
    return runs[0] if len(runs) == 1 else torch.cat(runs)


def boxes_to_xyxy(boxes_cxcywh: torch.Tensor) -> torch.Tensor:
    """Predicted boxes as corners inside the image, `(…, 4)` in `[0, 1]`."""
    return box_cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
