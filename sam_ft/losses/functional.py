"""Mask losses, row by row."""

import torch
import torch.nn.functional as F


class _FocalDiceRows(torch.autograd.Function):
    """
    Focal loss (gamma 2) and dice of full-size rows, with the gradient written out.

    With `q = sigmoid(-z)`, `z = x` on the target and `-x` off it, both losses and both gradients need `q` and one log:
    three buffers of a row's size live instead of autograd's dozen.
    """

    @staticmethod
    def forward(ctx, logits, target, alpha):
        z = torch.where(target, logits, -logits)  # (rows, pixels)
        log_p = F.logsigmoid(z)
        q = torch.sigmoid(-z)
        weight = torch.where(target, alpha, 1 - alpha).to(q.dtype)
        focal = -(q.square() * log_p * weight).mean(1)
        overlap = torch.where(target, 1 - q, 0).sum(1)
        total = torch.where(target, 1 - q, q).sum(1) + target.sum(1) + 1
        ctx.save_for_backward(q, log_p, weight, target, overlap, total)
        return focal, 1 - (2 * overlap + 1) / total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_focal, grad_dice):
        q, log_p, weight, target, overlap, total = ctx.saved_tensors
        grad_focal = (grad_focal / q.shape[1])[:, None]
        off = (grad_dice * (2 * overlap + 1) / total.square())[:, None]  # d dice / dp off the target
        on = off - (2 * grad_dice / total)[:, None]  # … and on it
        p = 1 - q
        # d focal / dz, for z = ±x; dp/dx = p q on either side
        slope = (2 * p * log_p - q) * (q * weight) * grad_focal
        grad = torch.where(target, slope + on * p, off * p - slope)
        return grad.mul_(q), None, None


def focal_dice_rows(logits: torch.Tensor, target: torch.Tensor, *, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Focal loss and dice of each row over all its pixels (`sam3/train/loss/loss_fns.py`, `sigmoid_focal_loss` with
    gamma 2 and `dice_loss`; Lin et al. 2017, Milletari et al. 2016).

        focal = mean[ a_t · BCE(x, y) · (1 − p_t)² ],   a_t = alpha·y + (1 − alpha)·(1 − y)
        dice  = 1 − (2·Σ p y + 1) / (Σ p + Σ y + 1)

    Args:
        logits (`torch.Tensor` of shape `(rows, …)`): float32.
        target (`torch.Tensor` of the same shape): bool.
        alpha (`float`): weight of the target's pixels.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: focal and dice, both of shape `(rows,)`.
    """
    return _FocalDiceRows.apply(logits.flatten(1), target.flatten(1), alpha)


def resize_logits(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear (`align_corners=False`) resize of `(rows, h, w)` to `(rows, height, width)`, in float32."""
    return F.interpolate(logits.float()[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def sample_rows(
    logits: torch.Tensor, target: torch.Tensor, *, num_points: int, oversample: float = 3.0, importance: float = 0.75
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Picks points where the prediction is uncertain (PointRend, Kirillov et al. 2020, section 3.1), for a mask loss that
    does not grow with the resolution. SAM 3's own recipes use all pixels.

    Args:
        logits (`torch.Tensor` of shape `(rows, h, w)`), target (`torch.Tensor` of shape `(rows, H, W)`, bool).
        num_points (`int`): points a row; `importance` of them are the least certain of `num_points · oversample`
            uniform draws, the others uniform.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: logits and bool targets, both of shape `(rows, num_points)`.
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
