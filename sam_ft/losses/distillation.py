"""Staying as one was: a model's answers against those of the model that it started from."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..ops.boxes import paired_box_overlap


# as the losses of the same kind in `sam3.py`; masks by the mean over pixels, which is no focal sum
PRESENCE, SCORE, BOX, GIOU, MASK, DICE = 10.0, 20.0, 5.0, 2.0, 20.0, 10.0
KEPT = 0.3  # score from which on a query's box and mask are held
MOST = 16  # queries a pair whose boxes and masks are


@dataclass
class SoftAnswers:
    """
    What a model says of P (image, phrase) pairs.

    Attributes:
        presence (`torch.Tensor` of shape `(P,)`), logits (`torch.Tensor` of shape `(P, Q)`): of the phrase and of each query.
        boxes (`torch.Tensor` of shape `(P, Q, 4)`): normalised `(cx, cy, w, h)`.
        rows (`tuple[torch.Tensor, torch.Tensor]`): pair and query, each `(R,)`, of the queries that are held in place.
        masks (`torch.Tensor` of shape `(R, h, w)` or `None`): logits of those.
    """

    presence: torch.Tensor
    logits: torch.Tensor
    boxes: torch.Tensor
    rows: tuple[torch.Tensor, torch.Tensor]
    masks: torch.Tensor | None


def held_queries(presence: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair and query of the at most 16 best queries a pair whose score, query's times phrase's probability, is 0.3 or more."""
    scores = logits.float().sigmoid() * presence.float().sigmoid()[:, None]
    values, queries = scores.topk(min(MOST, scores.shape[1]), dim=1)
    pair, place = torch.nonzero(values >= KEPT, as_tuple=True)
    return pair, queries[pair, place]


def distillation_loss(student: SoftAnswers, teacher: SoftAnswers) -> torch.Tensor:
    """
    How far a student is from its teacher, query by query: both start as the same model, so that their queries mean the same.

    Presence and scores by the Kullback-Leibler divergence of yes and no (Hinton et al. 2015), scores by how present the teacher thinks the
    phrase; of the teacher's detections also boxes (L1, GIoU) and masks (divergence a pixel, and a Dice of probabilities), by its score.

    Returns:
        `torch.Tensor`: a scalar, the sum over pairs; 0, with a gradient of 0, where both say the same.
    """
    presence = teacher.presence.float().sigmoid()
    loss = PRESENCE * _divergence(student.presence, teacher.presence).sum()
    loss = loss + SCORE * (presence[:, None] * _divergence(student.logits, teacher.logits)).sum()
    pair, query = teacher.rows
    if not len(pair):
        return loss
    weights = teacher.logits[pair, query].float().sigmoid() * presence[pair]
    found, wanted = student.boxes[pair, query].float(), teacher.boxes[pair, query].float()
    _, giou = paired_box_overlap(found, wanted)
    loss = loss + (weights * (BOX * (found - wanted).abs().sum(-1) + GIOU * (1 - giou))).sum()
    if teacher.masks is None or student.masks is None:
        return loss
    apart = _divergence(student.masks, teacher.masks).mean((-2, -1))
    said, known = student.masks.float().sigmoid(), teacher.masks.float().sigmoid()
    shared = 2 * (said * known).sum((-2, -1)) / ((said.square() + known.square()).sum((-2, -1)) + 1e-6)
    return loss + (weights * (MASK * apart + DICE * (1 - shared))).sum()


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """`KL(teacher ‖ student)` of two logits, elementwise."""
    student, teacher = student.float(), teacher.float()
    probability = teacher.sigmoid()
    return F.binary_cross_entropy_with_logits(student, probability, reduction="none") - (
        F.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
    )
