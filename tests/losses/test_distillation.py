"""Distillation loss, compared with closed forms."""

import math

import pytest
import torch

from sam_ft.losses.distillation import (
    BOX_WEIGHT,
    DICE_WEIGHT,
    GIOU_WEIGHT,
    MASK_WEIGHT,
    PRESENCE_WEIGHT,
    SCORE_WEIGHT,
    DistillationOutputs,
    distillation_loss,
    select_distilled_queries,
)


def predictions(presence=2.0, logit=3.0, box=(0.5, 0.5, 0.2, 0.2), mask=4.0) -> DistillationOutputs:
    """Build predictions for one pair and two queries; the second query has a probability near 0."""
    logits = torch.tensor([[logit, -20.0]])
    presence = torch.tensor([presence])
    rows = select_distilled_queries(presence, logits)
    masks = torch.full((len(rows[0]), 2, 2), float(mask))
    return DistillationOutputs(presence, logits, torch.tensor([[box, box]]), rows, masks)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def kl(student, teacher):
    p, q = sigmoid(teacher), sigmoid(student)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_equal_predictions_have_zero_loss_and_gradient():
    student = predictions()
    for name in ("presence", "logits", "masks"):
        setattr(student, name, getattr(student, name).clone().requires_grad_())
    loss = distillation_loss(student, predictions())
    assert float(loss) == pytest.approx(0, abs=1e-5)
    loss.backward()
    for name in ("presence", "logits", "masks"):
        assert float(getattr(student, name).grad.abs().max()) < 1e-5


def test_each_term_equals_its_closed_form():
    score = sigmoid(3.0) * sigmoid(2.0)
    assert float(distillation_loss(predictions(presence=0.0), predictions())) == pytest.approx(
        PRESENCE_WEIGHT * kl(0.0, 2.0), rel=1e-5
    )
    expected = SCORE_WEIGHT * sigmoid(2.0) * kl(1.0, 3.0)
    assert float(distillation_loss(predictions(logit=1.0), predictions())) == pytest.approx(expected, rel=1e-5)
    # The box has the teacher's size and touches its box: L1 0.2, GIoU 0.
    beside = predictions(box=(0.7, 0.5, 0.2, 0.2))
    assert float(distillation_loss(beside, predictions())) == pytest.approx(
        score * (BOX_WEIGHT * 0.2 + GIOU_WEIGHT), rel=1e-4
    )
    s, t = sigmoid(1.0), sigmoid(4.0)
    expected = score * (MASK_WEIGHT * kl(1.0, 4.0) + DICE_WEIGHT * (1 - 2 * s * t / (s * s + t * t)))
    assert float(distillation_loss(predictions(mask=1.0), predictions())) == pytest.approx(expected, rel=1e-4)


def test_absent_phrases_have_no_box_term():
    absent = predictions(presence=-3.0)
    assert len(absent.rows[0]) == 0
    moved = predictions(presence=-3.0, box=(0.1, 0.1, 0.05, 0.05))
    assert float(distillation_loss(moved, absent)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("without", ["student", "teacher"])
def test_boxes_are_distilled_without_masks(without):
    student, teacher = predictions(box=(0.7, 0.5, 0.2, 0.2), mask=1.0), predictions()
    (student if without == "student" else teacher).masks = None
    score = sigmoid(3.0) * sigmoid(2.0)
    assert float(distillation_loss(student, teacher)) == pytest.approx(
        score * (BOX_WEIGHT * 0.2 + GIOU_WEIGHT), rel=1e-4
    )


def test_at_most_16_queries_with_the_threshold_included(monkeypatch):
    monkeypatch.setattr("sam_ft.losses.distillation.SCORE_THRESHOLD", 0.5)
    logits = torch.full((2, 20), -1.0)
    logits[0, 3:] = 0.0  # 17 scores of exactly 0.5
    pair, query = select_distilled_queries(torch.tensor([100.0, 100.0]), logits)
    assert pair.tolist() == [0] * 16
    assert len(set(query.tolist()) & set(range(3, 20))) == 16
