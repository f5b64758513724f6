"""What a model says of one image and a few phrases: the same before and after an export."""

from dataclasses import dataclass

import torch
from transformers import Sam3Model, Sam3Processor


QUESTIONS = ("object", "a thing on the left", "person")
_CLAMP = 10.0  # of presence logits in `Sam3Model`; the training model has none


@dataclass
class Question:
    """
    Attributes:
        pixel_values (`torch.Tensor` of shape `(1, 3, R, R)`): normalised. input_ids, attention_mask (`torch.Tensor` of shape `(P, 32)`).
    """

    pixel_values: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def question(processor: Sam3Processor, side: int, texts: tuple[str, ...] = QUESTIONS) -> Question:
    """Smooth noise on a canvas of `side` px, and phrases."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 7, 7, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False) * 2 - 1
    tokens = processor.tokenizer(
        list(texts), padding="max_length", max_length=32, truncation=True, return_tensors="pt"
    )
    return Question(pixels, tokens.input_ids, tokens.attention_mask)


@torch.no_grad()
def answers(model: Sam3Model, asked: Question) -> dict[str, torch.Tensor]:
    """Logits, boxes, presence and masks of every query, as plain Transformers gives them."""
    vision = model.get_vision_features(asked.pixel_values)  # once for all phrases
    for levels in ("fpn_hidden_states", "fpn_position_encoding"):
        vision[levels] = tuple(level.expand(len(asked.input_ids), -1, -1, -1) for level in vision[levels])
    output = model(vision_embeds=vision, input_ids=asked.input_ids, attention_mask=asked.attention_mask)
    return {
        "logits": output.pred_logits,
        "boxes": output.pred_boxes,
        "presence": output.presence_logits.clamp(-_CLAMP, _CLAMP),
        "masks": output.pred_masks,
    }


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of two answers; of masks as probabilities, whose logits have no scale of their own."""
    differences = []
    for name in first:
        one, other = (side[name].float() for side in (first, second))
        if name == "masks":
            one, other = one.sigmoid(), other.sigmoid()
        differences.append(float((one - other).abs().max()))
    return max(differences)
