"""Batch of SAM 3: images, phrases, (image, phrase) pairs and their labels."""

from dataclasses import dataclass

import torch

from ...losses.structures import Normalizers
from .pairs import PairLabels, Pairs


_ENCODER_KEYS = (
    "pixel_values", "vision_features", "input_ids", "attention_mask", "text_features", "concept_index",
    "reference_tokens", "reference_mask",
)  # fmt: skip
_PAIR_KEYS = ("pair_image", "pair_phrase", "input_boxes", "input_boxes_labels", "geometry_token")
_LABEL_KEYS = ("labels", "pair_instances", "pair_ignore", "pair_exhaustive", "normalizers")
_DISTILLATION_KEYS = ("distill_image", "distill_phrase", "distill_token")
_KEYS = {*_ENCODER_KEYS, *_PAIR_KEYS, *_LABEL_KEYS, *_DISTILLATION_KEYS}


@dataclass
class ConceptBatch:
    """
    Batch of I images, T distinct phrases, P (image, phrase) pairs and S distillation pairs.

    Attributes:
        pixel_values (`torch.Tensor` of shape `(I, 3, H, W)`, *optional*): uint8 in 0…255, or normalised floats.
        vision_features (`torch.Tensor` of shape `(I, h, w, C)`, *optional*): Precomputed ViT features of
            [`Sam3ForConceptSegmentation.encode_images`], instead of `pixel_values`.
        input_ids (`torch.Tensor` of shape `(T, 32)`): Tokens of the phrases.
        attention_mask (`torch.Tensor` of shape `(T, 32)`): 1 for a token, 0 for padding.
        text_features (`torch.Tensor` of shape `(T, 32, C)`, *optional*): Precomputed text features of
            [`Sam3ForConceptSegmentation.encode_texts`]; `input_ids` is then not read.
        concept_index (`list[int]` of length T, *optional*): Index of the concept of each phrase, see
            [`ConceptTokens`]; -1 for a phrase without one.
        reference_tokens (`torch.Tensor` of shape `(T, M, C)`, *optional*): Tokens of exemplars in other images, see
            [`Sam3ForConceptSegmentation.encode_exemplars`], that are added to the prompt of each phrase.
        reference_mask (`torch.Tensor` of shape `(T, M)`, bool, *optional*): `True` for valid reference tokens.
        pairs (`Pairs`): The pairs and their exemplar boxes.
        labels (`PairLabels`, *optional*): Ground truth of the pairs.
        distillation_pairs (`Pairs`, *optional*): Pairs for which a teacher predicts the targets.
        normalizers (`Normalizers`, *optional*): Divisors of the loss terms; `None` without labels.
    """

    pixel_values: torch.Tensor | None
    vision_features: torch.Tensor | None
    input_ids: torch.Tensor | None
    attention_mask: torch.Tensor
    text_features: torch.Tensor | None
    concept_index: list[int] | None
    reference_tokens: torch.Tensor | None
    reference_mask: torch.Tensor | None
    pairs: Pairs
    labels: PairLabels | None = None
    distillation_pairs: Pairs | None = None
    normalizers: Normalizers | None = None

    @classmethod
    def from_inputs(cls, inputs: dict) -> "ConceptBatch":
        """
        Build a batch from the dictionary of [`Sam3Collator`].

        Accelerate and DistributedDataParallel move a dictionary of tensors and lists to the device, but not this
        class.

        Args:
            inputs (`dict`): Fields of this class by name, and:

                - `pair_image`, `pair_phrase`, `input_boxes`, `input_boxes_labels` and, optionally, `geometry_token`:
                  fields of [`Pairs`]. By default all pairs have the geometry token, as in the official model.
                - `labels`, `pair_instances`, `pair_ignore`, `pair_exhaustive` (*optional*): fields of [`PairLabels`].
                - `normalizers` (`torch.Tensor` of shape `(3,)` or `(4,)`, *optional*): Numbers of instances, pairs,
                  pairs with a semantic map, and distillation pairs. Default: counts of this batch.
                - `distill_image`, `distill_phrase`, `distill_token` (*optional*): image, phrase and geometry token of
                  each distillation pair.

        Raises:
            `KeyError`: If a required key is missing.
            `TypeError`: If there is another key.
        """
        unknown = inputs.keys() - _KEYS
        if unknown:
            raise TypeError(f"a batch of SAM 3 has no {sorted(unknown)[0]!r}; its keys are {', '.join(sorted(_KEYS))}")
        image, phrase, boxes, box_labels = (inputs[name] for name in _PAIR_KEYS[:-1])
        token = inputs.get("geometry_token")
        if token is None:
            token = torch.ones(len(image), dtype=torch.bool, device=boxes.device)
        encoder_inputs = {name: inputs.get(name) for name in _ENCODER_KEYS}
        batch = cls(pairs=Pairs(image, phrase, boxes, box_labels, token), **encoder_inputs)
        if inputs.get("distill_image"):
            batch.distillation_pairs = Pairs.of_text(*(inputs[name] for name in _DISTILLATION_KEYS))
        if inputs.get("labels") is not None:
            fields = inputs["pair_instances"], inputs.get("pair_ignore"), inputs["pair_exhaustive"]
            batch.labels = PairLabels(inputs["labels"], batch.pairs, *fields)
            batch.normalizers = batch._normalizers(batch.labels, inputs.get("normalizers"))
        return batch

    def require_labels(self) -> tuple[PairLabels, Normalizers]:
        """
        Return the labels and the normalizers of a loss.

        Raises:
            ValueError: If the batch has no labels.
        """
        if self.labels is None or self.normalizers is None:
            raise ValueError(
                "`labels` is missing, so there is no loss. Pass the labels, or "
                "`step=ConceptPredictionStep(limits, collect)`"
            )
        return self.labels, self.normalizers

    def _normalizers(self, labels: PairLabels, counts: torch.Tensor | None) -> Normalizers:
        if counts is not None:
            return Normalizers(*counts)
        num_distillation_pairs = 0 if self.distillation_pairs is None else len(self.distillation_pairs.image)
        return labels.count_normalizers(num_distillation_pairs)
