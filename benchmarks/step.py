"""Benchmark of a training step against the official model: time and peak memory.

    python benchmarks/step.py

Forward, loss and backward of a reduced SAM 3 (200 queries, six layers of each stack) at 336 px with equal weights,
4 images × 8 phrases, masks on. Ours and a model composed from the `sam3` package's modules take turns. On a CPU the
plain formula replaces the package's Triton focal loss. Both run in float32, the package with the activation
checkpointing that its training mode requires.
"""

import dataclasses
import sys
from pathlib import Path

import torch


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accelerate.utils import send_to_device  # noqa: E402

from benchmarks.measure import DEVICE, device_name, peak_bytes, seconds  # noqa: E402
from benchmarks.models import reduced_config  # noqa: E402
from sam_ft.models.freezing import freeze  # noqa: E402
from sam_ft.models.processors import load_processor  # noqa: E402
from sam_ft.models.sam3.random_model import build_random_model  # noqa: E402
from sam_ft.testing import random_batch  # noqa: E402
from tests import official, official_model  # noqa: E402


IMAGES, PHRASES, RESOLUTION = 4, 8, 336


def tokenize(texts):
    """Encode phrases to tokens of shape `(phrases, 32)`, 0 in the padding."""
    tokenizer = load_processor("sam-ft/random-tiny").tokenizer
    tokens = tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
    return tokens.input_ids * tokens.attention_mask


def compare(
    images: int = IMAGES, phrases: int = PHRASES, resolution: int = RESOLUTION, repeats: int = 2
) -> dict[str, float]:
    """Measure a step of both models with equal weights.

    Args:
        images (`int`): Images of the batch.
        phrases (`int`): Phrases of each image.
        resolution (`int`): Side of the images, px.
        repeats (`int`): Measured rounds.

    Returns:
        `dict[str, float]`: Loss, seconds and peaks in MB of both, and the ratio of the seconds.
    """
    ours = build_random_model(reduced_config(resolution), 0).train().to(DEVICE)
    freeze(ours, [])
    theirs = official_model.build(ours.config, tokenize, checkpointing=True)
    official_model.copy_weights(ours, theirs)
    theirs.train().to(DEVICE)
    # Six of eight phrases are present, with one to three instances.
    pairs = [(i, f"phrase {p}", 0 if p % 4 == 3 else 1 + p % 3) for i in range(images) for p in range(phrases)]
    batch = random_batch(pairs, resolution=resolution)
    data, target = official_model.datapoint(batch, batch["labels"][0]["phrases"])
    batch, target = send_to_device(batch, DEVICE), send_to_device(target, DEVICE)
    for part in (data, data.find_inputs[0], data.find_targets[0]):
        for field in dataclasses.fields(part):
            setattr(part, field.name, send_to_device(getattr(part, field.name), DEVICE))
    wrapper = official.loss_wrapper(masks=True, positive_weight=10.0)

    def our_step():
        ours.zero_grad()
        loss = ours(**batch).loss
        loss.backward()
        return float(loss.detach())

    def their_step():
        theirs.zero_grad()
        with official.on_cpu():
            out = theirs(data)[-1]
        loss, _ = official.compute(wrapper, out, target)
        loss.backward()
        return float(loss.detach()) / len(pairs) ** 0.5

    a, b = our_step(), their_step()
    assert abs(a - b) < 1e-4 * abs(b), (a, b)
    our_time, official_time = seconds(our_step, their_step, repeats=repeats)
    return {"loss": a, "ours s": our_time, "official s": official_time, "ratio": official_time / our_time,
            "ours MB": peak_bytes(our_step) / 2**20, "official MB": peak_bytes(their_step) / 2**20}  # fmt: skip


def main():
    """Print time and peak memory of both."""
    r = compare()
    print(
        f"{device_name()}, torch {torch.__version__}; {IMAGES} images × {PHRASES} phrases at {RESOLUTION} px, "
        f"equal loss {r['loss']:.4f}"
    )
    print(f"ours {r['ours s']:.2f} s, official {r['official s']:.2f} s: {r['ratio']:.2f}× faster")
    print(
        f"peak {r['ours MB']:.0f} MB, official {r['official MB']:.0f} MB: {r['ours MB'] / r['official MB']:.2f} of it"
    )


if __name__ == "__main__":
    main()
