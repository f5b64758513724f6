"""Recipes as a user runs them, and their YAML files."""

import json
import os
import re
import subprocess
import time

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from ..training.common import ROOT, run_recipe


CONFIGS = sorted((ROOT / "recipes" / "configs").rglob("*.yaml"))
ACCELERATE = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def load(script):
    import importlib.util

    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe_of(config):
    """Return the script of a YAML file."""
    return "sam2_ft.py" if config.name.startswith("sam2_") else "sam3_ft.py"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_all_keys_of_all_yaml_files_are_valid(file):
    arguments = (
        load(ROOT / "recipes" / recipe_of(file))
        .COMMAND.make_parser()
        .parse(["--config", str(file), "--use_cpu", "true"])
    )
    assert len(arguments) == 4
    assert yaml.safe_load(file.read_text())
    assert len(CONFIGS) >= 4


@pytest.mark.parametrize("file", ACCELERATE, ids=lambda f: f.name)
def test_accelerate_configs_load(file):
    config = load_config_from_file(str(file))
    assert config.num_processes >= 1
    assert {f.stem for f in ACCELERATE} == {
        "cpu", "single_gpu", "multi_gpu", "fsdp2", "fsdp2_offload", "deepspeed_zero2", "deepspeed_zero2_offload",
    }  # fmt: skip


def test_fsdp_layer_names_exist():
    from sam_ft.testing import tiny_sam3

    config = yaml.safe_load((ROOT / "accelerate_configs" / "fsdp2.yaml").read_text())["fsdp_config"]
    names = set(config["fsdp_transformer_layer_cls_to_wrap"].split(","))
    assert names == {"Sam3ViTLayer", "CLIPEncoderLayer"}
    assert names <= {type(m).__name__ for m in tiny_sam3().modules()}


@pytest.mark.parametrize("recipe", ["sam3_ft.py", "sam3_predict.py"])
def test_the_slurm_script_starts_each_node_with_its_own_rank(tmp_path, recipe):
    """SLURM's commands are replaced by stubs; the script runs as on the second of two nodes."""
    stubs = {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": '"$@"',
        "accelerate": 'printf "%s|" "$@"',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    options = {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_GPUS_ON_NODE": "4"}  # fmt: skip
    if recipe != "sam3_ft.py":
        options["RECIPE"] = recipe
    config = "recipes/configs/sam3_full.yaml"
    done = subprocess.run(
        ["bash", str(ROOT / "recipes" / "slurm.sh"), config, "--dataset_name", "my data"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **options}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = done.stdout.strip("|").split("|")
    values = dict(zip(words, words[1:], strict=False))
    assert values["--num_machines"] == "2"
    assert values["--num_processes"] == "8"
    assert values["--machine_rank"] == "1"
    assert values["--main_process_ip"] == "node-a"
    assert words[words.index(f"recipes/{recipe}") :] == [
        f"recipes/{recipe}",
        "--config",
        config,
        "--dataset_name",
        "my data",
    ]


def test_a_stopped_slurm_job_is_queued_again(tmp_path):
    """The batch shell receives the signal, passes it on, waits for the checkpoint, and queues the job."""
    stubs = {
        "scontrol": 'if [ "$1" = requeue ]; then echo "$@" >> log; else echo node-a; fi',
        "srun": "trap 'echo saved >> log; exit 143' TERM\necho started >> log\nfor i in $(seq 200); do sleep 0.05; done",
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    options = {"SLURM_JOB_NODELIST": "node-a", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "1"}
    process = subprocess.Popen(
        ["bash", str(ROOT / "recipes" / "slurm.sh"), "a.yaml"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **options},
    )
    while not (tmp_path / "log").is_file():
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "log").read_text().split("\n")[:-1] == ["started", "saved", "requeue 7"]


SHORT = ["--max_steps=2", "--gradient_accumulation_steps=1", "--dataloader_num_workers=0", "--disable_tqdm=true"]


@pytest.mark.slow
def test_run_writes_all_files_and_can_be_evaluated(shapes, tmp_path):
    arguments = [f"--dataset_name={shapes}", "--output_dir=out", "--resize=plain", *SHORT]
    output = run_recipe(
        [*arguments, "--eval_strategy=steps", "--eval_steps=1", "--save_strategy=steps", "--save_steps=1"], tmp_path
    )
    start, end = output.split("step 1 of 2", 1)
    notes = [line for line in start.splitlines() if line.startswith("note: ")]
    assert len(start.splitlines()) - len(notes) <= 10, output
    for text in ("training data ", "3 phrases", "all weights: ", "evaluation ", "memory options "):
        assert text in start
    assert "step 2 of 2, evaluation: mask AP50 " in end
    assert re.search(r"trained phrases .*\n(.*\n){3,7}next .* predict ", output), output
    out = tmp_path / "out"
    for name in ("model.safetensors", "config.json", "processor_config.json", "tokenizer.json", "training.log", "run.yaml",
                 "eval_results.json", "before_results.json", "checkpoint-2/optimizer.pt", "eval/results.json"):  # fmt: skip
        assert (out / name).is_file(), name
    assert list(out.glob("runs/**/events*"))
    assert list(out.glob("eval/pictures/*.png"))
    log = (out / "training.log").read_text()
    for text in ("✓ data", "✓ model", "✓ one batch", "✓ training", "✓ evaluation", "memory options", "next "):
        assert text in log
    assert "loss_mask" in log
    assert re.search(r"^ +before +after\nloss ", log, re.MULTILINE)

    from transformers import Sam3Model, Sam3Processor

    model, report = Sam3Model.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert Sam3Processor.from_pretrained(out)(text="cat", return_tensors="pt")["input_ids"].shape[1] == 32

    module = load(ROOT / "recipes" / "sam3_eval.py")
    again = module.COMMAND.run(
        [
            f"--dataset_name={shapes}",
            f"--model_name_or_path={out}",
            f"--output_dir={tmp_path / 'score'}",
            "--use_cpu=true",
        ]
    )
    stored = json.loads((out / "eval_results.json").read_text())
    assert again["eval_loss"] == pytest.approx(stored["eval_loss"], rel=1e-5)
    assert again["eval_box_AP"] == pytest.approx(stored["eval_box_AP"], abs=1e-6)
    assert (tmp_path / "score" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda f: f.name)
def test_dry_run_succeeds_and_leaves_no_file(config, shapes, tmp_path, script):
    recipe = recipe_of(config)
    options = [
        f"--model_name_or_path={'sam-ft/tiny' if recipe == 'sam3_ft.py' else 'sam-ft/random-tiny-sam2'}",
        "--resolution=96",
        "--optim=adamw_torch",
    ]
    if recipe == "sam3_ft.py":
        options.append("--probe_images=1")
    if config.name != "sam3_streaming.yaml":
        options.append("--dataloader_num_workers=0")
    if not str(yaml.safe_load(config.read_text()).get("dataset_name")).startswith("synthetic"):
        options.append(f"--dataset_name={shapes}")
    status, _, output = script(recipe, "--config", config, *options, "--dry_run", "--use_cpu=true")
    assert status == 0, output
    for stage in ("config", "data", "model", "one batch", "one optimizer step", "evaluation"):
        assert f"✓ {stage}" in output
    assert "✓ dry run: every stage works here" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset_name=nowhere"], "there is no folder 'nowhere'"),
        (["--model_name_or_path=./nothing"], "there is no folder './nothing'"),
        (["--resolution=100"], "use 96 or 104"),
        (["--learning_rat=1"], "Did you mean `--learning_rate`"),
        (["--freeze", "backbone"], "`freeze` has no part 'backbone'"),
        (["--config=missing.yaml"], "there is no file 'missing.yaml'"),
    ],
)
def test_invalid_arguments_give_one_line(arguments, message, shapes, script):
    status, _, errors = script("sam3_ft.py", f"--dataset_name={shapes}", "--output_dir=out", *SHORT, *arguments)
    assert status == 1
    assert message in errors
    assert "Traceback" not in errors
