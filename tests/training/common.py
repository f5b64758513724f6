"""Helpers that build trainers as the recipe does, and run the recipe in a separate process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from sam_ft.arguments import (
    DataArguments,
    LossArguments,
    ModelArguments,
    Sam2DataArguments,
    Sam2LossArguments,
    Sam2ModelArguments,
)
from sam_ft.commands.build import load_sam
from sam_ft.commands.build_concepts import add_concepts_of_run
from sam_ft.commands.build_sam2 import build_sam2_trainer
from sam_ft.commands.build_sam3 import build_sam3_trainer
from sam_ft.commands.key_conversion import to_dataset_options, to_read_options
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.models.loading import load_model
from sam_ft.models.processors import load_processor
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2, TINY
from sam_ft.training.training_arguments import Sam2TrainingArguments, Sam3TrainingArguments


ROOT = Path(__file__).resolve().parents[2]


QUIET = {
    "report_to": [],
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "eval_strategy": "no",
    "save_strategy": "no",
    "num_pictures": 0,
    "warmup_steps": 0,
    "logging_steps": 1,
    "use_cpu": True,
}


# Plain gradient descent, because Adam would amplify rounding errors of vanishing gradients to the size of a step.
# Some seeds exceed the tolerance of 1e-5, probably because rounding switches a ReLU near 0; this one does not.
SAM3_STEPS = {
    "seed": 2,
    "optim": "sgd",
    "learning_rate": 1e-3,
    "vision_learning_rate": 1e-3,
    "text_learning_rate": 1e-3,
    "lr_scale": 1.0,
    "max_steps": 2,
    "lr_schedule": "transformers",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}
SAM3_DATA = {"crop_probability": 0.5, "exemplar_probability": 0.5, "negative_ratio": 0.4}
SAM2_STEPS = {
    "optim": "sgd",
    "learning_rate": 1e-2,
    "max_steps": 2,
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": {},
    "max_grad_norm": 0.0,
}
SAM2_DATA = {
    "prompt_type": "mixed",
    "n_rounds": 3,
    "max_objects_per_image": 16,
    "max_points": 2,
    "mask_prompt_probability": 0.3,
}
# Script that runs several scripts in one process, because separate processes would spend most of their time on imports.
RUN_SCRIPTS = """
import json, logging, os, runpy, sys
for run in json.loads(sys.argv[1]):
    if os.environ.get("RANK", "0") == "0":
        print("=== " + run["name"], file=sys.stderr, flush=True)
    logging.getLogger("sam_ft").handlers.clear()
    original, sys.argv = sys.argv, [run["script"], *run["arguments"]]
    try:
        runpy.run_path(run["script"], run_name="__main__")
    except SystemExit as end:
        print(f"exit {end.code}", file=sys.stderr)
    sys.argv = original
"""


def build(dataset, output_dir, model_name=RANDOM_TINY, *, data=None, loss=None, model=None, **training):
    """Build a trainer on a COCO folder; `data`, `loss` and `model` are dictionaries of keys."""
    training_args = Sam3TrainingArguments(**(QUIET | {"output_dir": str(output_dir)} | training))
    data_args = DataArguments(dataset_name=str(dataset), **({"resize": "plain"} | (data or {})))
    model_args = ModelArguments(model_name_or_path=str(model_name), **(model or {}))
    rows = load_phrase_dataset(to_dataset_options(data_args), to_read_options(data_args))
    sam3, processor = load_sam(model_args, training_args.seed)
    add_concepts_of_run(sam3, processor, rows, model_args, training_args.seed)
    return build_sam3_trainer(sam3, processor, rows, data_args, LossArguments(**(loss or {})), training_args)


def build_sam2(dataset, output_dir, model_name=RANDOM_TINY_SAM2, *, data=None, loss=None, model=None, **training):
    """Build a trainer of SAM 2, as [`build`]."""
    training_args = Sam2TrainingArguments(**(QUIET | {"output_dir": str(output_dir)} | training))
    data_args = Sam2DataArguments(**({"dataset_name": str(dataset), "eval_clicks": 2} | (data or {})))
    model_args = Sam2ModelArguments(
        model_name_or_path=str(model_name), **({"resolution": 64, "objects_per_chunk": 64} | (model or {}))
    )
    rows = load_phrase_dataset(to_dataset_options(data_args), to_read_options(data_args))
    sam2, processor = load_sam(model_args, training_args.seed)
    return build_sam2_trainer(sam2, processor, rows, data_args, Sam2LossArguments(**(loss or {})), training_args)


def build_stream(output_dir, model_name=TINY, *, scenes):
    """Build a trainer that evaluates on held-out synthetic scenes."""
    training_args = Sam3TrainingArguments(
        output_dir=str(output_dir), report_to=[], num_pictures=0, per_device_eval_batch_size=16, use_cpu=True,
        dataloader_num_workers=0,
    )  # fmt: skip
    data_args = DataArguments(dataset_name="synthetic-stream", scene_eval_images=scenes)
    rows = load_phrase_dataset(to_dataset_options(data_args), to_read_options(data_args), with_train=False)
    sam3, processor = load_sam(ModelArguments(model_name_or_path=model_name, pairs_per_chunk=64), training_args.seed)
    return build_sam3_trainer(sam3, processor, rows, data_args, LossArguments(), training_args)


def save_model_without_dropout(folder):
    """Save a tiny model without dropout, so that runs with other batch sizes can be compared."""
    from sam_ft.options.model import ModelOptions

    model = load_model(ModelOptions(RANDOM_TINY))
    for part in ("geometry_encoder_config", "detr_encoder_config", "detr_decoder_config"):
        getattr(model.config, part).dropout = 0.0
    model.save_pretrained(folder)
    load_processor(RANDOM_TINY).save_pretrained(folder)
    return folder


def command(arguments, recipe="sam3_ft.py"):
    return [sys.executable, str(ROOT / "recipes" / recipe), *map(str, arguments)]


def environment():
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


def run_recipe(arguments, cwd):
    """Run a recipe and return its output; raise if it fails."""
    done = subprocess.run(command(arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def as_run(name, script, arguments):
    """Return a run of [`RUN_SCRIPTS`]; a script without a folder is a recipe."""
    return {"name": name, "script": str(ROOT / "recipes" / script), "arguments": [str(word) for word in arguments]}


def outputs_by_run(text, runs):
    """Split the error stream of [`RUN_SCRIPTS`] by the names of the runs."""
    parts = dict(part.split("\n", 1) for part in text.split("=== ")[1:])
    assert parts.keys() == {run["name"] for run in runs}, text[-3000:]
    return parts


def kill_when(condition, command, cwd, number=signal.SIGKILL):
    """Start a command, send it a signal as soon as the condition holds, and return its exit status."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(number)
    return process.wait(timeout=60)


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def distance(first, second, start):
    """Difference of two results, relative to how far the second moved from its start."""
    difference = sum((first[k] - second[k]).square().sum() for k in second) ** 0.5
    moved = sum((second[k] - start[k]).square().sum() for k in second) ** 0.5
    assert moved > 0
    return float(difference / moved)


def have_equal_tensors(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
