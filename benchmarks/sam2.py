"""Benchmark of a training step of SAM 2: peak memory and time of each change.

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
from dataclasses import asdict, dataclass, field
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@dataclass
class Case:
    """Settings of a measured step.

    Attributes:
        objects (`int`): Objects of the image.
        rounds (`int`): Rounds of clicks.
        chunk (`int`): Objects in memory at once.
        side (`int`): Side of the input in px.
        checkpointing (`bool`): Whether the image encoder recomputes activations.
        freeze (`list[str]`): Frozen parts.
        cached (`bool`): Whether the image encoder's features are precomputed.
        lora (`str`, *optional*): LoRA preset.
        apart (`bool`): Whether each object is a batch of its own.
    """

    objects: int = 8
    rounds: int = 3
    chunk: int = 4
    side: int = 512
    checkpointing: bool = False
    freeze: list[str] = field(default_factory=list)
    cached: bool = False
    lora: str | None = None
    apart: bool = False


CASES = {
    "8 objects, 3 rounds, 4 objects in memory": Case(),
    "`objects_per_chunk: 1`": Case(chunk=1),
    "`objects_per_chunk: 8`": Case(chunk=8),
    "32 objects": Case(objects=32),
    "`n_rounds: 1`": Case(rounds=1),
    "`n_rounds: 8`": Case(rounds=8),
    "`vision_checkpointing: true`": Case(checkpointing=True),
    "`freeze: [vision_encoder]`": Case(freeze=["vision_encoder"]),
    "`the same, feature_cache`": Case(freeze=["vision_encoder"], cached=True),
    "`lora: attention`": Case(lora="attention"),
    "`resolution: 256`": Case(side=256),
    "objects one by one": Case(apart=True),
}


def build_model(case: Case):
    """Build the model of a case."""
    from transformers import Sam2Config

    from benchmarks.measure import DEVICE
    from sam_ft.models.activation_checkpointing import enable_activation_checkpointing
    from sam_ft.models.freezing import freeze
    from sam_ft.models.lora import add_adapters
    from sam_ft.models.sam2.config import set_resolution
    from sam_ft.models.sam2.random_model import build_random_model
    from sam_ft.models.unwrapping import unwrap_sam
    from sam_ft.options.model import LoraOptions

    config = Sam2Config()
    set_resolution(config, case.side)
    model = build_random_model(config, 0).train().to(DEVICE)
    if case.checkpointing:
        enable_activation_checkpointing(model)
    if case.lora:
        model = add_adapters(model, LoraOptions(case.lora)).to(DEVICE)
    freeze(model, case.freeze)
    unwrap_sam(model).configure(objects_per_chunk=case.chunk)
    return model


def measure_case(case: Case) -> tuple[int, float]:
    """Measure a training step.

    Args:
        case (`Case`): Its settings.

    Returns:
        `tuple[int, float]`: Peak bytes and seconds.
    """
    import torch
    from accelerate.utils import send_to_device

    from benchmarks.measure import DEVICE, peak_bytes
    from sam_ft.models.unwrapping import unwrap_sam
    from sam_ft.testing import random_prompts

    model = build_model(case)
    sam2 = unwrap_sam(model)
    batches = [
        random_prompts([1 if case.apart else case.objects], resolution=case.side, rounds=case.rounds, seed=i)
        for i in range(case.objects if case.apart else 1)
    ]
    batches = [send_to_device(batch, DEVICE) for batch in batches]
    if case.cached:
        with torch.no_grad():
            features = sam2.encode_images(batches[0].pop("pixel_values"))
        batches[0]["vision_features"] = features.to(torch.bfloat16)
        sam2.offload(*sam2.offloaded_when_cached)

    def step():
        for batch in batches:
            model(**batch).loss.backward()
        model.zero_grad(set_to_none=False)

    step()  # Warm-up: gradients and buffers are allocated.
    begin = time.perf_counter()
    peak = peak_bytes(step)
    return peak, time.perf_counter() - begin


def run_in_subprocess(case: Case) -> tuple[int, float]:
    """Measure a case in a subprocess."""
    # These thresholds return freed blocks to the kernel, so that resident memory follows allocated memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, json.dumps(asdict(case))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main():
    """Print the table."""
    from benchmarks.measure import device_name

    print(device_name())
    first = None
    for name, case in CASES.items():
        peak, seconds = run_in_subprocess(case)
        first = first or (peak, seconds)
        print(
            f"| {name} | {peak / first[0]:.2f} | {seconds / first[1]:.2f} |   {peak / 2**20:.0f} MB, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure_case(Case(**json.loads(sys.argv[1])))))
    else:
        main()
