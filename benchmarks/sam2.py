"""Benchmark of a training step of SAM 2: peak memory and time of each lever.

    python benchmarks/sam2.py

The architecture of SAM 2.1 tiny (31 M parameters, random weights), one image at 512 px, eight objects, three rounds of
clicks, without AdamW's states. Each line changes one setting of the first line. Peak memory is that of a forward and
backward pass beyond the memory held before it, in a separate process (see measure.py); peak and time are ratios to the
first line. The last line runs objects one by one through the whole model, as loops over a processor do.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BASE = {"objects": 8, "rounds": 3, "chunk": 4, "side": 512}
CASES = {
    "8 objects, 3 rounds, 4 objects in memory": {},
    "`objects_per_chunk: 1`": {"chunk": 1},
    "`objects_per_chunk: 8`": {"chunk": 8},
    "32 objects": {"objects": 32},
    "`n_rounds: 1`": {"rounds": 1},
    "`n_rounds: 8`": {"rounds": 8},
    "`vision_checkpointing: true`": {"checkpointing": True},
    "`freeze: [vision_encoder]`": {"freeze": ["vision_encoder"]},
    "`the same, feature_cache`": {"freeze": ["vision_encoder"], "cached": True},
    "`lora: attention`": {"lora": "attention"},
    "`resolution: 256`": {"side": 256},
    "objects one by one": {"apart": True},
}


def measure_case(
    objects: int, rounds: int, chunk: int, side: int, checkpointing: bool = False, freeze: tuple = (),
    cached: bool = False, lora: str | None = None, apart: bool = False,
) -> tuple[int, float]:  # fmt: skip
    """Measure a training step.

    Args:
        objects (`int`): Objects of the image.
        rounds (`int`): Rounds of clicks.
        chunk (`int`): Objects in memory at once.
        side (`int`): Side of the input in px.
        checkpointing (`bool`): Whether the image encoder recomputes activations.
        freeze (`tuple`): Frozen parts.
        cached (`bool`): Whether the image encoder's features are precomputed.
        lora (`str`, *optional*): LoRA preset.
        apart (`bool`): Whether each object is a batch of its own.

    Returns:
        `tuple[int, float]`: Peak bytes and seconds.
    """
    import torch
    from accelerate.utils import send_to_device
    from transformers import Sam2Config

    from benchmarks.measure import DEVICE, peak_bytes
    from sam_ft.models.freezing import freeze as freeze_parts
    from sam_ft.models.lora import LoraOptions, add_adapters, sam_of
    from sam_ft.models.sam2.config import random_sam2, set_sam2_resolution
    from sam_ft.testing import random_prompts

    config = Sam2Config()
    set_sam2_resolution(config, side)
    model = random_sam2(config, 0).train().to(DEVICE)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora:
        model = add_adapters(model, LoraOptions(lora)).to(DEVICE)
    freeze_parts(model, list(freeze))
    sam2 = sam_of(model)
    sam2.objects_per_chunk = chunk
    batches = [
        random_prompts([1] * 1 if apart else [objects], resolution=side, rounds=rounds, seed=i)
        for i in range(objects if apart else 1)
    ]
    batches = [send_to_device(batch, DEVICE) for batch in batches]
    if cached:
        with torch.no_grad():
            features = sam2.encode_images(batches[0].pop("pixel_values"))
        batches[0]["vision_features"] = features.to(torch.bfloat16)
        sam2.park(*sam2.parked_when_cached)

    def step():
        for batch in batches:
            model(**batch).loss.backward()
        model.zero_grad(set_to_none=False)

    step()  # Warm-up: gradients and buffers are allocated.
    begin = time.perf_counter()
    peak = peak_bytes(step)
    return peak, time.perf_counter() - begin


def run_in_subprocess(**case) -> tuple[int, float]:
    """Measure a case in a subprocess."""
    # These thresholds return freed blocks to the kernel, so that resident memory follows allocated memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main():
    """Print the table."""
    from benchmarks.measure import device_name

    print(device_name())
    first = None
    for name, change in CASES.items():
        peak, seconds = run_in_subprocess(**(BASE | change))
        first = first or (peak, seconds)
        print(
            f"| {name} | {peak / first[0]:.2f} | {seconds / first[1]:.2f} |   {peak / 2**20:.0f} MB, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure_case(**json.loads(sys.argv[1]))))
    else:
        main()
