"""Input resolution of SAM 2, and configuration and processor of the tiny model in this package."""

from transformers import Sam2Config, Sam2ImageProcessor, Sam2Processor


TINY_SIDE = 128


def set_resolution(config: Sam2Config, resolution: int) -> None:
    """
    Set the input resolution in a config, before the weights are loaded; positions are computed for it.

    Args:
        config (`Sam2Config`): Changed in place.
        resolution (`int`): Side of the square input in pixels.

    Raises:
        `ValueError`: If it is not a multiple of 32 px (twice the stride of the coarsest map); names the two nearest
            multiples.
    """
    cell = config.prompt_encoder_config.patch_size
    step = 2 * cell  # stride of the coarsest of four maps; also divides into windows of eight cells on the finest
    if resolution % step or resolution <= 0:
        low = max(resolution // step, 1) * step
        raise ValueError(
            f"`resolution` is {resolution}, but must be a multiple of {step} px: use {low} or {low + step}. SAM 2 was "
            "trained at 1024"
        )
    config.prompt_encoder_config.image_size = resolution
    config.vision_config.backbone_config.image_size = [resolution, resolution]
    config.vision_config.backbone_feature_sizes = [[resolution * s // cell] * 2 for s in (4, 2, 1)]


def get_resolution(config: Sam2Config) -> int:
    """Return the input resolution of a config: the side of the square input in pixels."""
    return config.prompt_encoder_config.image_size


def build_tiny_config(resolution: int = TINY_SIDE) -> Sam2Config:
    """Build the config of the tiny SAM 2: every module of the architecture, 1.0 M parameters."""
    width, stages = 64, [32, 64, 128, 256]
    config = Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "fpn_hidden_size": width,
            "backbone_channel_list": stages[::-1],
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": stages[0],
                "patch_stride": [2, 2],  # half of SAM 2's, so that small images have enough cells
                "embed_dim_per_stage": stages,
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "blocks_per_stage": [1, 2, 2, 1],
                "window_size_per_stage": [8, 4, 8, 4],
                "global_attention_blocks": [4],
                "mlp_ratio": 2.0,
            },
        },
        prompt_encoder_config={"hidden_size": width, "patch_size": 8, "mask_input_channels": 16},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": 128,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": width,
        },
    )
    set_resolution(config, resolution)
    return config


def build_tiny_processor(resolution: int = TINY_SIDE) -> Sam2Processor:
    """Build a `Sam2Processor` without a download."""
    mask = {"height": resolution // 2, "width": resolution // 2}
    images = Sam2ImageProcessor(size={"height": resolution, "width": resolution}, mask_size=mask)
    return Sam2Processor(images, target_size=resolution)
