"""Reduced SAM 3 configurations: the real number of queries and layers behind smaller encoders."""

import copy

from transformers import Sam3Config

from sam_ft.models.sam3.config import build_tiny_config, set_resolution


def reduced_config(resolution: int = 336, width: int = 128, layers: int = 6, queries: int = 200) -> Sam3Config:
    """Build the configuration of a reduced SAM 3.

    Args:
        resolution (`int`): Side of the input in px, 336 by default.
        width (`int`): Channels behind the encoders, 128 by default.
        layers (`int`): Layers of each stack, 6 by default as in SAM 3.
        queries (`int`): Queries of the decoder, 200 by default as in SAM 3.
    """
    config = copy.deepcopy(build_tiny_config(resolution))
    config.vision_config.fpn_hidden_size = width
    for part in (config.geometry_encoder_config, config.detr_encoder_config, config.detr_decoder_config):
        part.hidden_size, part.num_attention_heads, part.intermediate_size = width, 8, 4 * width
        part.num_layers, part.dropout = layers, 0.0
    config.geometry_encoder_config.num_layers = layers // 2
    config.mask_decoder_config.hidden_size, config.mask_decoder_config.num_attention_heads = width, 8
    config.detr_decoder_config.num_queries = queries
    vision = config.vision_config.backbone_config
    vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = 192, 768, 8
    vision.global_attn_indexes = [3, 7]
    vision.patch_size, vision.pretrain_image_size, vision.window_size = 14, 112, 8
    set_resolution(config, resolution)
    return config
