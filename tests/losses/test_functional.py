import math

import pytest
import torch

from sam_ft.losses import resized_masks
from sam_ft.losses.functional import focal_dice_rows, resize_logits, sample_rows


def plain(logits, target, alpha):
    """Compute the formulas of Lin et al. 2017 and Milletari et al. 2016 with autograd."""
    y, p = target.to(logits.dtype), logits.sigmoid()
    p_t, a_t = p * y + (1 - p) * (1 - y), alpha * y + (1 - alpha) * (1 - y)
    ce = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    focal = (a_t * ce * (1 - p_t) ** 2).flatten(1).mean(1)
    dice = 1 - (2 * (p * y).flatten(1).sum(1) + 1) / (p.flatten(1).sum(1) + y.flatten(1).sum(1) + 1)
    return focal, dice


def test_values_and_gradients_equal_the_formula():
    for alpha in (0.25, 0.6):
        logits = (8 * torch.randn(5, 9, 7, dtype=torch.float64)).requires_grad_()
        target = torch.rand(5, 9, 7) > 0.7
        target[0] = False
        weights = torch.randn(2, 5, dtype=torch.float64)
        results = []
        for function in (lambda x: focal_dice_rows(x, target, alpha=alpha), lambda x: plain(x, target, alpha)):  # noqa: B023
            focal, dice = function(logits)
            loss = (weights[0] * focal + weights[1] * dice).sum()
            results.append((focal, dice, torch.autograd.grad(loss, logits)[0]))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)  # alpha is stored in float32


def test_extreme_logits_give_finite_losses():
    logits = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    focal, dice = focal_dice_rows(logits, torch.tensor([[True, False, True]]), alpha=0.25)
    (focal + dice).sum().backward()
    assert torch.isfinite(focal).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("size", "target_size"), [((9, 11), (150, 70)), ((8, 8), (8, 8)), ((70, 30), (33, 41))])
def test_strips_equal_the_resized_rows(size, target_size):
    logits = (20 * torch.randn(3, *size)).requires_grad_()
    logits.data[1] *= 10  # exp overflows
    target = torch.rand(3, *target_size) > 0.7
    target[2] = False
    weights, results = torch.randn(2, 3), []
    for focal, dice in (
        resized_masks.resized_focal_dice_rows(logits, target, alpha=0.25),
        focal_dice_rows(resize_logits(logits, *target_size), target, alpha=0.25),
    ):
        loss = (weights[0] * focal + weights[1] * dice).sum()
        results.append((focal, dice, *torch.autograd.grad(loss, logits)))
    for strips, rows in zip(*results, strict=True):
        torch.testing.assert_close(strips, rows, rtol=1e-5, atol=1e-6)


def test_strips_without_rows_or_gradient():
    target = torch.rand(2, 150, 70) > 0.5
    focal, dice = resized_masks.resized_focal_dice_rows(torch.zeros(2, 9, 7), target, alpha=0.5)
    assert not focal.requires_grad
    torch.testing.assert_close(focal, torch.full((2,), 0.125 * math.log(2)))
    empty, _ = resized_masks.resized_focal_dice_rows(torch.zeros(0, 9, 7), target[:0], alpha=0.5)
    assert empty.shape == (0,)


def test_perfect_prediction_has_zero_loss():
    target = torch.rand(3, 40) > 0.5
    focal, dice = focal_dice_rows(torch.where(target, 30.0, -30.0), target, alpha=0.25)
    torch.testing.assert_close(focal, torch.zeros(3))
    torch.testing.assert_close(dice, torch.zeros(3), atol=1e-6, rtol=0)


def test_sampled_points_prefer_uncertain_ones():
    logits = torch.full((1, 32, 32), 9.0)
    logits[:, :, 14:18] = 0.0  # an uncertain stripe of an eighth of the image
    target = torch.ones(1, 64, 64, dtype=torch.bool)
    points, sampled = sample_rows(logits, target, num_points=64)
    assert points.shape == sampled.shape == (1, 64)
    assert (points.abs() < 4.5).float().mean() > 0.3
    assert sampled.all()


def test_sampled_logits_and_targets_of_different_sizes_are_aligned():
    logits = ((torch.arange(8) + 0.5) / 8 - 0.25).expand(4, 8, 8)  # negative in the left quarter
    target = torch.zeros(4, 64, 64, dtype=torch.bool)
    target[:, :, 16:] = True
    points, sampled = sample_rows(logits, target, num_points=256)
    assert 0.2 < sampled.float().mean() < 0.8
    near = (points.abs() > 1e-4) & (points.abs() < 0.1)
    assert torch.equal(sampled[near], points[near] > 0)
