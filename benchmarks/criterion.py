"""Benchmark of matcher and criterion against the official ones: time and peak memory.

    python benchmarks/criterion.py

Forward and backward of ours and of the `sam3` package's take turns on the same tensors: 16 pairs, 6 layers, 200 + 200
queries, 60 objects; box-only, and with masks (logits 288², targets 1008²). On a CPU the plain formula replaces the
package's Triton focal loss.
"""

import sys
from pathlib import Path

import torch


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import DEVICE, device_name, peak_bytes, seconds  # noqa: E402
from sam_ft.losses.sam3 import Sam3Criterion  # noqa: E402
from sam_ft.losses.structures import ConceptOutputs, DenseMasks, Normalizers, PairTargets, QueryOutputs  # noqa: E402
from tests import official  # noqa: E402


PAIRS, LAYERS, QUERIES, OBJECTS, SIDE, TARGET_SIDE = 16, 6, 200, 60, 288, 1008


def make_tensors(with_masks: bool, reduction: int = 1):
    """Draw predictions and targets.

    Args:
        with_masks (`bool`): Whether to draw masks and a semantic map.
        reduction (`int`): Divisor of the sides of masks, 1 by default.

    Returns:
        `tuple`: Predictions (`dict[str, torch.Tensor]`), boxes, number of objects of each pair, and masks or `None`.
    """
    generator = torch.Generator().manual_seed(0)
    side, target_side = SIDE // reduction, TARGET_SIDE // reduction

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    counts = [OBJECTS // PAIRS + (pair < OBJECTS % PAIRS) for pair in range(PAIRS)]
    boxes = torch.cat([0.2 + 0.6 * rand(OBJECTS, 2), 0.05 + 0.2 * rand(OBJECTS, 2)], -1)
    leaves = {}
    for name in ("one", "many"):
        predicted = torch.cat([rand(LAYERS, PAIRS, QUERIES, 2), 0.05 + 0.2 * rand(LAYERS, PAIRS, QUERIES, 2)], -1)
        start = 0
        for pair, count in enumerate(counts):  # Queries of a trained model are near objects.
            near = boxes[start : start + count].repeat(20, 1)[: QUERIES // 2]
            predicted[:, pair, : len(near)] = (near + 0.02 * (rand(LAYERS, len(near), 4) - 0.5)).clamp(0.01, 0.99)
            start += count
        leaves[f"{name}_boxes"], leaves[f"{name}_logits"] = predicted, 4 * rand(LAYERS, PAIRS, QUERIES) - 2
    leaves["presence"] = 4 * rand(LAYERS, PAIRS) - 2
    masks = None
    if with_masks:
        grid = (torch.arange(target_side) + 0.5) / target_side
        inside = [(grid - boxes[:, k, None]).abs() < boxes[:, k + 2, None] / 2 for k in (0, 1)]
        masks = (inside[1][:, :, None] & inside[0][:, None, :]).to(DEVICE)
        for name in ("one", "many"):
            leaves[f"{name}_masks"] = torch.randn(PAIRS, QUERIES, side, side, generator=generator)
        leaves["semantic"] = torch.randn(PAIRS, 1, side, side, generator=generator)
    return {k: v.to(DEVICE).requires_grad_() for k, v in leaves.items()}, boxes.to(DEVICE), counts, masks


def compare(with_masks: bool, reduction: int = 1) -> dict[str, float]:
    """Measure both criteria on the same tensors.

    Args:
        with_masks (`bool`): Whether the losses of masks are computed too.
        reduction (`int`): Divisor of the sides of masks, 1 by default.

    Returns:
        `dict[str, float]`: Seconds of ours and of the official one, and their ratio; with masks, the peaks in MB.
    """
    leaves, boxes, counts, masks = make_tensors(with_masks, reduction)
    wrapper = official.loss_wrapper(masks=with_masks, positive_weight=10.0)
    criterion = Sam3Criterion(scale_by_sqrt_pairs=True)

    def queries(name):
        dense = DenseMasks(leaves[f"{name}_masks"]) if with_masks else None
        return QueryOutputs(leaves[f"{name}_logits"], leaves[f"{name}_boxes"], dense)

    def ours():
        semantic = leaves["semantic"][:, 0] if with_masks else None
        outputs = ConceptOutputs(queries("one"), queries("many"), leaves["presence"], semantic)
        index = list(range(OBJECTS)) if with_masks else None
        targets = PairTargets(boxes, counts, [True] * PAIRS, masks, index)
        loss, _ = criterion(outputs, targets, Normalizers(OBJECTS, PAIRS, PAIRS))
        torch.autograd.grad(loss, leaves.values())
        return float(loss.detach())

    def theirs():
        outputs = official.outputs_for(
            (leaves["one_logits"], leaves["one_boxes"]),
            (leaves["many_logits"], leaves["many_boxes"]),
            leaves["presence"],
            *(leaves[name] for name in ("one_masks", "many_masks", "semantic") if with_masks),
        )
        loss, _ = official.compute(wrapper, outputs, official.targets_for(boxes, counts, masks))
        torch.autograd.grad(loss, leaves.values())
        return float(loss.detach())

    a, b = ours(), theirs()
    assert abs(a - b) <= 1e-4 * abs(b), (a, b)
    own_time, official_time = seconds(ours, theirs, repeats=2 if with_masks else 10)
    result = {"ours s": own_time, "official s": official_time, "ratio": official_time / own_time}
    if with_masks:
        result |= {"ours MB": peak_bytes(ours) / 2**20, "official MB": peak_bytes(theirs) / 2**20}
    return result


def main():
    """Print time and peak memory of both."""
    print(f"{device_name()}, torch {torch.__version__}; {PAIRS} pairs, {LAYERS} layers, {QUERIES}+{QUERIES} queries, "
          f"{OBJECTS} objects")  # fmt: skip
    for with_masks in (False, True):
        r = compare(with_masks)
        line = f"{'with masks' if with_masks else 'box-only':10}  ours {r['ours s']:.3f} s, official "
        line += f"{r['official s']:.3f} s: {r['ratio']:.2f}× faster"
        if with_masks:
            line += f"; peak {r['ours MB']:.0f} MB, official {r['official MB']:.0f} MB: "
            line += f"{r['ours MB'] / r['official MB']:.2f} of it"
        print(line)


if __name__ == "__main__":
    main()
