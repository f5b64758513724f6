"""Keys of the losses."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key, key_of
from ..options.loss import (
    ConceptLossOptions,
    LossWeights,
    MatchingCosts,
    OneToManyScores,
    PromptLossOptions,
    PromptLossWeights,
)
from ..options.phrases import PhraseOptions
from .base import Keys, with_keys_of


@with_keys_of(LossWeights, MatchingCosts, OneToManyScores, ConceptLossOptions)
class ConceptLossArguments(Keys):
    """Weights and constants of the SAM 3 loss; the defaults are the official ones."""

    key_topic: ClassVar[str] = "Loss"


@dataclass
class LossArguments(ConceptLossArguments):
    """Weights and constants of the SAM 3 loss and its distillation term."""

    distill_weight: float = key(
        0.0,
        "Weight of the self-distillation from the initial model on `distill_phrases`, which are unlabelled: 0 "
        "switches it off, 1 weights it like the labels. With `lora` the teacher is the model with adapters disabled, "
        "else a frozen copy of the trained parts.",
        low=0,
    )
    distill_phrases: list[str] = key(
        [], "Phrases of the self-distillation; needs `distill_weight` above 0. Default: twenty common nouns."
    )
    distill_per_image: int = key_of(PhraseOptions, "distill_per_image")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distill_phrases and not self.distill_weight:
            raise ValueError(
                "`distill_phrases` are set, but `distill_weight` is 0, for which they have no effect. Set "
                "`distill_weight` above 0, or leave `distill_phrases` out"
            )


@with_keys_of(PromptLossWeights, PromptLossOptions)
class Sam2LossArguments(Keys):
    """Weights and constants of the SAM 2 loss; the defaults are the official ones."""

    key_topic: ClassVar[str] = "Loss"

    gate_absent: bool = key(
        False,
        "Set the mask logits of objects that the model predicts as absent to -1024, as in the official training; such "
        "masks get no gradient. Transformers and the official image predictor do not do this.",
    )
