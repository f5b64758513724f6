"""Dropouts of the official SAM 3 training that Transformers' port lacks."""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.models.sam3.modeling_sam3 import Sam3Model


RATE = 0.1
ATTENTION = "sam3_official_dropout"


def apply_official_dropout(model: Sam3Model) -> None:
    """
    Add the official dropouts to a model; they act in train mode only.

    * ViT: drop-path, linear from 0 in the first layer to 0.1 in the last; one draw for each image and branch.
    * Attention probabilities: 0.1 in geometry encoder, fusion encoder and decoder; 0 in the mask decoder.
    * Hidden activations of the feed-forward layers of the same three modules: 0.1; the port sets 0.
    * Scoring: 0.1 on the hidden layer; the port applies dropout to the output.

    Args:
        model (`Sam3Model`): Changed in place.

    Source:
        Official `sam3/model_builder.py`, `vitdet.py`, `model_misc.py`.
    """
    AttentionInterface.register(ATTENTION, _attention_with_dropout)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    for stack in (model.geometry_encoder, model.detr_encoder, model.detr_decoder):
        stack.config._attn_implementation = ATTENTION
        for layer in stack.layers:
            layer.mlp.dropout.p = RATE
    scoring = model.dot_product_scoring
    scoring.text_mlp_dropout.p = 0.0
    scoring.text_mlp.layer1.register_forward_hook(lambda m, _, out: F.dropout(out, RATE, m.training))
    layers = model.vision_encoder.backbone.layers
    for i, layer in enumerate(layers):
        rate = RATE * i / max(len(layers) - 1, 1)
        layer.attention.register_forward_hook(_drop_attention(rate, layer))
        layer.mlp.register_forward_hook(lambda m, _, out, rate=rate: _drop_path(out, rate, m.training, len(out)))


# Transformers' attention layers pass all arguments by name.
def _attention_with_dropout(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):  # noqa: ARG001
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=RATE if module.training else 0.0, scale=scaling
    )
    return output.transpose(1, 2).contiguous(), None


def _drop_attention(rate: float, layer: torch.nn.Module):
    """Build the drop-path hook of the attention of a ViT layer."""
    batch = {}

    def store_batch_size(_, args):
        batch["images"] = len(args[0])  # the attention module receives windows, not images

    def hook(module, _, output):
        hidden, weights = output
        return _drop_path(hidden, rate, module.training, batch["images"]), weights

    layer.register_forward_pre_hook(store_batch_size)
    return hook


def _drop_path(hidden: torch.Tensor, rate: float, training: bool, images: int) -> torch.Tensor:
    """Set the branch of random images to 0 and scale the others up (Huang et al. 2016)."""
    if not training or rate == 0:
        return hidden
    keep = torch.empty(images, device=hidden.device).bernoulli_(1 - rate).div_(1 - rate)
    keep = keep.repeat_interleave(len(hidden) // images).to(hidden.dtype)
    return hidden * keep.view(-1, *[1] * (hidden.dim() - 1))
