"""Outputs of the training forwards: losses, and predictions of an (image, phrase) pair or an object."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from ..options.evaluation import DetectionLimits
from .finite import NonFiniteOutputError


@dataclass
class LossOutput(ModelOutput):
    """
    Loss of a batch.

    Attributes:
        loss (`torch.Tensor`, scalar, *optional*): Weighted loss of the batch; `None` without labels.
        parts (`dict[str, torch.Tensor]`, *optional*): Loss terms without gradient; names as in [`Sam3Criterion`] or
            [`Sam2Criterion`].
    """

    loss: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] | None = None


def select_queries(
    presence: torch.Tensor, scores: torch.Tensor, boxes: torch.Tensor, limits: DetectionLimits, pairs: list[int]
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """
    Select the queries of an evaluation. Reads from the device once.

    Args:
        presence (`torch.Tensor` of shape `(num_pairs,)`): Probability that the phrase is in the image.
        scores (`torch.Tensor` of shape `(num_pairs, num_queries)`): A query's probability times presence.
        boxes (`torch.Tensor` of shape `(num_pairs, num_queries, 4)`): Boxes, checked for NaN and infinity only.
        limits (`DetectionLimits`): Threshold and number of detections.
        pairs (`list[int]`): Indices of the pairs in the batch, for errors.

    Returns:
        `tuple[torch.Tensor, torch.Tensor, list[int]]`: Scores and queries, best first, of shape
        `(num_pairs, max_detections)`; number of selected queries of each pair.

    Raises:
        `NonFiniteOutputError`: If presence, or the scores or boxes of any query, contain NaN or infinity. The
            threshold would drop a NaN score, and the result would look like "no detection".
    """
    values, order = scores.topk(min(limits.max_detections, scores.shape[1]), dim=1)
    counts = (values >= limits.score_threshold).sum(1)
    finite = [boxes.isfinite().flatten(1).all(1), presence.isfinite(), scores.isfinite().all(1)]
    numbers, *of_parts = torch.stack([counts, *(flags.long() for flags in finite)]).tolist()
    for name, flags in zip(("boxes", "presence", "scores"), of_parts, strict=True):
        if not all(flags):
            raise NonFiniteOutputError(name, pairs[flags.index(0)])
    return values, order, numbers


@dataclass
class PairPrediction:
    """
    Predictions of one (image, phrase) pair, best first.

    Attributes:
        pair (`int`): Index of the pair in the batch.
        presence (`torch.Tensor`, scalar): Probability that the phrase is in the image.
        scores (`torch.Tensor` of shape `(num_selected,)`): A query's probability times presence.
        boxes_xyxy (`torch.Tensor` of shape `(num_selected, 4)`): Corners in `[0, 1]`.
        masks (`torch.Tensor` of shape `(num_selected, h, w)` or `None`): Logits, four along a ViT patch.
    """

    pair: int
    presence: torch.Tensor
    scores: torch.Tensor
    boxes_xyxy: torch.Tensor
    masks: torch.Tensor | None


@dataclass
class ObjectPrediction:
    """
    Predictions of the rounds of one object.

    Attributes:
        object (`int`): Index of the object in the batch.
        masks (`torch.Tensor` of shape `(rounds, h, w)`): Logits of the mask of the highest predicted IoU in each
            round.
        ious (`torch.Tensor` of shape `(rounds,)`): Predicted IoUs of `masks`.
        candidates (`torch.Tensor` of shape `(M, h, w)`): Logits of all masks of the first round.
        points (`torch.Tensor` of shape `(k, 2)`): Prompt points of the last round.
        labels (`torch.Tensor` of shape `(k,)`): Labels of `points`.
        box_mask (`torch.Tensor` of shape `(h, w)`, *optional*): Mask logits with a box as the prompt.
        box_iou (`torch.Tensor`, scalar, *optional*): Predicted IoU of `box_mask`.
    """

    object: int
    masks: torch.Tensor
    ious: torch.Tensor
    candidates: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    box_mask: torch.Tensor | None = None
    box_iou: torch.Tensor | None = None
