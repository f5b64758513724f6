"""Input resolution of SAM 2, and configuration, processor and random initialisation of the tiny model."""

import torch
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Processor

from .model import Sam2ForPromptSegmentation


TINY_SIDE = 128


def set_sam2_resolution(config: Sam2Config, resolution: int) -> None:
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


def tiny_sam2_config(resolution: int = TINY_SIDE) -> Sam2Config:
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
    set_sam2_resolution(config, resolution)
    return config


def tiny_sam2_processor(resolution: int = TINY_SIDE) -> Sam2Processor:
    """Build a `Sam2Processor` without a download."""
    mask = {"height": resolution // 2, "width": resolution // 2}
    images = Sam2ImageProcessor(size={"height": resolution, "width": resolution}, mask_size=mask)
    return Sam2Processor(images, target_size=resolution)


def random_sam2(config: Sam2Config, seed: int) -> Sam2ForPromptSegmentation:
    """
    Build an untrained model. The global random state is not changed.

    Transformers initialises every weight with a standard deviation of 0.02, for weights that are loaded afterwards.
    With it, or with torch's defaults, prompt embeddings have a quarter of the scale of pixel embeddings, and training
    needs tens of thousands of objects before clicks have an effect. Here every layer preserves the variance of its
    input, prompts and pixels have the same scale, and cross-attention starts as a comparison of positions.

    Args:
        config (`Sam2Config`): Config of the model.
        seed (`int`): Random seed.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Sam2ForPromptSegmentation(config)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                # An output pixel of a transposed 2×2 convolution of stride 2 has one tap for each input channel.
                transposed = isinstance(module, torch.nn.ConvTranspose2d)
                inputs = module.in_channels if transposed else module.weight[0].numel()
                torch.nn.init.normal_(module.weight, std=inputs**-0.5)
            elif isinstance(module, torch.nn.Embedding):
                # Position encodings, of norm √(C/2), must dominate the attention weights.
                torch.nn.init.normal_(module.weight, std=0.3)
            if isinstance(getattr(module, "bias", None), torch.nn.Parameter):
                module.bias.zero_()
        backbone = model.vision_encoder.backbone
        for positions in (backbone.pos_embed, backbone.pos_embed_window):
            torch.nn.init.normal_(positions, std=0.02)
        for block in backbone.blocks:  # the residual stack starts close to the identity
            block.attn.proj.weight.mul_(0.3)
            block.mlp.proj_out.weight.mul_(0.3)
        _compare_positions(model.mask_decoder.transformer)
        for head in model.mask_decoder.output_hypernetworks_mlps:
            head.proj_out.weight.mul_(0.1)  # mask logits start near 0
        # Every checkpoint has equal position tables for pixels and prompts.
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
    return model


def _compare_positions(transformer: torch.nn.Module, sharpness: float = 2.0) -> None:
    """
    Initialise attention as a comparison of positions.

    Equal projections of queries and keys make a token attend to the pixels at its position, and a pixel to the clicks
    near it. The output projection is the transpose of the value projection, so that values pass unchanged.
    """
    across, among = [transformer.final_attn_token_to_image], []
    for layer in transformer.layers:
        across += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        among.append(layer.self_attn)
        layer.mlp.proj_out.weight.mul_(0.3)
    for attention in (*across, *among):
        torch.nn.init.orthogonal_(attention.q_proj.weight)
        if attention not in among:
            attention.q_proj.weight.mul_(sharpness)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)
