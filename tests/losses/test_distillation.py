"""The distillation loss against closed forms."""

import math

import pytest
import torch

from sam_ft.losses.distillation import (
    BOX,
    DICE,
    GIOU,
    MASK,
    PRESENCE,
    SCORE,
    SoftAnswers,
    distillation_loss,
    held_queries,
)


def answers(presence=2.0, logit=3.0, box=(0.5, 0.5, 0.2, 0.2), mask=4.0) -> SoftAnswers:
    """One pair, two queries of which the second says nothing."""
    logits = torch.tensor([[logit, -20.0]])
    presence = torch.tensor([presence])
    rows = held_queries(presence, logits)
    masks = torch.full((len(rows[0]), 2, 2), float(mask))
    return SoftAnswers(presence, logits, torch.tensor([[box, box]]), rows, masks)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def kl(student, teacher):
    p, q = sigmoid(teacher), sigmoid(student)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_the_same_answers_cost_nothing_and_pull_nowhere():
    student = answers()
    for name in ("presence", "logits", "masks"):
        setattr(student, name, getattr(student, name).clone().requires_grad_())
    loss = distillation_loss(student, answers())
    assert float(loss) == pytest.approx(0, abs=1e-5)
    loss.backward()
    for name in ("presence", "logits", "masks"):
        assert float(getattr(student, name).grad.abs().max()) < 1e-5


def test_presence_scores_boxes_and_masks_by_hand():
    score = sigmoid(3.0) * sigmoid(2.0)
    assert float(distillation_loss(answers(presence=0.0), answers())) == pytest.approx(
        PRESENCE * kl(0.0, 2.0), rel=1e-5
    )
    expected = SCORE * sigmoid(2.0) * kl(1.0, 3.0)
    assert float(distillation_loss(answers(logit=1.0), answers())) == pytest.approx(expected, rel=1e-5)
    # a box beside the teacher's of the same size, touching it: L1 0.2, GIoU 0
    beside = answers(box=(0.7, 0.5, 0.2, 0.2))
    assert float(distillation_loss(beside, answers())) == pytest.approx(score * (BOX * 0.2 + GIOU), rel=1e-4)
    s, t = sigmoid(1.0), sigmoid(4.0)
    expected = score * (MASK * kl(1.0, 4.0) + DICE * (1 - 2 * s * t / (s * s + t * t)))
    assert float(distillation_loss(answers(mask=1.0), answers())) == pytest.approx(expected, rel=1e-4)


def test_what_the_teacher_does_not_see_has_no_box_to_hold():
    absent = answers(presence=-3.0)
    assert len(absent.rows[0]) == 0
    moved = answers(presence=-3.0, box=(0.1, 0.1, 0.05, 0.05))
    assert float(distillation_loss(moved, absent)) == pytest.approx(0, abs=1e-5)
