"""
What does a training step of SAM 2 hold and take, and what saves?

    python benchmarks/sam2.py

The real architecture of SAM 2.1 tiny (31 M parameters, random weights), one image at 512 px, eight objects, three rounds of clicks, AdamW's
states left out. Each line changes one thing of the first one; peak memory is what a forward and backward pass holds beyond what was there
before it, in a process of its own (see measure.py), as a ratio to the first line; so is the time. Then: objects one by one through the whole
model, as loops over a processor do, against all of an image behind one pass of its encoder.
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
    objects: int, rounds: int, chunk: int, side: int, checkpointing: bool = False, freeze: tuple = (), cached: bool = False,
    lora: str | None = None, apart: bool = False,
) -> tuple[int, float]:  # fmt: skip
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

    step()  # gradients exist and every buffer has been made once
    begin = time.perf_counter()
    peak = peak_bytes(step)
    return peak, time.perf_counter() - begin


def in_a_process_of_its_own(**case) -> tuple[int, float]:
    # freed blocks go back to the kernel, so that resident memory follows what is held
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main():
    from benchmarks.measure import device_name

    print(device_name())
    first = None
    for name, change in CASES.items():
        peak, seconds = in_a_process_of_its_own(**(BASE | change))
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
