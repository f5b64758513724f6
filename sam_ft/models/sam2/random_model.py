"""Random initialisation of SAM 2 for training from scratch."""

import torch
from transformers import Sam2Config

from .model import Sam2ForPromptSegmentation


def build_random_model(config: Sam2Config, seed: int) -> Sam2ForPromptSegmentation:
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
