"""Collators: samples to a batch of images, unique phrases, and (image, phrase) pairs."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from ...ops.packed_masks import pack_masks
from ...ops.prompts import padding_exemplars
from .object_prompts import ObjectSample, collate_prompts
from .sample import ImageSample, Sample


logger = logging.getLogger(__name__)

TEXT_LENGTH = 32
PLACEHOLDER = "object"
MAX_TOKENIZED = 20_000  # Phrases whose tokens a collator holds, about a kilobyte each.


class Sam3Collator:
    """
    Collator for [`Sam3ForConceptSegmentation.forward`].

    Args:
        tokenizer (`CLIPTokenizer`): Tokenizer of the processor of the model.
        text_features (`dict[str, torch.Tensor]`, *optional*): Phrase to precomputed features `(32, C)` of the frozen
            text encoder. The batch then contains them as `text_features (T, 32, C)`, and the model needs no text
            encoder.
        concepts (`ConceptIndex`, *optional*): Concepts of the model. The batch then contains `concept_index`, the
            index of the concept of each phrase or -1.

    Raises:
        `ValueError`: If `text_features` lacks a phrase.

    Examples:
        Two images, with the phrase "cat" for both and "dog" for the first, give:

        - `pixel_values (2, 3, R, R)`, uint8; with precomputed features of the frozen ViT, `vision_features
          (2, h, w, C)` instead.
        - `input_ids` and `attention_mask`, both `(2, 32)`.
        - `pair_image [0, 0, 1]` and `pair_phrase [0, 1, 0]`: image and phrase of each pair.
        - `input_boxes (3, 1, 4)` with labels -10 (no exemplar), and `geometry_token (3,)`.
        - `pair_instances`, `pair_ignore` and `pair_exhaustive` of length 3.
        - `distill_image`, `distill_phrase` and `distill_token`: the same for phrases without labels, if there are any.
        - `labels`, one dict per image: `boxes (N, 4)`, `masks (N, R, R / 8)` as in [`pack_masks`], `has_mask`,
          `ignore` like `masks`, `example_id`, `original_size`, and `phrases`, the texts of the batch for messages.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_features: dict[str, torch.Tensor] | None = None,
        concepts: Any = None,
    ):
        self.tokenizer, self.text_features, self.concepts = tokenizer, text_features, concepts
        self.tokens: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, samples: list[Sample]) -> dict:
        """Collate samples to a batch."""
        pairs = [(image, phrase) for image, sample in enumerate(samples) for phrase in sample.phrases]
        distill = [(image, phrase) for image, sample in enumerate(samples) for phrase in sample.distill_phrases]
        texts = list(dict.fromkeys(phrase.text for _, phrase in (*pairs, *distill)))
        # A batch without phrases still runs the text encoder, on a placeholder.
        encoded, indices = texts or [PLACEHOLDER], {}
        if self.concepts is not None:
            indices = {"concept_index": [self.concepts.index_of(text) for text in encoded]}
            encoded = [self.concepts.text_of(text) for text in encoded]
        tokens = self._tokenize(encoded)
        boxes, box_labels = padding_exemplars(len(pairs))
        for row, (_, phrase) in enumerate(pairs):
            if phrase.exemplar_cxcywh is not None:
                boxes[row, 0] = torch.tensor(phrase.exemplar_cxcywh)
                box_labels[row, 0] = 1
        return {
            **_vision(samples),
            **self._text(encoded),
            **indices,
            **_build_distillation_pairs(distill, texts),
            "input_ids": torch.stack([ids for ids, _ in tokens]),
            "attention_mask": torch.stack([mask for _, mask in tokens]),
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
                    "masks": pack_masks(sample.masks),
                    "has_mask": sample.has_mask,
                    "ignore": pack_masks(sample.ignore),
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
                f"`cache_text`: there are no precomputed features of {unknown[0]!r}, which was not among the phrases "
                "of the data set. Set `cache_text: false`"
            )
        return {"text_features": torch.stack([self.text_features[text] for text in texts])}

    def _tokenize(self, texts: list[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the token ids and the attention mask of each text, which are reused in later batches."""
        if len(self.tokens) > MAX_TOKENIZED:
            self.tokens.clear()
        new = [text for text in texts if text not in self.tokens]
        if new:
            warn_long_phrases(self.tokenizer, new)
            tokens = tokenize_phrases(self.tokenizer, new)
            self.tokens.update(zip(new, zip(tokens["input_ids"], tokens["attention_mask"], strict=True), strict=True))
        return [self.tokens[text] for text in texts]


class Sam2Collator:
    """
    Collator for [`Sam2ForPromptSegmentation.forward`].

    Examples:
        Two images, one with three objects prompted by a box and one with two objects prompted by a click, give:

        - `pixel_values (2, 3, R, R)`, uint8; with precomputed features of the frozen image encoder, `vision_features
          (2, L)` instead.
        - `prompts` ([`ObjectPrompts`]) of five objects, with `points (5, 2, 2)`.
        - `labels`, one dict per image: `masks (N, R, R / 8)` as in [`pack_masks`], `example_id`, `original_size`,
          `instances` (indices in the row), and `truth`, which evaluations use.
        - `box_prompts`, in evaluations alone.
    """

    def __call__(self, samples: list[ObjectSample]) -> dict:
        """Collate samples to a batch."""
        names = ("example_id", "original_size", "instances", "truth")
        boxes = [sample.box_prompts for sample in samples if sample.box_prompts is not None]
        return {
            **_vision(samples),
            **({"box_prompts": collate_prompts(boxes)} if boxes else {}),
            "prompts": collate_prompts([sample.prompts for sample in samples if sample.prompts is not None]),
            "labels": [
                {"masks": pack_masks(sample.masks), **{name: getattr(sample, name) for name in names}}
                for sample in samples
            ],
        }


def _build_distillation_pairs(pairs: list, texts: list[str]) -> dict:
    if not pairs:
        return {}
    return {
        "distill_image": [image for image, _ in pairs],
        "distill_phrase": [texts.index(phrase.text) for _, phrase in pairs],
        "distill_token": torch.tensor([phrase.geometry_token for _, phrase in pairs], dtype=torch.bool),
    }


def _vision(samples: Sequence[ImageSample]) -> dict[str, torch.Tensor]:
    name, values = "pixel_values", [sample.image for sample in samples if sample.image is not None]
    if samples[0].features is not None:
        name, values = "vision_features", [sample.features for sample in samples if sample.features is not None]
    return {name: torch.stack(values) if len(values) > 1 else values[0][None]}  # a single image is not copied


def tokenize_phrases(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> BatchEncoding:
    """
    Tokenize phrases for SAM 3, padded and truncated to 32 tokens.

    Args:
        tokenizer (`CLIPTokenizer`): Tokenizer of the processor of the model.
        texts (`list[str]`): The T phrases.

    Returns:
        `BatchEncoding`: `input_ids` and `attention_mask`, both tensors of shape `(T, 32)`.
    """
    return tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")


def warn_long_phrases(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[str]:
    """
    Log a warning about phrases that exceed the 32 tokens of SAM 3.

    Args:
        tokenizer (`CLIPTokenizer`): Tokenizer of the processor of the model.
        texts (`list[str]`): Phrases to check.

    Returns:
        `list[str]`: The phrases that are truncated.
    """
    if not texts:
        return []
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    long = [text for text, length in zip(texts, lengths, strict=True) if length > TEXT_LENGTH]
    if long:
        logger.warning(
            "%d phrase(s) are longer than %d tokens and are truncated: %s. Shorten them with `phrase_map`.",
            len(long),
            TEXT_LENGTH,
            ", ".join(map(repr, long[:10])),
        )
    return long
