"""Mask losses per row."""

import torch
import torch.nn.functional as F


class _FocalDiceRows(torch.autograd.Function):
    """
    Focal loss (gamma 2) and dice of full-size rows with a hand-written gradient.

    With `u = -x` on the target and `x` outside it, both losses and both gradients need `q = sigmoid(u)` and the cross
    entropy `log(1 + exp(u))` only: two buffers of a row's size are stored instead of about twelve by autograd.
    """

    @staticmethod
    def forward(ctx, logits, target, alpha):
        u = torch.where(target, -logits, logits)  # (rows, pixels)
        cross_entropy, q = F.softplus(u), u.sigmoid_()
        focal = (q * q).mul_(cross_entropy)
        focal_sum, focal_on = focal.sum(1), focal.mul_(target).sum(1)
        wrong, wrong_on = q.sum(1), torch.mul(q, target, out=focal).sum(1)
        size = target.sum(1)
        overlap, total = size - wrong_on, size - 2 * wrong_on + wrong + size + 1
        ctx.save_for_backward(q, cross_entropy, target, overlap, total)
        ctx.alpha = alpha
        weighted = (1 - alpha) * focal_sum + (2 * alpha - 1) * focal_on
        return weighted / q.shape[1], 1 - (2 * overlap + 1) / total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_focal, grad_dice):
        q, cross_entropy, target, overlap, total = ctx.saved_tensors
        # Factors of a row on the target and outside it; du/dx is -1 on the target.
        focal_on, focal_off = -ctx.alpha / q.shape[1] * grad_focal, (1 - ctx.alpha) / q.shape[1] * grad_focal
        dice_off = grad_dice * (2 * overlap + 1) / total.square()
        dice_on = dice_off - 2 * grad_dice / total
        p = 1 - q
        # d focal / du = q² (2 p CE + q), and d probability / dx = p q
        grad = torch.addcmul(q, p, cross_entropy, value=2).mul_(q)
        grad.mul_(torch.where(target, focal_on[:, None], focal_off[:, None]))
        grad.addcmul_(p, torch.where(target, dice_on[:, None], dice_off[:, None]))
        return grad.mul_(q), None, None


def focal_dice_rows(logits: torch.Tensor, target: torch.Tensor, *, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute focal loss and dice of each row over all its pixels.

        focal = mean[ a_t · BCE(x, y) · (1 − p_t)² ],   a_t = alpha·y + (1 − alpha)·(1 − y)
        dice  = 1 − (2·Σ p y + 1) / (Σ p + Σ y + 1)

    Args:
        logits (`torch.Tensor` of shape `(rows, …)`): Mask logits, float32.
        target (`torch.Tensor` of the same shape): Bool mask.
        alpha (`float`): Weight of the target's pixels in the focal loss.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Focal loss and dice, both of shape `(rows,)`.

    Source:
        `sigmoid_focal_loss` with gamma 2 and `dice_loss` of `sam3/train/loss/loss_fns.py`; Lin et al. 2017, Milletari
        et al. 2016.
    """
    return _FocalDiceRows.apply(logits.flatten(1), target.flatten(1), alpha)


def resize_logits(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize `(rows, h, w)` to `(rows, height, width)` bilinearly (`align_corners=False`), in float32."""
    return F.interpolate(logits.float()[:, None], (height, width), mode="bilinear", align_corners=False).squeeze(1)


def sample_rows(
    logits: torch.Tensor, target: torch.Tensor, *, num_points: int, oversample: float = 3.0, importance: float = 0.75
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Sample points where the prediction is uncertain, so that the mask loss's cost is independent of the resolution.

    The official SAM 3 recipes use all pixels.

    Args:
        logits (`torch.Tensor` of shape `(rows, h, w)`): Mask logits.
        target (`torch.Tensor` of shape `(rows, H, W)`): Bool mask.
        num_points (`int`): Points per row.
        oversample (`float`): Uniform candidates per point, default 3.
        importance (`float`): Share of the points that are the least certain candidates, default 0.75. The others are
            uniform.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Logits and bool targets, both of shape `(rows, num_points)`.

    Source:
        PointRend, Kirillov et al. 2020, section 3.1.
    """
    rows, logits = len(logits), logits.float()[:, None]
    with torch.no_grad():
        candidates = torch.rand(rows, int(num_points * oversample), 2, device=logits.device)
        uncertain = int(num_points * importance)
        nearest = _sample(logits, candidates).abs().topk(uncertain, dim=1, largest=False).indices
        chosen = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
        points = torch.cat([chosen, torch.rand(rows, num_points - uncertain, 2, device=logits.device)], dim=1)
        sampled_target = _sample(target.float()[:, None], points) >= 0.5
    return _sample(logits, points), sampled_target


def _sample(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[:, 0, :, 0]
