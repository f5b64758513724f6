"""
Does the memory of a training step grow with phrases or instances?

    python benchmarks/memory.py

One image, masks on, a reduced SAM 3 (200 queries, six layers of each stack) at 336 px. Every number is the most memory a
forward and backward pass holds beyond what was there before it, in a process of its own; on a CPU that is the kernel's
high-water mark of resident memory (see measure.py). Then masks of all 400 queries against those of matched ones.
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
    import torch
    from accelerate.utils import send_to_device

    from benchmarks.measure import DEVICE, peak_bytes
    from benchmarks.models import reduced_config
    from sam_ft.models.freezing import freeze
    from sam_ft.models.sam3.random_model import random_model
    from sam_ft.testing import random_batch

    model = random_model(reduced_config(), 0).train().to(DEVICE)
    freeze(model, [])
    model.pairs_per_chunk, model.criterion.masks_per_block = 1, 4
    # seven of eight phrases are present
    pairs = [(0, f"phrase {i}", 0 if i % 8 == 7 else instances) for i in range(phrases)]
    batch = send_to_device(random_batch(pairs, resolution=336, instances_per_image=1), DEVICE)

    def step():
        model(**batch).loss.backward()
        model.zero_grad(set_to_none=False)

    step()  # gradients exist and every buffer has been made once
    return min(peak_bytes(step) for _ in range(3 if torch.cuda.is_available() else 2))


def measure_masks(dense: bool) -> int:
    """Masks, loss and backward of 6 instances: all 400 queries' masks made first (dense), or the matched ones alone."""
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

        def of(k):
            part = slice(k * queries, (k + 1) * queries)
            made = DenseMasks(product[:, part]) if dense else FactoredMasks(embeddings[:, part], pixels)
            return QueryOutputs(torch.zeros(1, 1, queries, device=DEVICE), predicted[k], made)

        outputs = ConceptOutputs(of(0), of(1), torch.zeros(1, 1, device=DEVICE))
        loss, _ = Sam3Criterion()(outputs, targets, Normalizers(count, 1, 1))
        torch.autograd.grad(loss, [pixels, embeddings])

    step()
    return min(peak_bytes(step) for _ in range(3))


def in_a_process_of_its_own(**case) -> int:
    # freed blocks go back to the kernel, so that resident memory follows what is held
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, json.dumps(case)]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1])


def main():
    from benchmarks.measure import device_name

    print(device_name())
    peaks = {name: in_a_process_of_its_own(**case) for name, case in CASES.items()}
    for name, peak in peaks.items():
        print(f"{name:26} {peak / 2**20:8.0f} MB")
    print(f"32 phrases against 4:       {peaks['32 phrases'] / peaks['4 phrases']:.2f}×")
    print(f"300 instances against 3:    {peaks['1 phrase, 300 instances'] / peaks['1 phrase, 3 instances']:.2f}×")
    matched, everything = (in_a_process_of_its_own(dense=dense) for dense in (False, True))
    print(f"masks of 6 instances' matched queries {matched / 2**20:.0f} MB, of all 400 queries {everything / 2**20:.0f} MB: "
          f"{everything / matched:.2f}×")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        case = json.loads(sys.argv[1])
        print(measure_masks(**case) if "dense" in case else measure_case(**case))
    else:
        main()
