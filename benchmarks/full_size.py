"""Benchmark of a training step of the full-size model: time, peak memory and FLOP utilisation.

    python benchmarks/full_size.py                                  # every mode with 1, 8 and 32 phrases per image
    python benchmarks/full_size.py --caps_gb 8 16 24                # and whether each mode fits such GPUs
    python benchmarks/full_size.py --reduced                        # a small model, to run the code on a CPU

SAM 3's 840 M-parameter architecture with random weights at 1008 px, one image per step, two instances of every other
phrase, masks on; forward, backward and update, with bf16 autocast on a GPU. Each cell runs in a separate process.
Peaks are the allocator's, without the context. A cap is `set_per_process_memory_fraction`, with every lever that
changes no result.

Model FLOP utilisation counts 5.6 TFLOP per image for the ViT and 0.43 per pair behind it (DESIGN, section 4): once for
the forward pass, once for the gradients of activations where there are any, once for those of trained weights.
Recomputation does not count. The peak is the GPU's dense bf16 rate.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

IMAGE_TFLOP, PAIR_TFLOP = 5.6, 0.43
DENSE_BF16_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165, "3090": 71, "L4": 121}
ENCODERS = ["vision_encoder", "text_encoder"]
# Mode -> LoRA preset, frozen parts, passes of the ViT, passes of the rest.
MODES = {
    "full": (None, [], 3, 3),
    "LoRA all": ("attention", [], 2, 2),
    "LoRA vision": ("vision", [], 2, 2),
    "LoRA detr": ("detr", [], 1, 2),
    "heads": (None, ENCODERS, 1, 3),
    "cached": (None, ENCODERS, 0, 3),
}
STEPS = 4


def build(mode: str, levers: bool, reduced: bool):
    """Build a model in training mode.

    Args:
        mode (`str`): Key of `MODES`.
        levers (`bool`): Whether to use every memory lever that changes no result.
        reduced (`bool`): Whether to build a small model.

    Returns:
        `tuple`: The model and its device.
    """
    import torch
    from transformers import Sam3Config

    from benchmarks.models import reduced_config
    from sam_ft.models.freezing import freeze
    from sam_ft.models.lora import LoraOptions, add_adapters, sam_of
    from sam_ft.models.sam3.model import Sam3ForConceptSegmentation

    lora, frozen, *_ = MODES[mode]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = reduced_config(336) if reduced else Sam3Config()
    with torch.device(device):
        model = Sam3ForConceptSegmentation(config)
    if frozen or lora:
        for encoder in (model.vision_encoder, model.text_encoder):
            for parameter in encoder.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
    if lora:
        model = add_adapters(model, LoraOptions(lora, r=8))
    else:
        freeze(model, frozen)
    sam3 = sam_of(model)
    sam3.pairs_per_chunk, sam3.pair_checkpointing = (1, True) if levers else (4, False)
    sam3.criterion.masks_per_block = 2 if levers else 8
    trunk_trains = any(p.requires_grad for p in sam3.vision_encoder.parameters())
    if trunk_trains:  # Without it the ViT's activations alone take tens of gigabytes.
        sam3.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.to(device).train(), device


def make_batch(model, device: str, phrases: int, mode: str) -> dict:
    """Build a batch of one image; in mode `cached` with features, and offload the encoders."""
    import torch
    from accelerate.utils import send_to_device

    from sam_ft.models.lora import sam_of
    from sam_ft.testing import random_batch

    sam3 = sam_of(model)
    side = sam3.config.image_size
    pairs = [(0, f"phrase {i}", 2 if i % 2 == 0 else 0) for i in range(phrases)]
    batch = send_to_device(random_batch(pairs, resolution=side, instances_per_image=2), device)
    # The packaged tokenizer has another vocabulary; the benchmark needs any valid token ids.
    batch["input_ids"] = batch["input_ids"].clamp(max=sam3.config.text_config.vocab_size - 1)
    if mode == "cached":
        with torch.no_grad(), autocast(device):
            batch["vision_features"] = sam3.encode_images(batch.pop("pixel_values")).to(torch.bfloat16)
            batch["text_features"] = sam3.encode_texts(batch["input_ids"], batch["attention_mask"]).float()
        sam3.park("vision_encoder.backbone", "text_encoder", "text_projection")
    return batch


def autocast(device: str):
    """Return bf16 autocast on a GPU, and no autocast on a CPU."""
    import torch

    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()


def measure(mode: str, phrases: int, cap_gb: float | None, reduced: bool) -> dict:
    """Measure a training step.

    Args:
        mode (`str`): Key of `MODES`.
        phrases (`int`): Phrases of the image.
        cap_gb (`float`, *optional*): Memory cap in GB; none by default.
        reduced (`bool`): Whether to measure a small model.

    Returns:
        `dict`: `seconds` (median) and `peak` (bytes).
    """
    import torch

    from benchmarks.measure import peak_bytes

    if cap_gb and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(cap_gb * 2**30 / total, 1.0))
    model, device = build(mode, bool(cap_gb), reduced)
    batch = make_batch(model, device, phrases, mode)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_adamw_8bit(trained) if cap_gb and mode == "full" else torch.optim.AdamW(trained, lr=1e-5)

    def step():
        with autocast(device):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # Gradients stay allocated, as in an accumulation window.

    step()
    if device == "cuda":
        torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated() if device == "cuda" else 0
    times = []

    def timed():
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)

    peak = peak_bytes(timed) + held
    return {"seconds": sorted(times)[len(times) // 2], "peak": peak}


def build_adamw_8bit(parameters):
    """Build AdamW with 8-bit states."""
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, lr=1e-5)


def utilisation(mode: str, phrases: int, seconds: float, name: str) -> str:
    """Format the model FLOP utilisation of a step; empty for a GPU without an entry in `DENSE_BF16_TFLOPS`."""
    rate = next((rate for card, rate in DENSE_BF16_TFLOPS.items() if card in name), None)
    *_, image_passes, pair_passes = MODES[mode]
    tflop = image_passes * IMAGE_TFLOP + pair_passes * PAIR_TFLOP * phrases
    return "" if rate is None else f"{tflop / seconds / rate:.0%}"


def run_in_subprocess(**cell) -> dict | None:
    """Measure a cell in a subprocess; `None` where memory runs out."""
    done = subprocess.run([sys.executable, __file__, "--cell", json.dumps(cell)], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "OutOfMemoryError" in done.stderr or done.returncode < 0:
        return None
    raise RuntimeError(done.stderr[-2000:])


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--phrases", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--caps_gb", nargs="*", type=float, default=[])
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measure(**json.loads(args.cell))))
        return

    from benchmarks.measure import device_name

    print(
        f"{device_name()}\n\n| mode | phrases | s per step | images/s | peak GB | FLOP utilisation |\n"
        "|---|---|---|---|---|---|"
    )
    for mode in args.modes:
        for phrases in args.phrases:
            cell = run_in_subprocess(mode=mode, phrases=phrases, cap_gb=None, reduced=args.reduced)
            if cell is None:
                print(f"| {mode} | {phrases} | out of memory | | | |", flush=True)
                continue
            used = "" if args.reduced else utilisation(mode, phrases, cell["seconds"], device_name())
            numbers = f"{cell['seconds']:.2f} | {1 / cell['seconds']:.2f} | {cell['peak'] / 2**30:.1f}"
            print(f"| {mode} | {phrases} | {numbers} | {used} |", flush=True)
    for cap in args.caps_gb:
        print(f"\n| mode in {cap:g} GB | phrases | fits | peak GB | s per step |\n|---|---|---|---|---|")
        for mode in args.modes:
            cell = run_in_subprocess(mode=mode, phrases=8, cap_gb=cap, reduced=args.reduced)
            numbers = "no | |" if cell is None else f"yes | {cell['peak'] / 2**30:.1f} | {cell['seconds']:.2f}"
            print(f"| {mode} | 8 | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
