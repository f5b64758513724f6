"""Conversion of weight names between the official `sam3` package and Transformers; files belong to `sam_ft/export`."""

import re
from dataclasses import dataclass

import torch
from transformers import Sam3Config


_VIT = "backbone.vision_backbone.trunk.", "vision_encoder.backbone."
_NECK = "backbone.vision_backbone.convs.", "vision_encoder.neck.fpn_layers."
_TEXT = "backbone.language_backbone.encoder.", "text_encoder."
_DECODER = "transformer.decoder.", "detr_decoder."
_MASKS = "segmentation_head.", "mask_decoder."
_FUSED = "in_proj_", "{qkv}_proj."

# Prefixes: official (without `detector.`), Transformers. `{i}`, `{j}`: numbers. `{qkv}`: one fused official tensor is
# three tensors in Transformers.
_NAMES = [
    (_VIT, "patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    (_VIT, "pos_embed", "embeddings.position_embeddings"),
    (_VIT, "ln_pre.", "layer_norm."),
    (_VIT, "blocks.{i}.norm{j}.", "layers.{i}.layer_norm{j}."),
    (_VIT, "blocks.{i}.attn.qkv.", "layers.{i}.attention.{qkv}_proj."),
    (_VIT, "blocks.{i}.attn.proj.", "layers.{i}.attention.o_proj."),
    (_VIT, "blocks.{i}.mlp.", "layers.{i}.mlp."),
    (_NECK, "0.dconv_2x2_0.", "0.scale_layers.0."),
    (_NECK, "0.dconv_2x2_1.", "0.scale_layers.2."),
    (_NECK, "1.dconv_2x2.", "1.scale_layers.0."),
    (_NECK, "{i}.conv_1x1.", "{i}.proj1."),
    (_NECK, "{i}.conv_3x3.", "{i}.proj2."),
    (_TEXT, "token_embedding.", "text_model.embeddings.token_embedding."),
    (_TEXT, "positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (_TEXT, "transformer.resblocks.{i}.attn.in_proj_", "text_model.encoder.layers.{i}.self_attn.{qkv}_proj."),
    (_TEXT, "transformer.resblocks.{i}.attn.out_proj.", "text_model.encoder.layers.{i}.self_attn.out_proj."),
    (_TEXT, "transformer.resblocks.{i}.ln_{j}.", "text_model.encoder.layers.{i}.layer_norm{j}."),
    (_TEXT, "transformer.resblocks.{i}.mlp.c_fc.", "text_model.encoder.layers.{i}.mlp.fc1."),
    (_TEXT, "transformer.resblocks.{i}.mlp.c_proj.", "text_model.encoder.layers.{i}.mlp.fc2."),
    (_TEXT, "ln_final.", "text_model.final_layer_norm."),
    (_TEXT, "text_projection", "text_projection.weight"),
    (("backbone.language_backbone.", ""), "resizer.", "text_projection."),
    (("geometry_encoder.", "geometry_encoder."), "norm.", "prompt_layer_norm."),
    (("geometry_encoder.", "geometry_encoder."), "img_pre_norm.", "vision_layer_norm."),
    (("geometry_encoder.", "geometry_encoder."), "encode_norm.", "output_layer_norm."),
    *(
        (stack, official, ours)
        for stack in (
            ("geometry_encoder.encode.{i}.", "geometry_encoder.layers.{i}."),
            ("transformer.encoder.layers.{i}.", "detr_encoder.layers.{i}."),
        )
        for official, ours in (
            ("self_attn." + _FUSED[0], "self_attn." + _FUSED[1]),
            ("self_attn.out_proj.", "self_attn.o_proj."),
            ("cross_attn_image." + _FUSED[0], "cross_attn." + _FUSED[1]),
            ("cross_attn_image.out_proj.", "cross_attn.o_proj."),
            ("linear{j}.", "mlp.fc{j}."),
            ("norm{j}.", "layer_norm{j}."),
        )
    ),
    (_DECODER, "layers.{i}.self_attn." + _FUSED[0], "layers.{i}.self_attn." + _FUSED[1]),
    (_DECODER, "layers.{i}.self_attn.out_proj.", "layers.{i}.self_attn.o_proj."),
    (_DECODER, "layers.{i}.ca_text." + _FUSED[0], "layers.{i}.text_cross_attn." + _FUSED[1]),
    (_DECODER, "layers.{i}.ca_text.out_proj.", "layers.{i}.text_cross_attn.o_proj."),
    (_DECODER, "layers.{i}.cross_attn." + _FUSED[0], "layers.{i}.vision_cross_attn." + _FUSED[1]),
    (_DECODER, "layers.{i}.cross_attn.out_proj.", "layers.{i}.vision_cross_attn.o_proj."),
    (_DECODER, "layers.{i}.norm1.", "layers.{i}.vision_cross_attn_layer_norm."),
    (_DECODER, "layers.{i}.catext_norm.", "layers.{i}.text_cross_attn_layer_norm."),
    (_DECODER, "layers.{i}.norm2.", "layers.{i}.self_attn_layer_norm."),
    (_DECODER, "layers.{i}.norm3.", "layers.{i}.mlp_layer_norm."),
    (_DECODER, "layers.{i}.linear{j}.", "layers.{i}.mlp.fc{j}."),
    (_DECODER, "presence_token_head.layers.{i}.", "presence_head.layer{i+1}."),
    (_DECODER, "bbox_embed.layers.{i}.", "box_head.layer{i+1}."),
    (_DECODER, "ref_point_head.layers.{i}.", "ref_point_head.layer{i+1}."),
    (_DECODER, "boxRPB_embed_x.layers.{i}.", "box_rpb_embed_x.layer{i+1}."),
    (_DECODER, "boxRPB_embed_y.layers.{i}.", "box_rpb_embed_y.layer{i+1}."),
    (_DECODER, "presence_token_out_norm.", "presence_layer_norm."),
    (_DECODER, "norm.", "output_layer_norm."),
    (("dot_prod_scoring.", "dot_product_scoring."), "prompt_mlp.layers.{i}.", "text_mlp.layer{i+1}."),
    (("dot_prod_scoring.", "dot_product_scoring."), "prompt_mlp.out_norm.", "text_mlp_out_norm."),
    (("dot_prod_scoring.", "dot_product_scoring."), "prompt_proj.", "text_proj."),
    (("dot_prod_scoring.", "dot_product_scoring."), "hs_proj.", "query_proj."),
    (_MASKS, "pixel_decoder.", "pixel_decoder."),
    (_MASKS, "mask_predictor.mask_embed.", "mask_embedder."),
    (_MASKS, "instance_seg_head.", "instance_projection."),
    (_MASKS, "semantic_seg_head.", "semantic_projection."),
    (_MASKS, "cross_attend_prompt." + _FUSED[0], "prompt_cross_attn." + _FUSED[1]),
    (_MASKS, "cross_attend_prompt.out_proj.", "prompt_cross_attn.o_proj."),
    (_MASKS, "cross_attn_norm.", "prompt_cross_attn_norm."),
    # All other names are equal.
    (("geometry_encoder.", "geometry_encoder."), "", ""),
    (_DECODER, "", ""),
]

# Tensors of the official detector that Transformers' model lacks.
_OFFICIAL_ONLY = re.compile(
    r"geometry_encoder\.points_(direct|pool|pos_enc)_project\.|.*\.freqs_cis$|backbone\.vision_backbone\.sam2_convs\."
)
_POSITIONS = "backbone.vision_backbone.trunk.pos_embed"
_TEXT_PROJECTION = "backbone.language_backbone.encoder.text_projection"


@dataclass
class _Rule:
    """Replacement of the prefix `pattern` by `target`; the group `i` is increased by `shift`."""

    pattern: re.Pattern
    target: str
    shift: int

    def apply(self, name: str) -> str | None:
        match = self.pattern.match(name)
        if match is None:
            return None
        numbers = {
            key: str(int(value) + (self.shift if key == "i" else 0)) for key, value in match.groupdict().items()
        }
        return re.sub(r"\{([ij])(?:\+1)?\}", lambda m: numbers[m[1]], self.target) + name[match.end() :]


def _rules(source: int, target: int) -> list[_Rule]:
    rules = []
    for prefixes, *rest in _NAMES:
        old, new = (prefixes[side] + rest[side] for side in (source, target))
        shift = ("{i+1}" in new) - ("{i+1}" in old)
        pattern = re.escape(old).replace(r"\{qkv\}", "[qkv]")
        pattern = re.sub(r"\\\{([ij])(?:\\\+1)?\\\}", r"(?P<\1>\\d+)", pattern)
        rules.append(_Rule(re.compile(pattern), new, shift))
    return rules


_TO_TRANSFORMERS, _TO_OFFICIAL = _rules(0, 1), _rules(1, 0)


def to_transformers_names(official_name: str) -> list[str]:
    """
    Return the Transformers names of an official tensor.

    Args:
        official_name (`str`): Name without the leading `detector.`.

    Returns:
        `list[str]`: One name; three names if q, k and v are fused; none if `Sam3Model` lacks the tensor.

    Raises:
        `KeyError`: If the official detector has no such tensor.
    """
    if _OFFICIAL_ONLY.match(official_name):
        return []
    name = next((new for rule in _TO_TRANSFORMERS if (new := rule.apply(official_name))), None)
    if name is None:
        raise KeyError(f"{official_name!r} is not a weight of the official SAM 3 detector")
    return [name.replace("{qkv}", letter) for letter in "qkv"] if "{qkv}" in name else [name]


def to_official_name(transformers_name: str) -> str:
    """
    Return the official name, without `detector.`, of a tensor of `Sam3Model`; q, k and v share one name.

    Raises:
        `KeyError`: If `Sam3Model` has no such tensor.
    """
    name = next((new for rule in _TO_OFFICIAL if (new := rule.apply(transformers_name))), None)
    if name is None:
        raise KeyError(f"{transformers_name!r} is not a weight of Sam3Model")
    return name


def from_official(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert the official detector's state dict (names without `detector.`) to Transformers' names and shapes."""
    converted = {}
    for name, tensor in weights.items():
        names = to_transformers_names(name)
        if name == _POSITIONS:
            tensor = tensor[:, 1:]  # row 0 is the position of a class token that SAM 3 does not use
        elif name == _TEXT_PROJECTION:
            tensor = tensor.T
        parts = tensor.chunk(3) if len(names) == 3 else [tensor] * len(names)
        converted |= {n: part.clone() for n, part in zip(names, parts, strict=True)}
    return converted


def to_official(weights: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Convert a `Sam3Model` state dict to the official names.

    Args:
        weights (`dict[str, torch.Tensor]`): Weights with Transformers' names.
        base (`dict[str, torch.Tensor]`): The official detector that was fine-tuned, or [`build_official_only`].
            Source of the tensors that `Sam3Model` lacks: class token position, point prompts, rotary buffers, the
            tracker's neck.

    Returns:
        `dict[str, torch.Tensor]`: Weights with official names.

    Raises:
        `KeyError`: If `weights` lacks a tensor of `base`, or contains a name that is not of `Sam3Model`.
    """
    converted = {name: tensor for name, tensor in base.items() if not to_transformers_names(name)}
    for official in dict.fromkeys([*base, *map(to_official_name, weights)]):
        names = to_transformers_names(official)
        if not names:
            continue
        missing = [n for n in names if n not in weights]
        if missing:
            raise KeyError(f"the weights lack {missing[0]!r}, which the official {official!r} needs")
        value = torch.cat([weights[n] for n in names]) if len(names) == 3 else weights[names[0]]
        if official == _POSITIONS:
            first = base[official][:, :1].to(value) if official in base else torch.zeros_like(value[:, :1])
            value = torch.cat([first, value], dim=1)
        elif official == _TEXT_PROJECTION:
            value = value.T
        converted[official] = value.contiguous()
    return converted


def build_official_only(config: Sam3Config, side: int) -> dict[str, torch.Tensor]:
    """
    Build the tensors that the official model needs and `Sam3Model` lacks, for an export without a base.

    The projections of point prompts are zeros: predictions for phrases and boxes do not depend on them.

    Args:
        config (`Sam3Config`): Config of the model.
        side (`int`): Input resolution of the official model in pixels.

    Returns:
        `dict[str, torch.Tensor]`: Point prompt projections and the ViT's rotary embeddings.

    Source:
        Official `sam3/model/vitdet.py`.
    """
    vit, width = config.vision_config.backbone_config, config.geometry_encoder_config.hidden_size
    inputs = {"direct": 2, "pool": width, "pos_enc": width}
    points = {f"geometry_encoder.points_{kind}_project.weight": torch.zeros(width, n) for kind, n in inputs.items()}
    points |= {f"geometry_encoder.points_{kind}_project.bias": torch.zeros(width) for kind in inputs}
    angles = {}
    for i in range(vit.num_hidden_layers):
        cells = side // vit.patch_size if i in vit.global_attn_indexes else vit.window_size
        angles[f"{_VIT[0]}blocks.{i}.attn.freqs_cis"] = _rotary(
            vit.hidden_size // vit.num_attention_heads,
            cells,
            vit.window_size / cells,
            vit.rope_parameters["rope_theta"],
        )
    return points | angles


def _rotary(dim: int, cells: int, scale: float, theta: float) -> torch.Tensor:
    """Compute rotary embeddings `(cells², dim / 2)`, complex: of the columns, then of the rows."""
    frequencies = 1.0 / theta ** (torch.arange(0, dim, 4)[: dim // 4].float() / dim)
    index = torch.arange(cells * cells)
    columns, rows = (index % cells).float() * scale, (index // cells).float() * scale
    angles = torch.cat([torch.outer(columns, frequencies), torch.outer(rows, frequencies)], dim=-1)
    return torch.polar(torch.ones_like(angles), angles)
