"""Self-distillation from the frozen initial model."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..ops.boxes import paired_box_overlap


# The weights are those of the same terms in `sam3.py`. The mask term is a mean over pixels instead of a focal sum.
PRESENCE_WEIGHT, SCORE_WEIGHT, BOX_WEIGHT, GIOU_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 10.0, 20.0, 5.0, 2.0, 20.0, 10.0
SCORE_THRESHOLD = 0.3  # lowest score of a query whose box and mask are distilled
MAX_QUERIES = 16  # queries per pair whose boxes and masks are distilled


@dataclass
class DistillationOutputs:
    """
    Predictions of a student or a teacher for P (image, phrase) pairs.

    Attributes:
        presence (`torch.Tensor` of shape `(P,)`): Presence logits of the phrases.
        logits (`torch.Tensor` of shape `(P, Q)`): Logits of the queries.
        boxes (`torch.Tensor` of shape `(P, Q, 4)`): Normalised `(cx, cy, w, h)`.
        rows (`tuple[torch.Tensor, torch.Tensor]`): Pair and query, each `(R,)`, of the queries whose boxes and masks
            are distilled.
        masks (`torch.Tensor` of shape `(R, h, w)` or `None`): Mask logits of these queries.
    """

    presence: torch.Tensor
    logits: torch.Tensor
    boxes: torch.Tensor
    rows: tuple[torch.Tensor, torch.Tensor]
    masks: torch.Tensor | None


def select_distilled_queries(presence: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Select the queries whose boxes and masks are distilled: the best 16 per pair with a score of at least 0.3.

    Args:
        presence (`torch.Tensor` of shape `(P,)`): Presence logits of the teacher.
        logits (`torch.Tensor` of shape `(P, Q)`): Query logits of the teacher.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Pair and query, each `(R,)`. A score is the query's probability times
        the phrase's.
    """
    scores = logits.float().sigmoid() * presence.float().sigmoid()[:, None]
    values, queries = scores.topk(min(MAX_QUERIES, scores.shape[1]), dim=1)
    pair, rank = torch.nonzero(values >= SCORE_THRESHOLD, as_tuple=True)
    return pair, queries[pair, rank]


def distillation_loss(student: DistillationOutputs, teacher: DistillationOutputs) -> torch.Tensor:
    """
    Compute the distance of a student from its teacher, query by query.

    Both start as the same model, so that equal query indices correspond. Presence and scores are compared by the
    Kullback-Leibler divergence of two Bernoulli distributions, scores weighted by the teacher's presence. The
    teacher's detections also supervise boxes (L1, GIoU) and masks (divergence per pixel, Dice of probabilities),
    weighted by their scores.

    Args:
        student (`DistillationOutputs`): Predictions of the trained model.
        teacher (`DistillationOutputs`): Predictions of the initial model, without gradient.

    Returns:
        `torch.Tensor`: A scalar, the sum over pairs; 0, with a gradient of 0, where both predictions are equal.

    Source:
        Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """
    presence = teacher.presence.float().sigmoid()
    loss = PRESENCE_WEIGHT * _divergence(student.presence, teacher.presence).sum()
    loss = loss + SCORE_WEIGHT * (presence[:, None] * _divergence(student.logits, teacher.logits)).sum()
    pair, query = teacher.rows
    if not len(pair):
        return loss
    weights = teacher.logits[pair, query].float().sigmoid() * presence[pair]
    student_boxes, teacher_boxes = student.boxes[pair, query].float(), teacher.boxes[pair, query].float()
    _, giou = paired_box_overlap(student_boxes, teacher_boxes)
    distance = (student_boxes - teacher_boxes).abs().sum(-1)
    loss = loss + (weights * (BOX_WEIGHT * distance + GIOU_WEIGHT * (1 - giou))).sum()
    if teacher.masks is None or student.masks is None:
        return loss
    divergence = _divergence(student.masks, teacher.masks).mean((-2, -1))
    student_masks, teacher_masks = student.masks.float().sigmoid(), teacher.masks.float().sigmoid()
    total = (student_masks.square() + teacher_masks.square()).sum((-2, -1))
    dice = 2 * (student_masks * teacher_masks).sum((-2, -1)) / (total + 1e-6)
    return loss + (weights * (MASK_WEIGHT * divergence + DICE_WEIGHT * (1 - dice))).sum()


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the elementwise `KL(teacher ‖ student)` of the Bernoulli distributions of two logits."""
    student, teacher = student.float(), teacher.float()
    probability = teacher.sigmoid()
    return F.binary_cross_entropy_with_logits(student, probability, reduction="none") - (
        F.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
    )
