"""SAM 2's sizes: the side that it works at, and a tiny one with random weights from which it learns."""

import torch
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Processor

from .model import Sam2ForPromptSegmentation


TINY_SIDE = 128


def set_sam2_resolution(config: Sam2Config, resolution: int) -> None:
    """
    Sets the side in pixels that a model works at, before its weights are loaded: positions are computed for it.

    Raises:
        `ValueError`: where it is not a multiple of 32 px (of twice the coarsest cell's side); names the two nearest that are.
    """
    cell = config.prompt_encoder_config.patch_size
    step = 2 * cell  # the coarsest of four maps, and windows of eight cells on the finest
    if resolution % step or resolution <= 0:
        low = max(resolution // step, 1) * step
        raise ValueError(
            f"`resolution` is {resolution}, but SAM 2 needs a multiple of {step} px: use {low} or {low + step}. It was trained at 1024"
        )
    config.prompt_encoder_config.image_size = resolution
    config.vision_config.backbone_config.image_size = [resolution, resolution]
    config.vision_config.backbone_feature_sizes = [[resolution * s // cell] * 2 for s in (4, 2, 1)]


def tiny_sam2_config(resolution: int = TINY_SIDE) -> Sam2Config:
    """SAM 2's architecture with every part in place and 1.0 M parameters: windows, pooling, pyramid, prompts, two-way decoder."""
    width, stages = 64, [32, 64, 128, 256]
    config = Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "fpn_hidden_size": width,
            "backbone_channel_list": stages[::-1],
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": stages[0],
                "patch_stride": [2, 2],  # half of SAM 2's, so that small images have as many cells
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
    """A real `Sam2Processor`, made without download."""
    mask = {"height": resolution // 2, "width": resolution // 2}
    images = Sam2ImageProcessor(size={"height": resolution, "width": resolution}, mask_size=mask)
    return Sam2Processor(images, target_size=resolution)


def random_sam2(config: Sam2Config, seed: int) -> Sam2ForPromptSegmentation:
    """
    An untrained model; the same weights for the same seed, without touching the global random state.

    Transformers' 0.02 everywhere is for weights that will be loaded anyway. From it, or from torch's own defaults, prompts reach a mask as a
    quarter of what pixels do, and tens of thousands of objects pass before a click means anything. Here every layer keeps the variance of its
    input, prompts weigh as much as pixels, and the decoder starts by looking where it was clicked and by handing on what it finds there.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Sam2ForPromptSegmentation(config)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                # a transposed 2×2 kernel of stride 2 meets each input channel once an output pixel
                transposed = isinstance(module, torch.nn.ConvTranspose2d)
                inputs = module.in_channels if transposed else module.weight[0].numel()
                torch.nn.init.normal_(module.weight, std=inputs**-0.5)
            elif isinstance(module, torch.nn.Embedding):
                torch.nn.init.normal_(
                    module.weight, std=0.3
                )  # position encodings, of norm √(C/2), decide who looks where
            if isinstance(getattr(module, "bias", None), torch.nn.Parameter):
                module.bias.zero_()
        backbone = model.vision_encoder.backbone
        for positions in (backbone.pos_embed, backbone.pos_embed_window):
            torch.nn.init.normal_(positions, std=0.02)
        for block in backbone.blocks:  # a residual stack that starts near the patches themselves
            block.attn.proj.weight.mul_(0.3)
            block.mlp.proj_out.weight.mul_(0.3)
        _look_where_clicked(model.mask_decoder.transformer)
        for head in model.mask_decoder.output_hypernetworks_mlps:
            head.proj_out.weight.mul_(0.1)  # masks start near 0: undecided
        # one table of positions for pixels and prompts, as every checkpoint has it
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
    return model


def _look_where_clicked(transformer: torch.nn.Module, sharpness: float = 2.0) -> None:
    """
    Starts attention as a comparison of positions: queries and keys are projected alike, so that a token meets the pixels of its own place and a pixel the
    clicks near it; what is found is handed on as it is, in the part of the width that fits.
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
