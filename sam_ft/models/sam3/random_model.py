"""Random weights from which SAM 3's architecture learns."""

import math

import torch
from transformers import Sam3Config

from .model import Sam3ForConceptSegmentation


def random_model(config: Sam3Config, seed: int) -> Sam3ForConceptSegmentation:
    """
    An untrained model; the same weights for the same seed, without touching the global random state.

    Transformers' 0.02 everywhere is for a width of 1,024 and for weights that will be loaded anyway. Here the stacks are
    initialised as officially (Xavier, unit normal embeddings), and what brings pictures and words to them keeps their
    variance: otherwise an image's features reach the fusion encoder as one part in ten of a constant, queries and masks
    start alike, and tens of thousands of pairs pass before a word means anything. Queries start with places of their own:
    their boxes lie on a grid, and they look into them.
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
        for layer in trunk.layers:  # a residual stack that starts near the patches themselves (GPT-2's scaling)
            for module in (layer.attention.o_proj, layer.mlp.fc2):
                module.weight.data.mul_((2 * len(trunk.layers)) ** -0.5)
        for module in model.vision_encoder.neck.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                # a transposed 2×2 kernel of stride 2 meets each input channel once an output pixel
                transposed = isinstance(module, torch.nn.ConvTranspose2d)
                inputs = module.in_channels if transposed else module.weight[0].numel()
                torch.nn.init.normal_(module.weight, std=inputs**-0.5)
                torch.nn.init.zeros_(module.bias)
        # words that differ, and loud enough for the fusion encoder's softmax to tell them apart
        torch.nn.init.normal_(text.embeddings.token_embedding.weight)
        torch.nn.init.xavier_uniform_(model.text_projection.weight, gain=2.0)
        decoder.reference_points.weight.data.copy_(_grid_of_boxes(config.detr_decoder_config.num_queries))
        _look_into_boxes(decoder)
        # boxes start at their reference points, so that matches are stable from the first step
        torch.nn.init.zeros_(decoder.box_head.layer3.weight)
        torch.nn.init.zeros_(decoder.box_head.layer3.bias)
    return model


def _look_into_boxes(decoder: torch.nn.Module, strength: float = 6.0) -> None:
    """
    Starts the box-relative position bias as `−strength · (log-scaled distance outside the box)` in x and y. Its inputs are
    a cell's signed distances to the box's two edges: left of the first, or right of the second, is outside.
    """
    for axis in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        axis.layer1.weight.data[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
        axis.layer1.bias.data[:2] = 0.0
        axis.layer2.weight.data[:, :2] = -strength


def _grid_of_boxes(number: int) -> torch.Tensor:
    """Logits `(number, 4)` of boxes (cx, cy, w, h) spread evenly over the image, each a quarter wide and high."""
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    place = torch.arange(number)
    centres = torch.stack([(place % columns + 0.5) / columns, (place // columns + 0.5) / rows], dim=-1)
    return torch.logit(torch.cat([centres, torch.full((number, 2), 0.25)], dim=-1))
