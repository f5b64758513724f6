"""Geometry encoder of SAM 3: tokens of the exemplar boxes of all (image, phrase) pairs of a batch."""

import torch
from torchvision.ops import roi_align
from transformers.models.sam3.modeling_sam3 import Sam3GeometryEncoder, concat_padded_sequences

from ...ops.boxes import box_cxcywh_to_xyxy
from ...ops.indices import to_index
from ...ops.prompts import PADDING_LABEL, padding_exemplars
from ..contexts import full_precision, get_dtype
from .attention_bias import build_padding_bias


def encode_geometry(
    encoder: Sam3GeometryEncoder,
    coarse: torch.Tensor,
    position: torch.Tensor,
    boxes: torch.Tensor,
    box_labels: torch.Tensor,
    images: list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Encode the exemplar boxes of P pairs of I images.

    Keys and values of an image are computed once, not once a pair, so that memory grows with the images only.

    Args:
        encoder (`Sam3GeometryEncoder`): Transformers' module; only its submodules are called.
        coarse (`torch.Tensor` of shape `(I, C, h, w)`): Coarsest level of the pyramid.
        position (`torch.Tensor` of shape `(1, C, h, w)`): Position encoding of `coarse`.
        boxes (`torch.Tensor` of shape `(P, K, 4)`): Boxes `(cx, cy, w, h)` in `[0, 1]`.
        box_labels (`torch.Tensor` of shape `(P, K)`): 1 positive, 0 negative, -10 padding after a pair's boxes.
        images (`list[int]` of length P, *optional*): Image index of each pair. Default: all pairs are of one image.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Tokens of the boxes, followed by the CLS token, `(P, K + 1, C)`; bool mask
        `(P, K + 1)`, `True` for valid tokens. The CLS token is always valid.
    """
    if boxes.shape[0] == 0:  # Attention accepts no empty batch; a padding pair gives every weight a gradient of 0.
        tokens, valid = encode_geometry(encoder, coarse, position, *padding_exemplars(1, device=boxes.device), [0])
        return tokens[:0], valid[:0]
    rows = None if images is None or coarse.shape[0] == 1 else _ImageRows(images, coarse.shape[0], coarse.device)
    with full_precision(coarse):
        coarse, position = (tensor.to(get_dtype(encoder)) for tensor in (coarse, position))
        vision = coarse.flatten(2).transpose(1, 2)  # (I, h·w, C)
        keys = vision + position.flatten(2).transpose(1, 2)
        pooled = encoder.vision_layer_norm(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        tokens = _embed_boxes(
            encoder, pooled, boxes.to(coarse.dtype), box_labels, None if rows is None else rows.image
        )
        token = encoder.cls_embed.weight.expand(boxes.shape[0], 1, -1)
        valid, token_valid = box_labels != PADDING_LABEL, torch.ones_like(box_labels[:, :1], dtype=torch.bool)
        tokens, valid = concat_padded_sequences(tokens, valid, token, token_valid)
        tokens = encoder.prompt_layer_norm(encoder.final_proj(tokens))
        bias = build_padding_bias(valid, tokens.dtype)
        for layer in encoder.layers:
            normed = layer.layer_norm1(tokens)
            update, _ = layer.self_attn(query=normed, key=normed, value=normed, attention_mask=bias)
            tokens = tokens + layer.dropout(update)
            queries = layer.layer_norm2(tokens)
            queries = queries.flatten(0, 1)[None] if rows is None else rows.group(queries)
            update, _ = layer.cross_attn(query=queries, key=keys, value=vision)
            update = update.view(tokens.shape) if rows is None else rows.ungroup(update, tokens.shape)
            tokens = tokens + layer.dropout(update)
            tokens = tokens + layer.dropout(layer.mlp(layer.layer_norm3(tokens)))
        return encoder.output_layer_norm(tokens), valid


class _ImageRows:
    """
    Order of the tokens of P pairs by image: image `i` has the rows `i * size` to `i * size + size - 1`.

    Args:
        images (`list[int]` of length P): Image index of each pair.
        num_images (`int`): Number of images.
        device (`torch.device`): Device of the tokens.
    """

    def __init__(self, images: list[int], num_images: int, device: torch.device):
        counts, slots = {}, []
        for image in images:
            slots.append(counts.get(image, 0))
            counts[image] = slots[-1] + 1
        self.size, self.num_images = max(counts.values(), default=1), num_images
        rows = [image * self.size + slot for image, slot in zip(images, slots, strict=True)]
        self.image, self._rows = to_index([images, rows], device).unbind()

    def group(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens `(P, T, C)` as `(num_images, size · T, C)`; unused rows are 0."""
        grouped = tokens.new_zeros(self.num_images * self.size, *tokens.shape[1:]).index_copy(0, self._rows, tokens)
        return grouped.view(self.num_images, -1, tokens.shape[-1])

    def ungroup(self, grouped: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return grouped tokens in the order and `shape` of the pairs."""
        return grouped.reshape(-1, *shape[1:]).index_select(0, self._rows)


def _embed_boxes(
    encoder: Sam3GeometryEncoder,
    pooled: torch.Tensor,
    boxes: torch.Tensor,
    labels: torch.Tensor,
    image: torch.Tensor | None,
) -> torch.Tensor:
    """
    Embed boxes by coordinates, pooled features, position and label.

    Args:
        encoder (`Sam3GeometryEncoder`): Transformers' module.
        pooled (`torch.Tensor` of shape `(I, C, h, w)`): Normalised image features.
        boxes (`torch.Tensor` of shape `(P, K, 4)`): As in [`encode_geometry`].
        labels (`torch.Tensor` of shape `(P, K)`): As in [`encode_geometry`].
        image (`torch.Tensor` of shape `(P,)`, *optional*): Image index of each pair. Default: 0.

    Returns:
        `torch.Tensor` of shape `(P, K, C)`.

    Source:
        `Sam3GeometryEncoder._encode_boxes` of Transformers, which pools in a loop over the pairs.
    """
    num_pairs, num_boxes = labels.shape
    height, width = pooled.shape[-2:]
    left, top, right, bottom = box_cxcywh_to_xyxy(boxes).unbind(-1)
    index = torch.zeros_like(left) if image is None else image[:, None].to(left.dtype).expand(-1, num_boxes)
    regions = torch.stack([index, left * width, top * height, right * width, bottom * height], dim=-1).flatten(0, 1)
    # roi_align has no bfloat16
    half = torch.float16 if pooled.dtype == torch.bfloat16 else pooled.dtype
    sampled = roi_align(pooled.to(half), regions.to(half), encoder.roi_size).to(pooled.dtype)
    sampled = encoder.boxes_pool_project(sampled).view(num_pairs, num_boxes, encoder.hidden_size)
    places = encoder._encode_box_coordinates(*(side.flatten() for side in boxes.unbind(-1)))
    places = encoder.boxes_pos_enc_project(places.view(num_pairs, num_boxes, places.shape[-1]))
    return encoder.boxes_direct_project(boxes) + sampled + places + encoder.label_embed(labels.clamp(min=0).long())
