"""Keys of the loss."""

import dataclasses
from dataclasses import dataclass

from ..data.phrases.probe_phrases import TAUGHT
from ..data.phrases.vocabulary import normalize_phrase
from ..losses.matcher import HungarianMatcher, OneToManyMatcher
from ..losses.sam3 import LossWeights, Sam3Criterion
from .base import arg, check_ranges, take


@dataclass
class LossArguments:
    """Weights and constants of the SAM 3 loss and its distillation term; the defaults are the official ones."""

    loss_box: float = arg(5.0, "Weight of the L1 loss of matched boxes, at least 0.")
    loss_giou: float = arg(2.0, "Weight of the generalised IoU loss of matched boxes, at least 0.")
    loss_classification: float = arg(20.0, "Weight of the classification loss of the query scores, at least 0.")
    loss_presence: float = arg(
        20.0, "Weight of the presence loss (whether the phrase occurs in the image), at least 0."
    )
    loss_mask: float = arg(200.0, "Weight of the focal loss of matched masks, at least 0.")
    loss_dice: float = arg(10.0, "Weight of the dice loss of matched masks, at least 0.")
    loss_semantic: float = arg(
        20.0, "Weight of the focal loss of the semantic mask (the union of all instances), at least 0."
    )
    loss_semantic_dice: float = arg(
        30.0, "Weight of the dice loss of the semantic mask (the union of all instances), at least 0."
    )
    loss_one_to_many: float = arg(
        2.0, "Weight of the losses of the one-to-many queries relative to the one-to-one queries, at least 0."
    )
    loss_positive: float = arg(
        10.0, "Weight of matched queries relative to unmatched ones in the classification loss, at least 0."
    )
    loss_presence_alpha: float = arg(
        0.5, "Factor alpha of the presence loss, 0 to 1; it multiplies both classes, as in the official code."
    )
    loss_score_alpha: float = arg(
        0.25, "Exponent a of the score in the classification target score^a · IoU^(1−a), 0 to 1."
    )
    loss_mask_alpha: float = arg(0.25, "Weight of the target's pixels in the focal loss of masks, 0 to 1.")
    loss_semantic_alpha: float = arg(
        0.6, "Weight of the target's pixels in the focal loss of the semantic mask, 0 to 1."
    )
    match_class: float = arg(2.0, "Matching cost of the score, at least 0.")
    match_box: float = arg(5.0, "Matching cost of the L1 distance of boxes, at least 0.")
    match_giou: float = arg(2.0, "Matching cost of the generalised IoU of boxes, at least 0.")
    one_to_many_topk: int = arg(
        4, "Maximum number of one-to-many queries that are assigned to an instance, at least 1."
    )
    one_to_many_threshold: float = arg(0.4, "Minimum matching score of a one-to-many query, 0 to 1.")
    one_to_many_alpha: float = arg(
        0.3,
        "Share of the query's score in the matching score of one-to-many queries, 0 to 1; the remainder is the share "
        "of the IoU.",
    )
    masks_per_block: int = arg(
        8,
        "Number of full-size masks whose loss is computed at once, at least 1. It changes speed and memory, but no "
        "result.",
    )
    mask_points: int | None = arg(
        None, "Number of sampled points per mask in the mask losses (PointRend), at least 1. Default: all pixels."
    )
    ignore_overlap: float = arg(
        0.5,
        "Minimum fraction of a query's box inside a crowd region, 0 to 1, from which on an unmatched query is ignored "
        "by the loss.",
    )
    scale_by_sqrt_pairs: bool = arg(
        False, "Multiply the loss by the square root of the batch's (image, phrase) pairs, as in the official code."
    )

    distill_weight: float = arg(
        0.0,
        "Weight of the self-distillation from the initial model on `distill_phrases`, which are unlabelled: 0 "
        "switches it off, 1 weights it like the labels. With `lora` the teacher is the model with adapters disabled, "
        "else a frozen copy of the trained parts.",
    )
    distill_phrases: list[str] = arg(
        [], "Phrases of the self-distillation; needs `distill_weight` above 0. Default: twenty common nouns."
    )
    distill_per_image: int = arg(
        2, "Number of `distill_phrases` per image and step in the self-distillation, at least 1."
    )

    def __post_init__(self):
        check_ranges(self)
        if self.distill_phrases and not self.distill_weight:
            raise ValueError(
                "`distill_phrases` are set, but `distill_weight` is 0, for which they have no effect. Set "
                "`distill_weight` above 0, or leave `distill_phrases` out"
            )

    def soft_phrases(self) -> list[str]:
        """Return the normalized phrases of the self-distillation; an empty list without it."""
        return [normalize_phrase(text) for text in self.distill_phrases or TAUGHT] if self.distill_weight else []

    def criterion(self) -> Sam3Criterion:
        """Build the SAM 3 criterion with its matchers."""
        names = [f.name for f in dataclasses.fields(LossWeights)]
        return take(
            Sam3Criterion,
            self,
            weights=LossWeights(**{name: getattr(self, f"loss_{name}") for name in names}),
            hungarian=HungarianMatcher(self.match_class, self.match_box, self.match_giou),
            one_to_many=OneToManyMatcher(self.one_to_many_alpha, self.one_to_many_threshold, self.one_to_many_topk),
        )
