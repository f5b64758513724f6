"""SAM 2's criterion: prompted masks over several rounds of clicks."""

from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F

from ..options.loss import PromptLossOptions
from .functional import focal_dice_rows


NO_OBJECT = -1024.0  # mask logit of an object that is predicted absent (`sam2_base.py`, NO_OBJ_SCORE)


@dataclass
class RoundOutputs:
    """
    Predictions of one round of clicks for N objects, each with M candidate masks.

    Attributes:
        logits (`torch.Tensor` of shape `(N, M, H, W)`): Mask logits at the targets' size.
        ious (`torch.Tensor` of shape `(N, M)`): Predicted IoU, in `[0, 1]`.
        object_logits (`torch.Tensor` of shape `(N,)`): Logits of the objects' presence.
    """

    logits: torch.Tensor
    ious: torch.Tensor
    object_logits: torch.Tensor


class Sam2Criterion(PromptLossOptions):
    """
    SAM 2's criterion; see [`PromptLossOptions`] for the weights.

    For each round and object, with candidate masks m, target y, and `v = 1` where y has a pixel, else 0:

        m* = argmin_m (mask · focal_m + dice · dice_m)        focal (alpha 0.25, gamma 2) and dice over all pixels
        v · (mask · focal_m* + dice · dice_m* + iou · mean_m |q_m − IoU(z_m > 0, y)|) + object · BCE(o, v)

    summed over rounds and objects and divided by the number of objects.

    Source:
        `MultiStepMultiMasksAndIous` of `training/loss_fns.py`; Ravi et al. 2024, appendix D.2.
    """

    def __call__(
        self, rounds: list[RoundOutputs], targets: torch.Tensor, num_objects: torch.Tensor | float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Compute the loss of all rounds.

        Args:
            rounds (`list[RoundOutputs]`): Predictions of each round.
            targets (`torch.Tensor` of shape `(N, H, W)`): Bool masks, all false where the object is absent.
            num_objects (`torch.Tensor` or `float`): Divisor of the sums; values below 1 count as 1.

        Returns:
            `tuple[torch.Tensor, dict[str, torch.Tensor]]`: The weighted sum, and its terms without weights and
            gradient: `loss_mask`, `loss_dice`, `loss_iou`, `loss_class`, and `loss_bce` where its weight is not 0.
        """
        present = targets.flatten(1).any(1).float()
        number = torch.as_tensor(num_objects, dtype=torch.float32, device=targets.device).clamp(min=1)
        sums: dict[str, torch.Tensor] = {}
        for outputs in rounds:
            for name, value in self._round(outputs, targets, present).items():
                sums[name] = sums.get(name, 0.0) + value.sum() / number
        w = self.weights
        weights = {
            "loss_mask": w.mask,
            "loss_dice": w.dice,
            "loss_iou": w.iou,
            "loss_class": w.object,
            "loss_bce": w.bce,
        }
        total = reduce(torch.add, (weights[name] * value for name, value in sums.items()))
        return total, {name: value.detach() for name, value in sums.items()}

    def _round(self, outputs: RoundOutputs, targets: torch.Tensor, present: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute each unweighted term of one round, of shape `(N,)`."""
        number, candidates = outputs.ious.shape
        logits = outputs.logits.float().flatten(0, 1)  # (N·M, H, W)
        candidate_targets = targets[:, None].expand(-1, candidates, -1, -1).flatten(0, 1)
        focal, dice = (
            rows.view(number, candidates) for rows in focal_dice_rows(logits, candidate_targets, alpha=self.mask_alpha)
        )
        cost = self.weights.mask * focal + self.weights.dice * dice
        parts = {"loss_mask": focal, "loss_dice": dice}
        if self.weights.bce:
            bce = F.binary_cross_entropy_with_logits(logits, candidate_targets.float(), reduction="none")
            parts["loss_bce"] = bce.flatten(1).mean(1).view(number, candidates)
            cost = cost + self.weights.bce * parts["loss_bce"]
        best = cost.detach().argmin(1, keepdim=True)
        parts = {name: value.gather(1, best)[:, 0] for name, value in parts.items()}
        error = outputs.ious.float() - overlap(logits, candidate_targets).view(number, candidates)
        error = error.abs() if self.iou_l1 else error.square()
        parts["loss_iou"] = error.mean(1) if self.all_ious else error.gather(1, best)[:, 0]
        parts = {name: value * present for name, value in parts.items()}
        object_logits = outputs.object_logits.float()
        parts["loss_class"] = F.binary_cross_entropy_with_logits(object_logits, present, reduction="none")
        return parts


@torch.no_grad()
def overlap(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """
    Compute the IoU of masks `logits > 0` with their targets.

    Args:
        logits (`torch.Tensor` of shape `(rows, H, W)`): Mask logits.
        targets (`torch.Tensor` of shape `(rows, H, W)`): Bool masks.

    Returns:
        `torch.Tensor` of shape `(rows,)`: IoU; 0 where both masks are empty, as in the official code.
    """
    masks = logits > 0
    both, either = (masks & targets).flatten(1).sum(1), (masks | targets).flatten(1).sum(1)
    return both / either.clamp(min=1)


def suppress_absent(logits: torch.Tensor, object_logits: torch.Tensor) -> torch.Tensor:
    """
    Replace the mask logits of objects that are predicted absent by -1024.

    The official training does so; Transformers and the official image predictor do not.

    Args:
        logits (`torch.Tensor` of shape `(N, M, h, w)`): Mask logits.
        object_logits (`torch.Tensor` of shape `(N,)`): Object scores; an object is absent at 0 or below.

    Returns:
        `torch.Tensor` of shape `(N, M, h, w)`: Gated mask logits.

    Source:
        `_forward_sam_heads` of `sam2_base.py`.
    """
    return torch.where((object_logits > 0)[:, None, None, None], logits, NO_OBJECT)
