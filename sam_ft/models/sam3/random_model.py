"""Random initialisation of SAM 3 for training from scratch."""

import math

import torch
from transformers import Sam3Config

from .model import Sam3ForConceptSegmentation


def build_random_model(config: Sam3Config, seed: int) -> Sam3ForConceptSegmentation:
    """
    Build an untrained model. The global random state is not changed.

    Transformers initialises every weight with a standard deviation of 0.02, which suits a width of 1,024 and weights
    that are loaded afterwards. With it, image features at the fusion encoder are a tenth of a constant offset, all
    queries start equal, and training needs tens of thousands of pairs before phrases have an effect. Here, transformer
    stacks are initialised as in the official code (Xavier, unit normal embeddings), neck and text projection preserve
    variance, and the queries start from a grid of boxes with a position bias towards the inside of each box.

    Args:
        config (`Sam3Config`): Config of the model.
        seed (`int`): Random seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sam3ForConceptSegmentation(config)
        trunk, text, decoder = model.vision_encoder.backbone, model.text_encoder.text_model, model.detr_decoder
        for module in model.mask_decoder.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.reset_parameters()
        for part in (trunk, model.geometry_encoder, model.detr_encoder, decoder, model.dot_product_scoring):
            for module in part.modules():
                if isinstance(module, torch.nn.Linear):
                    torch.nn.init.xavier_uniform_(module.weight)
                elif isinstance(module, torch.nn.Embedding):
                    torch.nn.init.normal_(module.weight)
        for layer in trunk.layers:  # GPT-2's scaling: the residual stack starts close to the identity
            for module in (layer.attention.o_proj, layer.mlp.fc2):
                module.weight.data.mul_((2 * len(trunk.layers)) ** -0.5)
        for module in model.vision_encoder.neck.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                # An output pixel of a transposed 2×2 convolution of stride 2 has one tap for each input channel.
                transposed = isinstance(module, torch.nn.ConvTranspose2d)
                inputs = module.in_channels if transposed else module.weight[0].numel()
                torch.nn.init.normal_(module.weight, std=inputs**-0.5)
                torch.nn.init.zeros_(module.bias)
        # Token embeddings must differ enough for the softmax of the fusion encoder to separate phrases.
        torch.nn.init.normal_(text.embeddings.token_embedding.weight)
        torch.nn.init.xavier_uniform_(model.text_projection.weight, gain=2.0)
        decoder.reference_points.weight.data.copy_(_grid_of_boxes(config.detr_decoder_config.num_queries))
        _bias_attention_to_boxes(decoder)
        # A zero box head predicts the reference points, so that matching is stable from the first step.
        torch.nn.init.zeros_(decoder.box_head.layer3.weight)
        torch.nn.init.zeros_(decoder.box_head.layer3.bias)
    return model


def _bias_attention_to_boxes(decoder: torch.nn.Module, strength: float = 6.0) -> None:
    """
    Initialise the box-relative position bias to `−strength · (log-scaled distance outside the box)` in x and y.

    The inputs of the bias are a cell's signed distances to the two edges of the box; a cell left of the first or right
    of the second edge is outside.
    """
    for axis in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        axis.layer1.weight.data[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
        axis.layer1.bias.data[:2] = 0.0
        axis.layer2.weight.data[:, :2] = -strength


def _grid_of_boxes(number: int) -> torch.Tensor:
    """Compute logits `(number, 4)` of boxes (cx, cy, w, h) on a regular grid, of a quarter of the image's side."""
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    index = torch.arange(number)
    centres = torch.stack([(index % columns + 0.5) / columns, (index // columns + 0.5) / rows], dim=-1)
    return torch.logit(torch.cat([centres, torch.full((number, 2), 0.25)], dim=-1))
