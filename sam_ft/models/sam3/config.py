"""Input resolution of SAM 3, and configuration and processor of the tiny model in this package."""

import tempfile
from pathlib import Path

from transformers import Sam3Config, Sam3ImageProcessor, Sam3Processor

from .tokenizer import build_clip_vocabulary, build_small_clip_tokenizer


TINY_SIDE = 96


def set_resolution(config: Sam3Config, resolution: int) -> None:
    """
    Set the input resolution in a config, before the weights are loaded.

    Position embeddings are tiled and rotary embeddings are computed for the new resolution.

    Args:
        config (`Sam3Config`): Changed in place.
        resolution (`int`): Side of the square input in pixels.

    Raises:
        `ValueError`: If it is not a multiple of the patch size (14 px in SAM 3); names the two nearest multiples.
    """
    trunk = config.vision_config.backbone_config
    patch, window = trunk.patch_size, trunk.patch_size * trunk.window_size
    if resolution % patch or resolution <= 0:
        low = max(resolution // patch, 1) * patch
        raise ValueError(
            f"`resolution` is {resolution}, but must be a multiple of the model's patches of {patch} px: use {low} or "
            f"{low + patch}. Multiples of {window} ({window}, {2 * window}, {3 * window}) also avoid padding in the "
            "attention windows."
        )
    config.image_size = resolution
    side = resolution // patch
    config.vision_config.backbone_feature_sizes = [[side * s, side * s] for s in (4, 2, 1)]


def get_resolution(config: Sam3Config) -> int:
    """Return the input resolution of a config: the side of the square input in pixels."""
    return config.image_size


def set_dropout(config: Sam3Config, probability: float) -> None:
    """
    Set the dropout of the modules behind the encoders in a config, before the weights are loaded.

    Args:
        config (`Sam3Config`): Changed in place.
        probability (`float`): Dropout probability, 0 to 1.
    """
    for part in (config.geometry_encoder_config, config.detr_encoder_config, config.detr_decoder_config):
        part.dropout = probability


def build_tiny_config(resolution: int = TINY_SIDE) -> Sam3Config:
    """Build the config of the tiny SAM 3: every module of the architecture, 1.8 M parameters."""
    width = 64
    stack = {
        "hidden_size": width,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    config = Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model",
            "fpn_hidden_size": width,
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 96,
                "intermediate_size": 256,
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "image_size": resolution,
                "patch_size": 8,
                "pretrain_image_size": 32,
                "window_size": 4,
                "global_attn_indexes": [2, 5],
                "layer_norm_eps": 1e-5,
            },
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(build_clip_vocabulary()),
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "projection_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
            "bos_token_id": len(build_clip_vocabulary()) - 2,
            "eos_token_id": len(build_clip_vocabulary()) - 1,
            "pad_token_id": len(build_clip_vocabulary()) - 1,
        },
        geometry_encoder_config={**stack, "num_layers": 1},
        detr_encoder_config={**stack, "num_layers": 2},
        detr_decoder_config={**stack, "num_layers": 3, "num_queries": 25},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 4},
    )
    set_resolution(config, resolution)
    return config


def build_tiny_processor(resolution: int = TINY_SIDE) -> Sam3Processor:
    """Build a `Sam3Processor` with a byte-level CLIP tokenizer, without a download."""
    side = {"height": resolution, "width": resolution}
    mask_size = {"height": resolution // 2, "width": resolution // 2}  # four mask cells along a patch of 8 px
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = build_small_clip_tokenizer(Path(folder))
    return Sam3Processor(Sam3ImageProcessor(size=side, mask_size=mask_size), tokenizer, target_size=resolution)
