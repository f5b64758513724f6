"""Output parity: inputs and outputs that are compared before and after an export."""

from dataclasses import dataclass

import torch
from transformers import Sam3Model, Sam3Processor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..data.samples.collators import tokenize_phrases


PHRASES = ("object", "a thing on the left", "person")
_PRESENCE_CLAMP = 10.0  # `Sam3Model` clamps presence logits; the training model does not


@dataclass
class ParityInputs:
    """
    Inputs of a comparison: one image and P phrases.

    Attributes:
        pixel_values (`torch.Tensor` of shape `(1, 3, R, R)`): Normalised pixels.
        input_ids (`torch.Tensor` of shape `(P, 32)`): Tokens of the phrases.
        attention_mask (`torch.Tensor` of shape `(P, 32)`): Mask of the tokens.
    """

    pixel_values: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def build_pixels(side: int) -> torch.Tensor:
    """
    Build an image of smooth noise with a fixed seed.

    Args:
        side (`int`): Side of the canvas, px.

    Returns:
        `torch.Tensor` of shape `(1, 3, side, side)`: Normalised pixels.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 7, 7, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False) * 2 - 1


def build_inputs(processor: Sam3Processor, side: int, texts: tuple[str, ...] = PHRASES) -> ParityInputs:
    """
    Build the inputs of a comparison.

    Args:
        processor (`Sam3Processor`): Processor whose tokenizer is used.
        side (`int`): Side of the canvas, px.
        texts (`tuple[str, ...]`): Phrases, `PHRASES` by default.

    Returns:
        `ParityInputs`: The inputs.
    """
    tokens = tokenize_phrases(processor.tokenizer, list(texts))
    return ParityInputs(build_pixels(side), tokens.input_ids, tokens.attention_mask)


@torch.no_grad()
def compute_outputs(model: Sam3Model, inputs: ParityInputs) -> dict[str, torch.Tensor]:
    """
    Compute the outputs of every query with Transformers' forward pass.

    Args:
        model (`Sam3Model`): The model.
        inputs (`ParityInputs`): Its inputs.

    Returns:
        `dict[str, torch.Tensor]`: `logits`, `boxes`, `presence` and `masks`.
    """
    vision = model.get_vision_features(inputs.pixel_values)  # the image is encoded once for all phrases
    for levels in ("fpn_hidden_states", "fpn_position_encoding"):
        vision[levels] = tuple(level.expand(len(inputs.input_ids), -1, -1, -1) for level in vision[levels])
    output = model(vision_embeds=vision, input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
    return _select_outputs(output)


@torch.no_grad()
def compute_prompt_outputs(
    model: Sam3Model, pixel_values: torch.Tensor, prompts: list[tuple[torch.Tensor, torch.Tensor]]
) -> list[dict[str, torch.Tensor]]:
    """
    Compute the outputs of every query for prompt tokens in place of phrases, with Transformers' forward pass.

    Args:
        model (`Sam3Model`): The model.
        pixel_values (`torch.Tensor` of shape `(1, 3, R, R)`): Normalised pixels of one image.
        prompts (`list[tuple[torch.Tensor, torch.Tensor]]`): Tokens `(1, L, C)` and mask `(1, L)`, `True` for valid
            tokens, of each prompt; L may differ.

    Returns:
        `list[dict[str, torch.Tensor]]`: As [`compute_outputs`], of each prompt.
    """
    vision = model.get_vision_features(pixel_values)
    outputs = []
    for tokens, mask in prompts:
        text = BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens)
        outputs.append(_select_outputs(model(vision_embeds=vision, text_embeds=text, attention_mask=mask.long())))
    return outputs


def _select_outputs(output) -> dict[str, torch.Tensor]:
    return {
        "logits": output.pred_logits,
        "boxes": output.pred_boxes,
        "presence": output.presence_logits.clamp(-_PRESENCE_CLAMP, _PRESENCE_CLAMP),
        "masks": output.pred_masks,
    }


def compute_max_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """
    Compute the maximum absolute difference of two sets of outputs; masks are compared as probabilities.

    Args:
        first (`dict[str, torch.Tensor]`): Outputs of [`compute_outputs`].
        second (`dict[str, torch.Tensor]`): Outputs of [`compute_outputs`].

    Returns:
        `float`: Maximum over all tensors.
    """
    differences = []
    for name in first:
        a, b = first[name].float(), second[name].float()
        if name == "masks":  # mask logits have no fixed scale
            a, b = a.sigmoid(), b.sigmoid()
        differences.append(float((a - b).abs().max()))
    return max(differences)
