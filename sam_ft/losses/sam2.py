"""SAM 2's loss: prompted masks of an object over several rounds of clicks."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from .functional import focal_dice_rows


NO_OBJECT = -1024.0  # mask logit of an object that is said to be absent (`sam2_base.py`, NO_OBJ_SCORE)


@dataclass
class PromptLossWeights:
    """
    Weights of the loss's parts; the defaults are SAM 2.1's training (`sam2.1_hiera_b+_MOSE_finetune.yaml`).

    Attributes:
        mask (`float`): focal loss. dice (`float`). iou (`float`): of the predicted IoU. object (`float`): of the object score.
        bce (`float`): plain cross-entropy of mask pixels; the official loss has none.
    """

    mask: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object: float = 1.0
    bce: float = 0.0


@dataclass
class RoundOutputs:
    """
    What one round of clicks gives for N objects, each with M candidate masks.

    Attributes:
        logits (`torch.Tensor` of shape `(N, M, H, W)`): at the size of the targets.
        ious (`torch.Tensor` of shape `(N, M)`): predicted, in `[0, 1]`. object_logits (`torch.Tensor` of shape `(N,)`).
    """

    logits: torch.Tensor
    ious: torch.Tensor
    object_logits: torch.Tensor


@dataclass
class Sam2Criterion:
    """
    SAM 2's loss (`training/loss_fns.py`, `MultiStepMultiMasksAndIous`; Ravi et al. 2024, appendix D.2).

    Of each round and object, with candidate masks m, target y, `v = 1` where y has a pixel, else 0:

        m* = argmin_m (mask · focal_m + dice · dice_m)        focal (alpha 0.25, gamma 2) and dice over all pixels
        v · (mask · focal_m* + dice · dice_m* + iou · mean_m |q_m − IoU(z_m > 0, y)|) + object · BCE(o, v)

    summed over rounds and objects and divided by the number of objects.

    Attributes:
        weights (`PromptLossWeights`). mask_alpha (`float`): weight of the target's pixels in the focal loss.
        iou_l1 (`bool`): L1 of the predicted IoU; squared where false. all_ious (`bool`): of all candidates; of m* alone where false.
    """

    weights: PromptLossWeights = field(default_factory=PromptLossWeights)
    mask_alpha: float = 0.25
    iou_l1: bool = True
    all_ious: bool = True

    def __call__(
        self, rounds: list[RoundOutputs], targets: torch.Tensor, num_objects: torch.Tensor | float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Args:
            rounds (`list[RoundOutputs]`). targets (`torch.Tensor` of shape `(N, H, W)`): bool, all false where the object is absent.
            num_objects (`torch.Tensor` or `float`): what sums are divided by; at least 1 is taken.

        Returns:
            `tuple[torch.Tensor, dict[str, torch.Tensor]]`: the weighted sum, and its parts without weights and gradient: `loss_mask`,
            `loss_dice`, `loss_iou`, `loss_class`, and `loss_bce` where it counts.
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
        total = sum(weights[name] * value for name, value in sums.items())
        return total, {name: value.detach() for name, value in sums.items()}

    def _round(self, outputs: RoundOutputs, targets: torch.Tensor, present: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each part, unweighted, of shape `(N,)`."""
        number, candidates = outputs.ious.shape
        logits = outputs.logits.float().flatten(0, 1)  # (N·M, H, W)
        wanted = targets[:, None].expand(-1, candidates, -1, -1).flatten(0, 1)
        focal, dice = (
            rows.view(number, candidates) for rows in focal_dice_rows(logits, wanted, alpha=self.mask_alpha)
        )
        cost = self.weights.mask * focal + self.weights.dice * dice
        parts = {"loss_mask": focal, "loss_dice": dice}
        if self.weights.bce:
            bce = F.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="none")
            parts["loss_bce"] = bce.flatten(1).mean(1).view(number, candidates)
            cost = cost + self.weights.bce * parts["loss_bce"]
        best = cost.detach().argmin(1, keepdim=True)
        parts = {name: value.gather(1, best)[:, 0] for name, value in parts.items()}
        error = outputs.ious.float() - overlap(logits, wanted).view(number, candidates)
        error = error.abs() if self.iou_l1 else error.square()
        parts["loss_iou"] = error.mean(1) if self.all_ious else error.gather(1, best)[:, 0]
        parts = {name: value * present for name, value in parts.items()}
        said = outputs.object_logits.float()
        parts["loss_class"] = F.binary_cross_entropy_with_logits(said, present, reduction="none")
        return parts


@torch.no_grad()
def overlap(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """IoU `(rows,)` of masks `logits > 0` with bool targets, both `(rows, H, W)`; 0 where both are empty, as officially."""
    masks = logits > 0
    both, either = (masks & targets).flatten(1).sum(1), (masks | targets).flatten(1).sum(1)
    return both / either.clamp(min=1)


def silence_absent(logits: torch.Tensor, object_logits: torch.Tensor) -> torch.Tensor:
    """
    Mask logits `(N, M, h, w)` of objects whose score `(N,)` says absent, replaced by -1024 (`sam2_base.py`, `_forward_sam_heads`): the
    official training does so, Transformers and the official image predictor do not.
    """
    return torch.where((object_logits > 0)[:, None, None, None], logits, NO_OBJECT)
