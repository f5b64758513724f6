"""Benchmark of memory against the number of phrases and of instances.

    python benchmarks/memory.py

One image, masks on, a reduced SAM 3 (200 queries, six layers of each stack) at 336 px. Every number is the peak memory
of a forward and backward pass beyond the memory held before it, in a separate process; on a CPU it is the kernel's
high-water mark of resident memory (see measure.py). The last line compares masks of all 400 queries with those of
matched ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CASES = {
    "4 phrases": {"phrases": 4, "instances": 3},
    "32 phrases": {"phrases": 32, "instances": 3},
    "1 phrase, 3 instances": {"phrases": 1, "instances": 3},
    "1 phrase, 300 instances": {"phrases": 1, "instances": 300},
}


def measure_case(phrases: int, instances: int) -> int:
    """Measure the peak memory of a training step.

    Args:
        phrases (`int`): Phrases of the image; seven of eight are present.
        instances (`int`): Instances of each present phrase.

    Returns:
        `int`: Bytes.
    """
    import torch
    from accelerate.utils import send_to_device

    from benchmarks.measure import DEVICE, peak_bytes
    from benchmarks.models import reduced_config
    from sam_ft.losses.sam3 import Sam3Criterion
    from sam_ft.models.freezing import freeze
    from sam_ft.models.sam3.random_model import build_random_model
    from sam_ft.models.sam3.steps import ConceptTrainingStep
    from sam_ft.testing import random_batch

    model = build_random_model(reduced_config(), 0).train().to(DEVICE)
    freeze(model, [])
    model.configure(pairs_per_chunk=1)
    train_step = ConceptTrainingStep(Sam3Criterion(masks_per_block=4))
    pairs = [(0, f"phrase {i}", 0 if i % 8 == 7 else instances) for i in range(phrases)]
    batch = send_to_device(random_batch(pairs, resolution=336, instances_per_image=1), DEVICE)

    def step():
        model(**batch, step=train_step).loss.backward()
        model.zero_grad(set_to_none=False)

    step()  # Warm-up: gradients and buffers are allocated.
    return min(peak_bytes(step) for _ in range(3 if torch.cuda.is_available() else 2))


def measure_masks(dense: bool) -> int:
    """Measure the peak memory of masks, loss and backward of 6 instances.

    Args:
        dense (`bool`): Whether the masks of all 400 queries are computed first, or those of matched queries alone.

    Returns:
        `int`: Bytes.
    """
    import torch

    from benchmarks.measure import DEVICE, peak_bytes
    from sam_ft.losses.sam3 import Sam3Criterion
    from sam_ft.losses.structures import (
        ConceptOutputs,
        DenseMasks,
        FactoredMasks,
        Normalizers,
        PairTargets,
        QueryOutputs,
    )

    generator = torch.Generator().manual_seed(0)
    queries, width, side, count = 200, 256, 288, 6

    def rand(*shape):
        return torch.rand(*shape, generator=generator).to(DEVICE)

    boxes = torch.cat([0.3 + 0.4 * rand(count, 2), 0.1 + 0.2 * rand(count, 2)], -1)
    predicted = [torch.cat([rand(1, 1, queries, 2), 0.1 + 0.2 * rand(1, 1, queries, 2)], -1) for _ in range(2)]
    masks = rand(count, 1008, 1008) > 0.5
    pixels, embeddings = (rand(1, width, side, side) - 0.5).requires_grad_(), (rand(1, 2 * queries, width) - 0.5)
    embeddings.requires_grad_()
    targets = PairTargets(boxes, [count], [True], masks, list(range(count)))

    def step():
        product = torch.einsum("pqc,pchw->pqhw", embeddings, pixels) if dense else None

        def predictions_of(k):
            part = slice(k * queries, (k + 1) * queries)
            masks_of_queries = DenseMasks(product[:, part]) if dense else FactoredMasks(embeddings[:, part], pixels)
            return QueryOutputs(torch.zeros(1, 1, queries, device=DEVICE), predicted[k], masks_of_queries)

        outputs = ConceptOutputs(predictions_of(0), predictions_of(1), torch.zeros(1, 1, device=DEVICE))
        loss, _ = Sam3Criterion()(outputs, targets, Normalizers(count, 1, 1))
        torch.autograd.grad(loss, [pixels, embeddings])

    step()
    return min(peak_bytes(step) for _ in range(3))


def run_in_subprocess(**case) -> int:
    """Measure a case in a subprocess."""
    # These thresholds return freed blocks to the kernel, so that resident memory follows allocated memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, json.dumps(case)]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1])


def main():
    """Print the peaks and their ratios."""
    from benchmarks.measure import device_name

    print(device_name())
    peaks = {name: run_in_subprocess(**case) for name, case in CASES.items()}
    for name, peak in peaks.items():
        print(f"{name:26} {peak / 2**20:8.0f} MB")
    print(f"32 phrases against 4:       {peaks['32 phrases'] / peaks['4 phrases']:.2f}×")
    print(f"300 instances against 3:    {peaks['1 phrase, 300 instances'] / peaks['1 phrase, 3 instances']:.2f}×")
    matched, dense_peak = (run_in_subprocess(dense=dense) for dense in (False, True))
    print(
        f"masks of 6 instances' matched queries {matched / 2**20:.0f} MB, "
        f"of all 400 queries {dense_peak / 2**20:.0f} MB: {dense_peak / matched:.2f}×"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        case = json.loads(sys.argv[1])
        print(measure_masks(**case) if "dense" in case else measure_case(**case))
    else:
        main()
