"""Cells of the GPU report that compare: prediction, loader and losses with the official code, and whole commands."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu_setup import (
    FAKE_LIMIT_FACTOR,
    IS_FAKE,
    autocast,
    batch_for,
    build,
    device,
    median_seconds,
    peaks,
    synchronize,
)


ROOT = Path(__file__).resolve().parents[1]
DEMO = ["--config", "recipes/configs/demo_full.yaml"]
COMMANDS = {  # name -> words after the interpreter; {out} is a temporary folder
    "plan of the demo": ["recipes/plan.py", *DEMO, "--output_dir", "{out}/plan"],
    "dry run with a feature cache": [
        "recipes/sam3_ft.py", *DEMO, "--output_dir", "{out}/dry", "--dry_run", "true", "--probe_images", "2",
        "--freeze", "vision_encoder", "text_encoder", "--cache_text", "true", "--feature_cache", "{out}/features",
    ],
    "demo": ["recipes/sam3_ft.py", *DEMO, "--output_dir", "{out}/demo"],
}  # fmt: skip
FAKE_KEYS = ["--use_cpu", "true", "--scene_train_images", "4", "--scene_eval_images", "2"]
FAKE_DEMO = ["--max_steps", "2", "--probe_images", "2", "--eval_strategy", "no", "--save_strategy", "no"]


def evaluation() -> dict:
    """Prediction of 20 phrases for 8 images, together and one by one as `Sam3Model` does."""
    from sam_ft.models.sam3.steps import ConceptPredictionStep
    from sam_ft.options.evaluation import DetectionLimits

    images, phrases = (2, 4) if IS_FAKE[0] else (8, 20)
    model, sam3 = build({"chunk": 8})
    model.eval()
    singles = [batch_for(sam3, phrases=phrases) for _ in range(images)]

    def together():
        with torch.no_grad(), autocast():
            for batch in singles:
                model(**batch | {"step": ConceptPredictionStep(DetectionLimits(0.0, 10), lambda _: None)})
        synchronize()

    def one_by_one():
        with torch.no_grad(), autocast():
            for batch in singles:
                pixels = batch["pixel_values"].float() / 127.5 - 1
                for p in range(phrases):
                    model(pixel_values=pixels, input_ids=batch["input_ids"][p : p + 1],
                          attention_mask=batch["attention_mask"][p : p + 1])  # fmt: skip
        synchronize()

    quick, slow = median_seconds(together, 1, 3), median_seconds(one_by_one, 1, 1)
    return {"together s an image": round(quick / images, 4), "one by one s an image": round(slow / images, 4),
            "ratio": round(slow / quick, 2), **peaks()}  # fmt: skip


def run_length_encoding() -> dict:
    """Detections of one image of 2 megapixels with 50 masks: resizing, encoding on the device and by pycocotools."""
    from benchmarks.eval import time_of_encoding

    size, number = ((120, 160), 4) if IS_FAKE[0] else ((1200, 1600), 50)
    return time_of_encoding(size, number, device())


def criterion() -> dict:
    """Criterion against the official one with its Triton focal loss."""
    from benchmarks.criterion import compare

    reduction = 9 if IS_FAKE[0] else 1
    return {"box-only": compare(with_masks=False, reduction=reduction),
            "with masks": compare(with_masks=True, reduction=reduction)}  # fmt: skip


def step() -> dict:
    """Training step of a reduced model against the official one."""
    from benchmarks.step import compare

    return compare(1, 2, 112, repeats=1) if IS_FAKE[0] else compare()


def loader() -> dict:
    """Rows per second of one core against the official loader."""
    from benchmarks.data import compare, write_photos

    with tempfile.TemporaryDirectory() as folder:
        number = 2 if IS_FAKE[0] else 24
        return compare(write_photos(Path(folder) / "photos", number), number, rounds=1 if IS_FAKE[0] else 3)


def command(name: str, limit: float) -> dict:
    """A command of the package, run as a user does; its time and last lines.

    Args:
        name (`str`): Key of `COMMANDS`.
        limit (`float`): Seconds after which the command is killed.

    Raises:
        RuntimeError: If the command fails; with its last lines.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [word.format(out=folder) for word in COMMANDS[name]]
        if IS_FAKE[0]:
            limit *= FAKE_LIMIT_FACTOR
            words += FAKE_KEYS + (FAKE_DEMO if name == "demo" else [])
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=limit, env=environment
        )
    lines = (done.stdout + done.stderr).splitlines()
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {' / '.join(lines[-5:])}")
    return {"seconds": round(time.perf_counter() - begin, 1), "lines": lines[-60:]}
