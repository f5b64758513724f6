"""Weight names of the official `sam3` package and of Transformers, both ways. Files on disk are the exits' work."""

import re

import torch


# official name (without `detector.`) -> Transformers' name; `\1`, `\2` carry layer numbers and the like
_RENAMES = [
    (r"backbone\.vision_backbone\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.embeddings.patch_embeddings.projection."),
    (r"backbone\.vision_backbone\.trunk\.pos_embed$", "vision_encoder.backbone.embeddings.position_embeddings"),
    (r"backbone\.vision_backbone\.trunk\.ln_pre\.", "vision_encoder.backbone.layer_norm."),
    (r"backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.backbone.layers.\1.layer_norm\2."),
    (r"backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn\.qkv\.", r"vision_encoder.backbone.layers.\1.attention.{qkv}_proj."),
    (r"backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn\.proj\.", r"vision_encoder.backbone.layers.\1.attention.o_proj."),
    (r"backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.mlp\.", r"vision_encoder.backbone.layers.\1.mlp."),
    (r"backbone\.vision_backbone\.convs\.(\d+)\.dconv_2x2(?:_0)?\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.0."),
    (r"backbone\.vision_backbone\.convs\.(\d+)\.dconv_2x2_1\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.2."),
    (r"backbone\.vision_backbone\.convs\.(\d+)\.conv_1x1\.", r"vision_encoder.neck.fpn_layers.\1.proj1."),
    (r"backbone\.vision_backbone\.convs\.(\d+)\.conv_3x3\.", r"vision_encoder.neck.fpn_layers.\1.proj2."),
    (r"backbone\.language_backbone\.encoder\.token_embedding\.", "text_encoder.text_model.embeddings.token_embedding."),
    (r"backbone\.language_backbone\.encoder\.positional_embedding$", "text_encoder.text_model.embeddings.position_embedding.weight"),
    (r"backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"text_encoder.text_model.encoder.layers.\1.self_attn.{qkv}_proj."),
    (r"backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"text_encoder.text_model.encoder.layers.\1.self_attn.out_proj."),
    (r"backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.ln_([12])\.", r"text_encoder.text_model.encoder.layers.\1.layer_norm\2."),
    (r"backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"text_encoder.text_model.encoder.layers.\1.mlp.fc1."),
    (r"backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"text_encoder.text_model.encoder.layers.\1.mlp.fc2."),
    (r"backbone\.language_backbone\.encoder\.ln_final\.", "text_encoder.text_model.final_layer_norm."),
    (r"backbone\.language_backbone\.encoder\.text_projection$", "text_encoder.text_projection.weight"),
    (r"backbone\.language_backbone\.resizer\.", "text_projection."),
    (r"geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
    (r"geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    (r"geometry_encoder\.encode\.(\d+)\.", r"geometry_encoder.layers.\1.{encoder}"),
    (r"transformer\.encoder\.layers\.(\d+)\.", r"detr_encoder.layers.\1.{encoder}"),
    (r"transformer\.decoder\.layers\.(\d+)\.", r"detr_decoder.layers.\1.{decoder}"),
    (r"transformer\.decoder\.presence_token_head\.layers\.(\d+)\.", r"detr_decoder.presence_head.layer{+\1}."),
    (r"transformer\.decoder\.bbox_embed\.layers\.(\d+)\.", r"detr_decoder.box_head.layer{+\1}."),
    (r"transformer\.decoder\.ref_point_head\.layers\.(\d+)\.", r"detr_decoder.ref_point_head.layer{+\1}."),
    (r"transformer\.decoder\.boxRPB_embed_([xy])\.layers\.(\d+)\.", r"detr_decoder.box_rpb_embed_\1.layer{+\2}."),
    (r"transformer\.decoder\.presence_token_out_norm\.", "detr_decoder.presence_layer_norm."),
    (r"transformer\.decoder\.norm\.", "detr_decoder.output_layer_norm."),
    (r"transformer\.decoder\.", "detr_decoder."),
    (r"dot_prod_scoring\.prompt_mlp\.layers\.(\d+)\.", r"dot_product_scoring.text_mlp.layer{+\1}."),
    (r"dot_prod_scoring\.prompt_mlp\.out_norm\.", "dot_product_scoring.text_mlp_out_norm."),
    (r"dot_prod_scoring\.prompt_proj\.", "dot_product_scoring.text_proj."),
    (r"dot_prod_scoring\.hs_proj\.", "dot_product_scoring.query_proj."),
    (r"segmentation_head\.pixel_decoder\.", "mask_decoder.pixel_decoder."),
    (r"segmentation_head\.mask_predictor\.mask_embed\.", "mask_decoder.mask_embedder."),
    (r"segmentation_head\.instance_seg_head\.", "mask_decoder.instance_projection."),
    (r"segmentation_head\.semantic_seg_head\.", "mask_decoder.semantic_projection."),
    (r"segmentation_head\.cross_attend_prompt\.in_proj_", "mask_decoder.prompt_cross_attn.{qkv}_proj."),
    (r"segmentation_head\.cross_attend_prompt\.out_proj\.", "mask_decoder.prompt_cross_attn.o_proj."),
    (r"segmentation_head\.cross_attn_norm\.", "mask_decoder.prompt_cross_attn_norm."),
]  # fmt: skip

_ENCODER_LAYER = {
    "self_attn.": "self_attn.",
    "cross_attn_image.": "cross_attn.",
    "linear": "mlp.fc",
    "norm": "layer_norm",
}
_DECODER_LAYER = {
    "self_attn.": "self_attn.",
    "ca_text.": "text_cross_attn.",
    "cross_attn.": "vision_cross_attn.",
    "linear": "mlp.fc",
    "norm1.": "vision_cross_attn_layer_norm.",
    "catext_norm.": "text_cross_attn_layer_norm.",
    "norm2.": "self_attn_layer_norm.",
    "norm3.": "mlp_layer_norm.",
}

# tensors of the official detector that have no place in Transformers' model
_OFFICIAL_ONLY = re.compile(
    r"geometry_encoder\.points_(direct|pool|pos_enc)_project\.|.*\.freqs_cis$|backbone\.vision_backbone\.sam2_convs\."
)
_CLASS_TOKEN_POSITION = "backbone.vision_backbone.trunk.pos_embed"
_TEXT_PROJECTION = "backbone.language_backbone.encoder.text_projection"


def transformers_names(official_name: str) -> list[str]:
    """
    The Transformers name of an official tensor: one, three where q, k and v are fused, none where it has no place.

    Args:
        official_name (`str`): without the leading `detector.`.

    Raises:
        `KeyError`: on a name that the official detector does not have.
    """
    if _OFFICIAL_ONLY.match(official_name):
        return []
    name = official_name
    for pattern, replacement in _RENAMES:
        name, found = re.subn("^" + pattern, replacement, official_name)
        if found:
            break
    else:
        if not official_name.startswith("geometry_encoder."):
            raise KeyError(f"{official_name!r} is not a weight of the official SAM 3 detector")
    name = re.sub(r"\{\+(\d+)\}", lambda m: str(int(m[1]) + 1), name)
    for marker, table in (("{encoder}", _ENCODER_LAYER), ("{decoder}", _DECODER_LAYER)):
        head, found, tail = name.partition(marker)
        if found:
            key = next(key for key in table if tail.startswith(key))
            tail = table[key] + tail.removeprefix(key)
            name = head + re.sub(r"in_proj_", "{qkv}_proj.", tail.replace("out_proj.", "o_proj."))
    return [name.replace("{qkv}", letter) for letter in "qkv"] if "{qkv}" in name else [name]


def from_official(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Converts the official detector's state dict (names without `detector.`) to Transformers' names and shapes."""
    converted = {}
    for name, tensor in weights.items():
        names = transformers_names(name)
        if name == _CLASS_TOKEN_POSITION:
            tensor = tensor[:, 1:]  # row 0 belongs to a class token that SAM 3 drops
        elif name == _TEXT_PROJECTION:
            tensor = tensor.T
        parts = tensor.chunk(3) if len(names) == 3 else [tensor] * len(names)
        converted |= {n: part.clone() for n, part in zip(names, parts, strict=True)}
    return converted


def to_official(weights: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Converts a `Sam3Model` state dict to the official names, over a base.

    Args:
        weights (`dict[str, torch.Tensor]`): Transformers' names.
        base (`dict[str, torch.Tensor]`): the official detector that says which tensors exist; what `Sam3Model` does not
            have (the class token's position, point prompts, rotary buffers, the tracker's neck) is kept from it.

    Raises:
        `KeyError`: where `weights` lacks a tensor of the base.
    """
    converted = {}
    for name, tensor in base.items():
        names = transformers_names(name)
        if not names:
            converted[name] = tensor
            continue
        missing = [n for n in names if n not in weights]
        if missing:
            raise KeyError(f"the weights lack {missing[0]!r}, which the official {name!r} needs")
        value = torch.cat([weights[n] for n in names]) if len(names) == 3 else weights[names[0]]
        if name == _CLASS_TOKEN_POSITION:
            value = torch.cat([tensor[:, :1].to(value), value], dim=1)
        elif name == _TEXT_PROJECTION:
            value = value.T
        converted[name] = value.contiguous()
    return converted
