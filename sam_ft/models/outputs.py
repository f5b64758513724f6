"""What the training forwards give back: a loss, or predictions one (image, phrase) pair or one object at a time."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .finite import NonFiniteOutputError


@dataclass
class ConceptLossOutput(ModelOutput):
    """
    Attributes:
        loss (`torch.Tensor`, scalar): the weighted loss of the batch; `None` without labels.
        parts (`dict[str, torch.Tensor]`): its parts without gradient; names as in [`Sam3Criterion`] or [`Sam2Criterion`].
    """

    loss: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] | None = None


@dataclass
class Keep:
    """Which queries an evaluation keeps: at most `max_detections` a pair, of at least `score_threshold`."""

    score_threshold: float = 0.05
    max_detections: int = 100


def select_queries(
    presence: torch.Tensor, scores: torch.Tensor, boxes: torch.Tensor, keep: Keep, pairs: list[int]
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """
    Select the queries that an evaluation keeps. Reads the device once.

    Args:
        presence (`torch.Tensor` of shape `(num_pairs,)`): Probability that the phrase is in the image.
        scores (`torch.Tensor` of shape `(num_pairs, num_queries)`): A query's probability times presence.
        boxes (`torch.Tensor` of shape `(num_pairs, num_queries, 4)`): Only checked.
        keep (`Keep`): Threshold and number of detections.
        pairs (`list[int]`): Indices of the pairs in the batch, for errors.

    Returns:
        `tuple[torch.Tensor, torch.Tensor, list[int]]`: Scores and queries, best first, of shape
        `(num_pairs, max_detections)`; how many of each pair's are kept.

    Raises:
        `NonFiniteOutputError`: If presence, or the scores or boxes of any query, contain NaN or infinity. The
            threshold would drop a NaN score, and the result would look like "no detection".
    """
    values, order = scores.topk(min(keep.max_detections, scores.shape[1]), dim=1)
    counts = (values >= keep.score_threshold).sum(1)
    finite = [boxes.isfinite().flatten(1).all(1), presence.isfinite(), scores.isfinite().all(1)]
    counts, *finite = torch.stack([counts, *(flags.long() for flags in finite)]).tolist()
    for name, flags in zip(("boxes", "presence", "scores"), finite, strict=True):
        if not all(flags):
            raise NonFiniteOutputError(name, pairs[flags.index(0)])
    return values, order, counts


@dataclass
class PairPrediction:
    """
    What one (image, phrase) pair predicts, best first.

    Attributes:
        pair (`int`): the pair's index in the batch.
        presence (`torch.Tensor`, scalar): probability that the phrase is in the image.
        scores (`torch.Tensor` of shape `(num_kept,)`): a query's probability times presence.
        boxes_xyxy (`torch.Tensor` of shape `(num_kept, 4)`): in `[0, 1]`.
        masks (`torch.Tensor` of shape `(num_kept, h, w)` or `None`): logits, four to a ViT patch's side.
    """

    pair: int
    presence: torch.Tensor
    scores: torch.Tensor
    boxes_xyxy: torch.Tensor
    masks: torch.Tensor | None


@dataclass
class ObjectPrediction:
    """
    What the rounds of prompts of one object give.

    Attributes:
        object (`int`): its index in the batch.
        masks (`torch.Tensor` of shape `(rounds, h, w)`): logits of each round's mask of the highest predicted IoU.
        ious (`torch.Tensor` of shape `(rounds,)`): predicted.
        candidates (`torch.Tensor` of shape `(M, h, w)`): logits of all masks of the first round.
        points (`torch.Tensor` of shape `(k, 2)`), labels (`torch.Tensor` of shape `(k,)`): all that the last round was shown.
        box_mask (`torch.Tensor` of shape `(h, w)`, *optional*), box_iou (`torch.Tensor`, scalar): with a box for a prompt.
    """

    object: int
    masks: torch.Tensor
    ious: torch.Tensor
    candidates: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    box_mask: torch.Tensor | None = None
    box_iou: torch.Tensor | None = None
