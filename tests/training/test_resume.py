"""Killed at any moment, a run resumes to the same weights; what is left half-written is never used."""

import shutil

import pytest
import yaml
from safetensors.torch import save_file

from sam_ft.training.checkpoints import check_checkpoint, find_checkpoints, prepare_output_dir, what_is_missing

from .common import command, kill_when, run_recipe, same, weights


ARGUMENTS = {
    "resize": "plain",
    "crop_probability": 0.3,
    "negative_ratio": 0.4,
    "geometry_token": "mixed",
    "exemplar_probability": 0.3,
    "gradient_accumulation_steps": 2,
    "max_steps": 6,
    "save_strategy": "steps",
    "save_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "eval_before": False,
    "load_best_model_at_end": False,
    "early_stopping_patience": "null",
    "dataloader_num_workers": 2,
    "report_to": "none",
    "disable_tqdm": True,
    "num_pictures": 0,
    "warmup_steps": 2,
    "cooldown_steps": 2,
    "learning_rate": 1e-2,
    "use_cpu": True,
}


def arguments(shapes, output_dir):
    given = ARGUMENTS | {"dataset_name": shapes, "output_dir": output_dir}
    return [f"--{k}={v}" for k, v in given.items() if v != "null"]


@pytest.mark.slow
def test_killed_runs_end_on_the_same_weights(shapes, tmp_path):
    run_recipe(arguments(shapes, tmp_path / "whole"), tmp_path)
    killed = tmp_path / "killed"

    def saving(step):  # the folder is there, its last file is not
        folder = killed / f"checkpoint-{step}"
        return lambda: folder.is_dir() and not (folder / "trainer_state.json").is_file()

    kill_when(saving(2), command(arguments(shapes, killed)), tmp_path)
    assert what_is_missing(find_checkpoints(killed)[0]) is not None
    kill_when(
        lambda: (killed / "checkpoint-4" / "trainer_state.json").is_file(),
        command(arguments(shapes, killed)),
        tmp_path,
    )
    output = run_recipe(arguments(shapes, killed), tmp_path)
    assert "resuming from" in output
    assert same(weights(killed), weights(tmp_path / "whole"))
    # a second run over the finished one changes nothing
    run_recipe(arguments(shapes, killed), tmp_path)
    assert same(weights(killed), weights(tmp_path / "whole"))


def make_checkpoint(folder):
    folder.mkdir(parents=True)
    import torch

    save_file({"a": torch.zeros(3)}, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_half_written_checkpoints_are_seen(tmp_path):
    assert what_is_missing(make_checkpoint(tmp_path / "checkpoint-1")) is None
    for damage, message in [
        (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json is missing"),
        (lambda c: (c / "trainer_state.json").write_text('{"a'), "trainer_state.json ends early"),
        (lambda c: (c / "model.safetensors").unlink(), "the weights are missing"),
        (lambda c: (c / "model.safetensors").write_bytes(b"\x10"), "model.safetensors ends early"),
    ]:
        checkpoint = tmp_path / "checkpoint-2"
        shutil.rmtree(checkpoint, ignore_errors=True)
        damage(make_checkpoint(checkpoint))
        assert what_is_missing(checkpoint) == message
        with pytest.raises(
            ValueError, match=rf"checkpoint-2 cannot be resumed from, {message}. Resume from .*checkpoint-1"
        ):
            check_checkpoint(str(checkpoint))


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no such folder. Start anew in another `output_dir`"):
        check_checkpoint(str(tmp_path / "checkpoint-9"))


def test_an_output_folder_belongs_to_one_run(tmp_path):
    folder = tmp_path / "out"
    settings = {"learning_rate": 1.0, "logging_steps": 5}
    assert prepare_output_dir(str(folder), settings) is None
    assert yaml.safe_load((folder / "run.yaml").read_text()) == {"learning_rate": 1.0}  # logging may differ
    assert prepare_output_dir(str(folder), settings | {"logging_steps": 9}) is None
    make_checkpoint(folder / "checkpoint-2")
    make_checkpoint(folder / "checkpoint-10")
    (folder / "checkpoint-10" / "trainer_state.json").unlink()
    assert prepare_output_dir(str(folder), settings) == str(folder / "checkpoint-2")
    assert not (folder / "checkpoint-10").exists()  # nothing half-written stays behind
    with pytest.raises(ValueError, match="other settings .`learning_rate` was 1.0, is 2.0.*delete this one"):
        prepare_output_dir(str(folder), settings | {"learning_rate": 2.0})


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("")
    with pytest.raises(ValueError, match="already holds holiday.txt and no run.yaml"):
        prepare_output_dir(str(tmp_path), {})


def test_a_failed_attempt_leaves_its_folder_free(tmp_path):
    """A wrong path is corrected and run again into the same folder."""
    folder = tmp_path / "out"
    prepare_output_dir(str(folder), {"dataset_name": "wrong"})
    (folder / "training.log").write_text("")
    assert prepare_output_dir(str(folder), {"dataset_name": "right"}) is None
    assert yaml.safe_load((folder / "run.yaml").read_text()) == {"dataset_name": "right"}
    assert not (folder / "training.log").exists()
    make_checkpoint(folder / "checkpoint-1")
    with pytest.raises(ValueError, match="other settings"):
        prepare_output_dir(str(folder), {"dataset_name": "third"})


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`output_dir`: .*file/out cannot be used"):
        prepare_output_dir(str(tmp_path / "file" / "out"), {})
