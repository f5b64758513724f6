"""Samples to the batch: images once, phrases once, pairs of them."""

import logging

import torch

from .object_prompts import ObjectSample, collate_prompts
from .pipeline import Sample


logger = logging.getLogger(__name__)

PADDING_LABEL = -10
TEXT_LENGTH = 32
PLACEHOLDER = "object"


class Sam3Collator:
    """
    Makes the batch that [`Sam3ForConceptSegmentation.forward`] takes.

    Args:
        tokenizer (`CLIPTokenizer`): of the model's processor.
        text_features (`dict[str, torch.Tensor]`, *optional*): phrase -> `(32, C)`, what a frozen text tower says of it; the
            batch then carries them as `text_features (T, 32, C)`, so that the tower need not be there.

    Examples:
        Two images, "cat" asked of both and "dog" of the first, give `pixel_values (2, 3, R, R)` uint8, `input_ids` and
        `attention_mask (2, 32)`, `pair_image [0, 0, 1]`, `pair_phrase [0, 1, 0]`, `input_boxes (3, 1, 4)` with labels
        -10 (no exemplar), `geometry_token (3,)`, `pair_instances`, `pair_ignore` and `pair_exhaustive` of length 3, and
        `soft_image`, `soft_phrase` and `soft_token`, the same of phrases without labels where there are any, and
        `labels` with one dict an image: `boxes (N, 4)`, `masks (N, R, R)`, `has_mask`, `ignore`, `example_id`,
        `original_size`, `phrases` (the batch's texts, for messages). Samples with features of the frozen ViT give
        `vision_features (2, h, w, C)` instead of `pixel_values`.

    Raises:
        `ValueError`: for a phrase that `text_features` lacks.
    """

    def __init__(self, tokenizer, text_features: dict[str, torch.Tensor] | None = None):
        self.tokenizer, self.text_features = tokenizer, text_features
        self.warned: set[str] = set()

    def __call__(self, samples: list[Sample]) -> dict:
        pairs = [(image, phrase) for image, sample in enumerate(samples) for phrase in sample.phrases]
        soft = [(image, phrase) for image, sample in enumerate(samples) for phrase in sample.soft]
        texts = list(dict.fromkeys(phrase.text for _, phrase in (*pairs, *soft)))
        # a batch that asks nothing still runs the text tower, on one word
        asked = texts or [PLACEHOLDER]
        tokens = self._tokenize(asked)
        boxes = torch.full((len(pairs), 1, 4), 0.5)
        box_labels = torch.full((len(pairs), 1), PADDING_LABEL)
        for row, (_, phrase) in enumerate(pairs):
            if phrase.exemplar_cxcywh is not None:
                boxes[row, 0] = torch.tensor(phrase.exemplar_cxcywh)
                box_labels[row, 0] = 1
        return {
            **_vision(samples),
            **self._text(asked),
            **_soft(soft, texts),
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "pair_image": [image for image, _ in pairs],
            "pair_phrase": [texts.index(phrase.text) for _, phrase in pairs],
            "input_boxes": boxes,
            "input_boxes_labels": box_labels,
            "geometry_token": torch.tensor([phrase.geometry_token for _, phrase in pairs], dtype=torch.bool),
            "pair_instances": [phrase.instances for _, phrase in pairs],
            "pair_ignore": [phrase.ignore for _, phrase in pairs],
            "pair_exhaustive": [phrase.exhaustive for _, phrase in pairs],
            "labels": [
                {
                    "boxes": sample.boxes,
                    "masks": sample.masks,
                    "has_mask": sample.has_mask,
                    "ignore": sample.ignore,
                    "example_id": sample.example_id,
                    "original_size": sample.original_size,
                    "phrases": texts,
                }
                for sample in samples
            ],
        }

    def _text(self, texts: list[str]) -> dict[str, torch.Tensor]:
        if self.text_features is None:
            return {}
        unknown = [text for text in texts if text not in self.text_features]
        if unknown:
            raise ValueError(
                f"`cache_text`: {unknown[0]!r} was not among the data set's phrases when they were computed"
            )
        return {"text_features": torch.stack([self.text_features[text] for text in texts])}

    def _tokenize(self, texts: list[str]) -> dict[str, torch.Tensor]:
        warn_long_phrases(self.tokenizer, [text for text in texts if text not in self.warned])
        self.warned.update(texts)
        return self.tokenizer(
            texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
        )


class Sam2Collator:
    """
    Makes the batch that [`Sam2ForPromptSegmentation.forward`] takes.

    Examples:
        Two images, one of three objects prompted with a box, one of two prompted with a click, give `pixel_values (2, 3, R, R)` uint8, `prompts`
        ([`ObjectPrompts`]) of five objects with `points (5, 2, 2)`, and `labels` with one dict an image: `masks (N, R, R)` bool, `example_id`,
        `original_size`, `instances` (which of the row's they are), and of evaluation `truth`, beside `box_prompts`. Samples with features of the
        frozen image encoder give `vision_features (2, L)` instead of `pixel_values`.
    """

    def __call__(self, samples: list[ObjectSample]) -> dict:
        names = ("masks", "example_id", "original_size", "instances", "truth")
        boxes = [sample.box_prompts for sample in samples if sample.box_prompts is not None]
        return {
            **_vision(samples),
            **({"box_prompts": collate_prompts(boxes)} if boxes else {}),
            "prompts": collate_prompts([sample.prompts for sample in samples]),
            "labels": [{name: getattr(sample, name) for name in names} for sample in samples],
        }


def _soft(pairs: list, texts: list[str]) -> dict:
    if not pairs:
        return {}
    return {
        "soft_image": [image for image, _ in pairs],
        "soft_phrase": [texts.index(phrase.text) for _, phrase in pairs],
        "soft_token": torch.tensor([phrase.geometry_token for _, phrase in pairs], dtype=torch.bool),
    }


def _vision(samples: list[Sample]) -> dict[str, torch.Tensor]:
    if samples[0].features is not None:
        return {"vision_features": torch.stack([sample.features for sample in samples])}
    return {"pixel_values": torch.stack([sample.image for sample in samples])}


def warn_long_phrases(tokenizer, texts: list[str]) -> list[str]:
    """Names the phrases that SAM 3's 32 tokens cut short, in the log and as the result."""
    if not texts:
        return []
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    long = [text for text, length in zip(texts, lengths, strict=True) if length > TEXT_LENGTH]
    if long:
        logger.warning(
            "%d phrase(s) are longer than %d tokens and are cut: %s. Give them shorter names with `phrase_map`.",
            len(long),
            TEXT_LENGTH,
            ", ".join(map(repr, long[:10])),
        )
    return long
