"""Mask losses per row of logits that are resized to their targets."""

import torch
import torch.nn.functional as F

from .functional import focal_dice_rows, resize_logits


STRIP_LINES = 64  # Lines of a mask that a thread of a CPU processes at once, so that its buffers stay in the cache.

# Lines of the resized map, lines of the source that they depend on, and their weights.
Band = tuple[slice, slice, torch.Tensor]


def resized_focal_dice_rows(
    logits: torch.Tensor, target: torch.Tensor, *, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute focal loss and dice of each row over all pixels of its target, to which the logits are resized.

    Args:
        logits (`torch.Tensor` of shape `(rows, h, w)`): Mask logits.
        target (`torch.Tensor` of shape `(rows, H, W)`): Bool masks.
        alpha (`float`): Weight of the target's pixels in the focal loss.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Focal loss and dice as in [`focal_dice_rows`], both of shape `(rows,)`.
    """
    if uses_strips(logits.device):
        return _FocalDiceOfStrips.apply(logits.float(), target, alpha)
    return focal_dice_rows(resize_logits(logits, *target.shape[-2:]), target, alpha=alpha)


def uses_strips(device: torch.device) -> bool:
    """Return whether masks are processed in strips: memory limits a CPU, the number of kernels a GPU."""
    return device.type == "cpu"


class _FocalDiceOfStrips(torch.autograd.Function):
    """
    Focal loss (gamma 2) and dice of resized rows, with gradients computed in the forward pass.

    A row is resized and reduced strip by strip, and nothing of a target's size is stored. The gradient of the focal
    loss needs no other pixels. The gradient of dice is a weighted sum of two maps, of all pixels and of the target's
    pixels, whose weights are known after the last strip.
    """

    @staticmethod
    def forward(ctx, logits, target, alpha):
        (rows, h, w), (height, width) = logits.shape, target.shape[1:]
        vertical = _list_bands(h, height, STRIP_LINES * torch.get_num_threads(), logits)
        horizontal = _list_bands(w, width, STRIP_LINES, logits)
        buffers, wide = logits.new_empty(6, len(vertical[0][2]), width), logits.new_empty(h, width)
        sums = logits.new_zeros(rows, 5)
        maps, grads = logits.new_empty(3, h, width), logits.new_zeros(2, rows, h, w)
        for row in range(rows):
            for columns, source, weights in horizontal:
                torch.mm(logits[row, :, source], weights.T, out=wide[:, columns])
            maps.zero_()
            for lines, source, weights in vertical:
                strip = buffers[:, : len(weights)]
                torch.mm(weights, wide[source], out=strip[0])
                sums[row] += _compute_sums(strip, target[row, lines])
                if ctx.needs_input_grad[0]:
                    for total, grad in zip(maps, _compute_gradients(strip, alpha), strict=True):
                        total[source].addmm_(weights.T, grad)
            if ctx.needs_input_grad[0]:
                _, all_pixels, target_pixels = _compute_dice(sums[row])
                maps[0] /= height * width
                maps[1].mul_(all_pixels).add_(maps[2].mul_(target_pixels))
                for total, grad in zip(grads[:, row], maps[:2], strict=True):
                    for columns, source, weights in horizontal:
                        total[:, source].addmm_(grad[:, columns], weights)
        ctx.save_for_backward(*grads)
        focal = ((1 - alpha) * sums[:, 0] + (2 * alpha - 1) * sums[:, 1]) / (height * width)
        return focal, _compute_dice(sums.T)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_focal, grad_dice):
        focal, dice = ctx.saved_tensors
        return (focal * grad_focal[:, None, None]).add_(dice * grad_dice[:, None, None]), None, None


def _list_bands(length: int, resized: int, size: int, like: torch.Tensor) -> list[Band]:
    """List the weights of a bilinear resize along one side, for `size` lines of the result at a time."""
    identity = torch.eye(length, dtype=like.dtype, device=like.device)[None, None]
    weights = F.interpolate(identity, (resized, length), mode="bilinear", align_corners=False)[0, 0]
    bands = []
    for start in range(0, resized, size):
        stop = min(start + size, resized)
        # One line more on both sides is safe against rounding.
        low = max(int((start + 0.5) * length / resized - 0.5) - 1, 0)
        high = min(int((stop - 0.5) * length / resized - 0.5) + 3, length)
        bands.append((slice(start, stop), slice(low, high), weights[start:stop, low:high].contiguous()))
    return bands


def _compute_sums(buffers: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    Compute the sums of a strip that both losses consist of.

    Args:
        buffers (`torch.Tensor` of shape `(6, lines, width)`): Logits, and memory for the inputs of
            [`_compute_gradients`].
        target (`torch.Tensor` of shape `(lines, width)`): Bool mask.

    Returns:
        `torch.Tensor` of shape `(5,)`: Focal loss without `a_t` of all pixels and of the target's pixels, probability
            of the wrong class of all pixels and of the target's pixels, and number of the target's pixels.
    """
    x, y, p, q, log_p, square = buffers
    y.copy_(target)
    torch.sigmoid(x.addcmul_(x, y, value=-2), out=q)  # -x on the target
    true_class = x.neg_()
    torch.sigmoid(true_class, out=p)
    # `log1p` would take ten times as long. Below the smallest `p`, its logarithm equals the logit.
    torch.clamp(p, min=torch.finfo(p.dtype).tiny, out=log_p).log_()
    torch.minimum(log_p, true_class, out=log_p)
    torch.mul(q, q, out=square)
    focal = torch.mul(square, log_p, out=x).neg_()
    on = y.flatten()
    return torch.stack([focal.sum(), focal.flatten().dot(on), q.sum(), q.flatten().dot(on), y.sum()])


def _compute_gradients(buffers: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Compute the gradients of a strip after [`_compute_sums`], in the same memory.

    Returns:
        `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: Derivatives by the logits of the sum of the focal loss, and
            of the probability: of all pixels, and of the target's pixels with 0 elsewhere.
    """
    weight, y, p, q, log_p, square = buffers
    torch.sub(1 - alpha, y, out=weight)  # -alpha on the target
    focal = torch.addcmul(q, p, log_p, value=-2, out=log_p).mul_(square).mul_(weight)
    probability = p.mul_(q)
    return focal, probability, torch.mul(probability, y, out=q)


def _compute_dice(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Compute dice from the sums of [`_compute_sums`].

    Returns:
        `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: Dice, its derivative by the probability of a pixel outside
            the target, and the difference of this derivative on the target.
    """
    _, _, wrong, wrong_on, size = sums
    overlap, total = size - wrong_on, size - 2 * wrong_on + wrong + size + 1
    ratio = (2 * overlap + 1) / total
    return 1 - ratio, ratio / total, -2 / total
