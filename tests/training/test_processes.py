"""
Runs of two processes: weights and metrics, feature cache, prediction, adapters, and NaN in one process.

All runs of two processes share one launch, because most of its time is the import of libraries.
"""

import json
import subprocess
import sys

import pytest
import torch

from sam_ft.models.loading import load_model
from sam_ft.options.model import ModelOptions

from .common import (
    ROOT,
    RUN_SCRIPTS,
    SAM2_DATA,
    SAM2_STEPS,
    SAM3_DATA,
    SAM3_STEPS,
    as_run,
    build,
    build_sam2,
    distance,
    environment,
    outputs_by_run,
    weights,
)


QUIET_RUN = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "num_pictures": 0,
    "dataloader_num_workers": 0,
}
# Script of a trainer whose loss is NaN in the second process only; its arguments are data set, folder and mode.
NAN_IN_ONE_PROCESS = """
import sys
from pathlib import Path
from tests.training.common import build_sam2

dataset, folder, mode = sys.argv[1:]
Path(folder).mkdir(exist_ok=True)
trainer = build_sam2(dataset, folder, max_steps=2, per_device_train_batch_size=1)
if trainer.args.process_index == 1:
    criterion = trainer.train_step.criterion
    trainer.train_step.criterion = lambda *args: ((r := criterion(*args))[0] * float("nan"), r[1])
try:
    getattr(trainer, mode)()
except ValueError as error:
    Path(folder, f"rank-{trainer.args.process_index}.txt").write_text(str(error))
    trainer.accelerator.wait_for_everyone()
"""
# Gloo may abort when it is taken down.
END = "import os; os._exit(0)"


def words(arguments):
    return [f"--{key}={value}" for key, value in arguments.items()]


def equivalence_arguments(shapes, start, folder):
    """Return the arguments of a run that is compared with [`sam3_reference`] and with an evaluation of one process."""
    return {
        **QUIET_RUN,
        **{"model_name_or_path": start, "dataset_name": shapes, "output_dir": folder, "resize": "plain"},
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "warmup_steps": 0},
        **{"ddp_backend": "gloo", "probe_images": 2},
        **{"eval_split": "train", "max_eval_samples": 3, "per_device_eval_batch_size": 1},
        **SAM3_DATA,
        **SAM3_STEPS,
    }


def sam2_arguments(shapes, start, folder):
    return {
        **QUIET_RUN,
        **{"model_name_or_path": start, "dataset_name": shapes, "output_dir": folder, "resolution": 64},
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "ddp_backend": "gloo"},
        **{"eval_split": "train", "max_eval_samples": 3, "eval_clicks": 2, "per_device_eval_batch_size": 1},
        **SAM2_DATA,
        **(SAM2_STEPS | {"lr_scheduler_kwargs": "{}"}),
    }


def cache_arguments(shapes, folder, cache):
    arguments = {
        **QUIET_RUN,
        **{"model_name_or_path": "sam-ft/random-tiny", "dataset_name": shapes, "output_dir": folder},
        **{"resize": "plain", "max_steps": 2, "gradient_accumulation_steps": 1, "eval_before": False},
        **{"cache_text": True, "cache_views": 3, "feature_cache": cache},
    }
    return [*words(arguments), "--freeze", "vision_encoder", "text_encoder"]


def adapter_arguments(shapes, folder):
    rates = dict.fromkeys(("learning_rate", "vision_learning_rate", "text_learning_rate"), 1e-2)
    return {
        **QUIET_RUN,
        **{"model_name_or_path": "sam-ft/random-tiny", "dataset_name": shapes, "output_dir": folder},
        **{"resize": "plain", "max_steps": 2, "gradient_accumulation_steps": 1, "ddp_backend": "gloo"},
        **{"lora": "attention", "lora_r": 4, "lora_dropout": 0.1, "lr_scale": 1.0},
        **rates,
    }


def predict_arguments(shapes, folder):
    prompts = ["--phrases", "circle", "triangle", "--score_threshold", "0.3"]
    outputs = ["--outputs", "coco", "yolo", "labelme", "overlays", "parquet"]
    return ["--images", shapes, *prompts, *outputs, "--workers", "0", "--predictions_dir", folder]


@pytest.fixture(scope="module")
def two_processes(shapes, sam3_start, sam2_start, tmp_path_factory):
    """Folder of the runs of two processes, and the output of each by name."""
    folder = tmp_path_factory.mktemp("two_processes")
    (folder / "nan.py").write_text(NAN_IN_ONE_PROCESS)
    (folder / "end.py").write_text(END)
    (folder / "run.py").write_text(RUN_SCRIPTS)
    uneven = equivalence_arguments(shapes, sam3_start, folder / "uneven") | {
        "max_train_samples": 3,
        "eval_before": False,
    }
    runs = [
        as_run("sam3", "sam3_ft.py", words(equivalence_arguments(shapes, sam3_start, folder / "sam3"))),
        as_run("sam2", "sam2_ft.py", words(sam2_arguments(shapes, sam2_start, folder / "sam2"))),
        as_run(
            "cache",
            "sam3_ft.py",
            [*cache_arguments(shapes, folder / "cached", folder / "cache"), "--ddp_backend=gloo"],
        ),
        as_run("adapter", "sam3_ft.py", words(adapter_arguments(shapes, folder / "adapter"))),
        as_run("uneven", "sam3_ft.py", words(uneven)),
        as_run("predict", "sam3_predict.py", predict_arguments(shapes, folder / "predict" / "two")),
        *(as_run(mode, folder / "nan.py", [shapes, folder / mode, mode]) for mode in ("train", "evaluate")),
        as_run("end", folder / "end.py", []),
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(folder / "run.py"), json.dumps(runs)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    parts = outputs_by_run(done.stderr, runs)
    assert not [line for part in parts.values() for line in part.splitlines() if line.startswith("exit")], done.stderr
    return folder, parts


def check_metrics(values, expected):
    for name, value in values.items():
        if not name.endswith(("_runtime", "_per_second", "_preparation_time", "epoch")):
            assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name


def check_sam3_evaluation(shapes, start, run, tmp_path):
    """Check that each evaluation image occurs once, and that the metrics are those of one process."""
    truth = json.loads((run / "eval" / "ground_truth.json").read_text())
    assert len(truth["images"]) == 3
    alone = build(shapes, tmp_path / "alone", start, data={"eval_split": "train", "max_eval_samples": 3})
    expected = alone.evaluate(metric_key_prefix="before")
    metrics = json.loads((run / "before_results.json").read_text())
    assert "before_cgF1" in metrics
    check_metrics(metrics, expected)


def test_two_processes_give_the_weights_and_metrics_of_one(
    shapes, sam3_start, sam3_reference, two_processes, tmp_path
):
    """The evaluation before training must not remove DistributedDataParallel; two processes share three images."""
    folder, outputs = two_processes
    assert "× 2 processes" in outputs["sam3"]
    assert distance(weights(folder / "sam3"), sam3_reference, weights(sam3_start)) < 1e-5
    check_sam3_evaluation(shapes, sam3_start, folder / "sam3", tmp_path)


def test_two_processes_share_three_images_unevenly(sam3_start, two_processes):
    """One process repeats an image, so that their training must only end."""
    folder, outputs = two_processes
    assert "× 2 processes" in outputs["uneven"]
    assert "✓ training" in (folder / "uneven" / "training.log").read_text()
    assert len(json.loads((folder / "uneven" / "eval" / "ground_truth.json").read_text())["images"]) == 3
    trained, start = weights(folder / "uneven"), weights(sam3_start)
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())
    assert any(not torch.equal(trained[name], start[name]) for name in start)


def test_two_processes_of_sam2_give_the_weights_and_metrics_of_one(
    shapes, sam2_start, sam2_reference, two_processes, tmp_path
):
    folder, outputs = two_processes
    assert "× 2 processes" in outputs["sam2"]
    assert distance(weights(folder / "sam2"), sam2_reference, weights(sam2_start)) < 1e-5
    data = SAM2_DATA | {"eval_split": "train", "max_eval_samples": 3}
    expected = build_sam2(shapes, tmp_path / "alone", sam2_start, data=data).evaluate(metric_key_prefix="before")
    values = json.loads((folder / "sam2" / "before_results.json").read_text())
    assert "before_object_IoU" in values
    check_metrics(values, expected)


def read_files(folder):
    """Read all files but the lists with modification times."""
    files = (file for file in folder.rglob("*") if file.is_file() and ".files" not in file.parts)
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_processes_share_the_images_of_a_prediction(shapes, two_processes, script):
    """Outputs and records are equal byte for byte; only the first process logs the detections."""
    folder, outputs = two_processes
    assert outputs["predict"].count("circle: ") == 1
    status, _, output = script("sam3_predict.py", *predict_arguments(shapes, folder / "predict" / "one"))
    assert status == 0, output
    assert read_files(folder / "predict" / "two") == read_files(folder / "predict" / "one")


def test_processes_share_the_feature_cache(shapes, two_processes, script):
    folder, outputs = two_processes
    cache = folder / "cache"
    assert "6 of 12 views to compute" in outputs["cache"], "the main process's half"
    assert len(list((cache / "train").glob("*.safetensors"))) == 12
    assert len(list((cache / "validation").glob("*.safetensors"))) == 2
    # A third of the cache is deleted, and the number of processes is another.
    for file in list((cache / "train").glob("*.safetensors"))[::3]:
        file.unlink()
    status, _, output = script("sam3_ft.py", *cache_arguments(shapes, folder / "again", cache))
    assert status == 0, output
    assert "4 of 12 views to compute" in output
    assert "all 2 views are stored" in output


def test_recipe_trains_evaluates_and_saves_an_adapter(two_processes):
    folder, outputs = two_processes
    assert "× 2 processes" in outputs["adapter"]
    model = load_model(ModelOptions(str(folder / "adapter")))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert (folder / "adapter" / "before_results.json").is_file()


@pytest.mark.parametrize(
    "mode, message", [("train", "step 1: `loss` is nan"), ("evaluate", "evaluation: `loss` is nan")]
)
def test_all_processes_raise_if_one_of_them_detects_nan(two_processes, mode, message):
    folder, outputs = two_processes
    errors = [file.read_text() for file in (folder / mode).glob("rank-*.txt")]
    assert len(errors) == 2, outputs[mode][-2000:]
    assert errors[0] == errors[1]
    assert message in errors[0]
