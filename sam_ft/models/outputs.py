"""What the training forwards give back: a loss, or predictions one (image, phrase) pair or one object at a time."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


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
