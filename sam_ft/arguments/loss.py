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
    """Weights of the loss; the defaults are the official ones. See the README for what each part does."""

    loss_box: float = arg(5.0, "L1 distance of matched boxes.")
    loss_giou: float = arg(2.0, "Generalised IoU of matched boxes.")
    loss_classification: float = arg(20.0, "Scores of queries.")
    loss_presence: float = arg(20.0, "Is the phrase in the image at all.")
    loss_mask: float = arg(200.0, "Focal loss of matched masks.")
    loss_dice: float = arg(10.0, "Dice of matched masks.")
    loss_semantic: float = arg(20.0, "Focal loss of the union of all instances.")
    loss_semantic_dice: float = arg(30.0, "Dice of that union.")
    loss_one_to_many: float = arg(2.0, "The second set of queries, against the first.")
    loss_positive: float = arg(10.0, "Matched queries against unmatched ones within the score loss.")
    loss_presence_alpha: float = arg(0.5, "Factor of the presence loss in the official focal form.")
    loss_score_alpha: float = arg(0.25, "Exponent of the score in the soft target score^a · IoU^(1−a).")
    loss_mask_alpha: float = arg(0.25, "Weight of the target's pixels in the mask focal loss.")
    loss_semantic_alpha: float = arg(0.6, "Weight of the target's pixels in the semantic focal loss.")
    match_class: float = arg(2.0, "Matching cost of the score.")
    match_box: float = arg(5.0, "Matching cost of the L1 distance.")
    match_giou: float = arg(2.0, "Matching cost of the generalised IoU.")
    one_to_many_topk: int = arg(4, "Queries an instance may have among the second set.")
    one_to_many_threshold: float = arg(0.4, "Lowest matching score of those.")
    one_to_many_alpha: float = arg(0.3, "Share of the query's score in that matching score; the rest is IoU.")
    masks_per_block: int = arg(8, "Full-size mask rows in memory at once. Changes speed and memory, no result.")
    mask_points: int | None = arg(None, "Points sampled a mask (PointRend) instead of all pixels.")
    ignore_overlap: float = arg(0.5, "A query that lies in a crowd region with this share of its box is left alone.")
    scale_by_sqrt_pairs: bool = arg(False, "Multiply the loss by the root of a batch's pairs, as the official code.")

    distill_weight: float = arg(
        0.0,
        "Hold the model to what it said before it was tuned of `distill_phrases`, which nobody has labelled: 0 not at all, 1 as much as "
        "labels. With `lora` the base is the model with its adapters silent, else the trained parts are copied once.",
    )
    distill_phrases: list[str] = arg([], "Those phrases. Default: twenty common nouns.")
    distill_per_image: int = arg(2, "How many of them each image is asked in a step.")

    def __post_init__(self):
        check_ranges(self)
        if self.distill_phrases and not self.distill_weight:
            raise ValueError("`distill_phrases` are given, but `distill_weight` is 0, so that none would be asked")

    def soft_phrases(self) -> list[str]:
        """What is asked of the teacher."""
        return [normalize_phrase(text) for text in self.distill_phrases or TAUGHT] if self.distill_weight else []

    def criterion(self) -> Sam3Criterion:
        names = [f.name for f in dataclasses.fields(LossWeights)]
        return take(
            Sam3Criterion,
            self,
            weights=LossWeights(**{name: getattr(self, f"loss_{name}") for name in names}),
            hungarian=HungarianMatcher(self.match_class, self.match_box, self.match_giou),
            one_to_many=OneToManyMatcher(self.one_to_many_alpha, self.one_to_many_threshold, self.one_to_many_topk),
        )
