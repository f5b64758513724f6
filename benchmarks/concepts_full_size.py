"""Benchmark of a training step of concepts in the full-size architecture: seconds of a pair, and peak memory.

    OMP_NUM_THREADS=1 python benchmarks/concepts_full_size.py

SAM 3 at 1008 px with random weights, from cached features, with the keys of `sam3_concepts.yaml`: eight tokens of each
phrase, two pairs in a chunk, checkpoints behind the encoders, two masks in a block, bf16. Every part behind the
encoders has its real size. The encoders, which a step on cached features does not call, have one layer and are
offloaded. The second case trains the heads on the same batch with the same keys, and the ratios compare the two. Each
case is a separate process; memory is its peak during the step beyond what its libraries took.

The last lines extrapolate to 20 images with 8 views: a product of the measured seconds, not a measured run.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

TOKENS, PHRASES, PRESENT, INSTANCES = 8, 4, 2, 2
CASES = ("concepts", "heads")
# Of the extrapolation: two phrases for each image; epochs of sam3_concepts.yaml.
IMAGES, VIEWS, EPOCHS, PHRASES_PER_IMAGE = 20, 8, 40, 2


def build_model():
    """Build a full-size SAM 3 with encoders of one layer in bfloat16, frozen, without their offloaded parts."""
    import torch
    from transformers import Sam3Config

    from sam_ft.models.freezing import freeze
    from sam_ft.models.sam3.random_model import build_random_model

    config = Sam3Config()
    config.vision_config.backbone_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    model = build_random_model(config, 0)
    for encoder in (model.vision_encoder, model.text_encoder):
        encoder.to(torch.bfloat16)
    freeze(model, ["vision_encoder", "text_encoder"])
    model.offload("vision_encoder.backbone", "text_encoder", "text_projection")
    model._offloaded = dict.fromkeys(model._offloaded)  # frees their memory
    model.configure(pairs_per_chunk=2, pair_checkpointing=True)
    return model


def add_random_concepts(model) -> None:
    """Freeze the model and add a concept of random tokens for each phrase."""
    import torch

    from sam_ft.models.sam3.concepts import ConceptEntry, ConceptInfo, ConceptTokens

    model.requires_grad_(False)
    width = model.config.detr_encoder_config.hidden_size
    model.concepts = ConceptTokens(ConceptInfo("random", None, model.config.image_size, width, {}))
    for number in range(PHRASES):
        model.concepts.add(ConceptEntry(f"phrase {number}"), torch.randn(TOKENS, width))


def build_batch(model, trained: str) -> dict:
    """Build a batch of one image with cached features, with its training step."""
    import torch

    from sam_ft.losses.sam3 import Sam3Criterion
    from sam_ft.models.sam3.steps import ConceptTrainingStep
    from sam_ft.testing import random_batch

    pairs = [(0, f"phrase {i}", INSTANCES if i < PRESENT else 0) for i in range(PHRASES)]
    batch = random_batch(pairs, resolution=model.config.image_size, instances_per_image=INSTANCES)
    del batch["pixel_values"]
    backbone = model.config.vision_config.backbone_config
    side = model.config.image_size // backbone.patch_size
    batch["vision_features"] = torch.randn(1, side, side, backbone.hidden_size).bfloat16()
    batch["text_features"] = torch.randn(PHRASES, 32, model.config.detr_encoder_config.hidden_size)
    if trained == "concepts":
        batch["concept_index"] = list(range(PHRASES))
    return batch | {"step": ConceptTrainingStep(Sam3Criterion(masks_per_block=2))}


def measure_case(trained: str) -> dict:
    """Measure one training step.

    Args:
        trained (`str`): `concepts` or `heads`.

    Returns:
        `dict`: Trained numbers, seconds of a pair, and peak memory of the step in bytes.
    """
    import torch

    from sam_ft.utils.memory import peak_resident_memory, reset_peak_resident_memory, resident_memory

    torch.manual_seed(0)
    torch.nn.functional.conv2d(torch.randn(1, 8, 16, 16), torch.randn(8, 8, 3, 3))  # loads the kernels
    libraries = resident_memory()
    model = build_model().train()
    if trained == "concepts":
        add_random_concepts(model)
    batch, parameters = build_batch(model, trained), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)
    for parameter in parameters:  # A step on zero gradients allocates the optimizer's states.
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    reset_peak_resident_memory()
    begin = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 0.1)
    optimizer.step()
    return {
        "trained": sum(p.numel() for p in parameters),
        "seconds": (time.process_time() - begin) / PHRASES,
        "memory": peak_resident_memory() - libraries,
        "weights": sum(t.nbytes for t in [*model.parameters(), *model.buffers()]),
    }


def run_in_subprocess(trained: str) -> dict:
    """Measure a case in a subprocess."""
    # These thresholds return freed blocks to the kernel, so that resident memory follows allocated memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, trained]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main():
    """Print the table, the ratios, and the extrapolation."""
    from benchmarks.measure import device_name

    print(f"{device_name()}; one image of 1008 px, {PHRASES} phrases, {PRESENT} of them with {INSTANCES} instances")
    print("| trained | numbers | CPU s a pair | peak memory of a step |\n|---|---|---|---|", flush=True)
    results = {}
    for trained in CASES:
        results[trained] = result = run_in_subprocess(trained)
        memory = f"{result['memory'] / 2**30:.2f} GiB, {result['weights'] / 2**30:.2f} GiB of it weights"
        print(f"| {trained} | {result['trained']:,} | {result['seconds']:.1f} | {memory} |", flush=True)
    concepts, heads = results["concepts"], results["heads"]
    ratios = ", ".join(f"{concepts[key] / heads[key]:.2f} of the {key}" for key in ("seconds", "memory"))
    print(f"concepts against heads: {ratios}")
    for name, views in {f"each of {VIEWS} views once": VIEWS, f"{EPOCHS} epochs": EPOCHS}.items():
        pairs = IMAGES * views * PHRASES_PER_IMAGE
        hours = pairs * concepts["seconds"] / 3600
        print(f"extrapolated, not measured: {IMAGES} images, {name}: {pairs} pairs, {hours:.1f} CPU hours")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure_case(sys.argv[1])))
    else:
        main()
