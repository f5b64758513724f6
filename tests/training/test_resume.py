"""Resumption: a killed run ends with the same weights, and damaged checkpoints are not used."""

import signal
from dataclasses import dataclass

import pytest
import torch
import yaml
from safetensors.torch import save_file

from sam_ft.commands.run_folder import RUN_FOLDER, keep_images_per_step, prepare_run_folder, record_run
from sam_ft.training.checkpoints import (
    RUN_KIND,
    check_checkpoint,
    choose_checkpoint,
    find_checkpoints,
    find_damage,
    record_checkpoint,
    remove_old_checkpoints,
)
from sam_ft.utils.output_folders import lock_folder
from sam_ft.utils.owned_files import OwnedFiles

from .common import command, have_equal_tensors, kill_when, weights


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
    arguments_of_run = ARGUMENTS | {"dataset_name": shapes, "output_dir": output_dir}
    return [f"--{k}={v}" for k, v in arguments_of_run.items() if v != "null"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_runs_end_on_the_same_weights(script, shapes, tmp_path):
    """Runs that are not killed share this process, because a separate one would spend most of its time on imports."""
    killed = tmp_path / "killed"

    def run(folder):
        status, _, output = script("sam3_ft.py", *arguments(shapes, folder))
        assert status == 0, output
        return output

    def saving(step):  # the folder is there, its last file is not
        folder = killed / f"checkpoint-{step}"
        return lambda: folder.is_dir() and not (folder / "trainer_state.json").is_file()

    run(tmp_path / "whole")
    kill_when(saving(2), command(arguments(shapes, killed)), tmp_path)
    assert find_damage(find_checkpoints(killed)[0]) is not None
    foreign = [
        killed / name for name in ("notes.txt", "checkpoint-2/notes.txt", "checkpoint-1/notes.txt", "before/notes.txt")
    ]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    # After the signal of a job scheduler the step is finished and saved.
    status = kill_when(
        lambda: (killed / "checkpoint-3" / "trainer_state.json").is_file(),
        command(arguments(shapes, killed)),
        tmp_path,
        signal.SIGTERM,
    )
    assert status == 128 + signal.SIGTERM
    assert find_checkpoints(killed)[0].name in ("checkpoint-4", "checkpoint-5")
    assert find_damage(find_checkpoints(killed)[0]) is None
    assert "resuming from" in run(killed)
    assert have_equal_tensors(weights(killed), weights(tmp_path / "whole"))
    assert [file.read_text() for file in foreign] == ["mine"] * 4


def make_checkpoint(folder):
    folder.mkdir(parents=True)
    save_file({"a": torch.zeros(3)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, folder / name)
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    return folder


def cut(name):
    """Remove the second half of a file."""

    def damage(checkpoint):
        file = checkpoint / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json is missing"),
        (cut("trainer_state.json"), "trainer_state.json ends early"),
        (lambda c: (c / "model.safetensors").unlink(), "the weights are missing"),
        (cut("model.safetensors"), "model.safetensors ends early"),
        (cut("optimizer.pt"), "optimizer.pt ends early"),
        (cut("scheduler.pt"), "scheduler.pt ends early"),
        (cut("rng_state.pth"), "rng_state.pth ends early"),
        (lambda c: (c / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda c: (c / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    ],
)
def test_damaged_checkpoint_is_refused_and_an_older_one_is_used(tmp_path, damage, message, caplog):
    older, newer = (make_checkpoint(tmp_path / f"checkpoint-{step}") for step in (1, 2))
    assert choose_checkpoint(tmp_path) == newer
    damage(newer)
    with pytest.raises(
        ValueError, match=rf"checkpoint-2 cannot be resumed from, {message}. Resume from .*checkpoint-1"
    ):
        check_checkpoint(str(newer))
    with caplog.at_level("WARNING", "sam_ft.run"):
        assert choose_checkpoint(tmp_path) == older
    assert f"checkpoint-2 is not used: {message}" in caplog.text


def test_checkpoint_without_optimizer_is_not_resumed_with_a_fresh_one(tmp_path):
    """`save_only_model` leaves such a checkpoint."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint-2")
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(
        ValueError, match="optimizer.pt is missing and training would continue with a new optimizer.*start_over"
    ):
        choose_checkpoint(tmp_path)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no such folder. Start anew in another `output_dir`"):
        check_checkpoint(str(tmp_path / "checkpoint-9"))


def test_old_checkpoints_are_removed_without_foreign_files(tmp_path):
    owned = OwnedFiles(tmp_path, RUN_KIND)
    for step in (1, 2, 3, 4):
        record_checkpoint(owned, make_checkpoint(tmp_path / f"checkpoint-{step}"), set())
    (tmp_path / "checkpoint-1" / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint-1" / "model-mine.safetensors").write_text("mine")
    make_checkpoint(tmp_path / "checkpoint-best-5")
    make_checkpoint(tmp_path / "checkpoint-7")  # a copy of the user's
    remove_old_checkpoints(tmp_path, 2, str(tmp_path / "checkpoint-2"))
    left = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert left == ["checkpoint-1", "checkpoint-2", "checkpoint-4", "checkpoint-7", "checkpoint-best-5"]
    assert {p.name for p in (tmp_path / "checkpoint-1").iterdir()} == {"notes.txt", "model-mine.safetensors"}
    assert len(list((tmp_path / "checkpoint-7").iterdir())) == 5


def test_an_output_folder_belongs_to_one_run(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    settings = {"learning_rate": 1.0, "logging_steps": 5}
    assert prepare_run_folder(folder, settings) is None
    assert yaml.safe_load((folder / "run.yaml").read_text()) == {"learning_rate": 1.0}  # logging may differ
    assert prepare_run_folder(folder, settings | {"logging_steps": 9}) is None
    # A run that is killed while it saves its second checkpoint records no files at its end.
    make_checkpoint(folder / "checkpoint-2")
    half = make_checkpoint(folder / "checkpoint-10")
    (half / "trainer_state.json").unlink()
    assert prepare_run_folder(folder, settings) == str(folder / "checkpoint-2")
    assert (half / "model.safetensors").is_file()  # ignored, and written again by the run
    with pytest.raises(ValueError, match="other settings .`learning_rate` was 1.0, is 2.0.*`start_over: true`"):
        prepare_run_folder(folder, settings | {"learning_rate": 2.0})


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("")
    with pytest.raises(ValueError, match="already contains holiday.txt and no run.yaml that this package wrote"):
        prepare_run_folder(tmp_path, {})


def test_a_users_own_file_with_the_markers_name_is_kept(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 1e-4\n" + "# a long file\n" * 100)
    with pytest.raises(ValueError, match="already contains run.yaml and no run.yaml that this package wrote"):
        prepare_run_folder(tmp_path, {"learning_rate": 1.0})
    assert (tmp_path / "run.yaml").read_text().startswith("learning_rate: 1e-4\n# a long")


def test_files_of_a_failed_run_are_replaced(tmp_path):
    """After a corrected path the run starts in the same folder; files that the user added are kept."""
    folder = tmp_path / "out"
    folder.mkdir()
    prepare_run_folder(folder, {"dataset_name": "wrong"})
    (folder / "before_results.json").write_text("{}")
    record_run(folder)  # the end of the failed attempt
    foreign = {
        "my.safetensors": "",
        "data/a.txt": "data set",
        "before/notes.txt": "",
        "good/model.safetensors": "finished",
    }
    for name, text in foreign.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert prepare_run_folder(folder, {"dataset_name": "right"}) is None
    assert yaml.safe_load((folder / "run.yaml").read_text()) == {"dataset_name": "right"}
    assert not (folder / "before_results.json").exists()
    assert {name: (folder / name).read_text() for name in foreign} == foreign
    make_checkpoint(folder / "checkpoint-1")
    with pytest.raises(ValueError, match="other settings"):
        prepare_run_folder(folder, {"dataset_name": "third"})


@pytest.mark.parametrize(
    "name", ["config.json", "data.json", "eval/results.json", "training.log", "checkpoint-3/config.json"]
)
def test_a_file_of_the_user_with_a_name_of_the_runs_is_neither_overwritten_nor_deleted(tmp_path, name):
    prepare_run_folder(tmp_path, {"dataset_name": "wrong"})
    record_run(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for settings, start_over in (("wrong", False), ("right", False), ("right", True)):
        with pytest.raises(
            ValueError, match=f"`output_dir`: .* already contains {name}, which this command did not write"
        ):
            prepare_run_folder(tmp_path, {"dataset_name": settings}, start_over=start_over)
    assert (tmp_path / name).read_text() == "mine"


def test_start_over_removes_the_earlier_run_and_no_other_file(tmp_path):
    prepare_run_folder(tmp_path, {"learning_rate": 1.0})
    checkpoint = make_checkpoint(tmp_path / "checkpoint-1")
    OwnedFiles(tmp_path, RUN_KIND).write_text("README.md", "card", "output_dir")
    OwnedFiles(tmp_path, RUN_KIND).write_text("report.md", "report", "output_dir")
    for name in ("model.safetensors", "eval_results.json", "training.log"):
        (tmp_path / name).write_text("")
    record_run(tmp_path)
    (tmp_path / "report.md").write_text("edited")
    mine = {
        "mine.txt",
        "my_ensemble.safetensors",
        "sam3.pt",
        "base/notes.txt",
        "checkpoint-1/mine.txt",
        "checkpoint-best-1/config.json",
    }
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert prepare_run_folder(tmp_path, {"learning_rate": 2.0}, start_over=True) is None
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"run.yaml", "report.md", ".sam-ft-files.json", *mine}
    assert checkpoint.is_dir()
    assert (tmp_path / "report.md").read_text() == "edited"


def test_moved_run_and_run_of_an_earlier_release_are_resumed(tmp_path):
    """A record of an earlier release has neither a header nor the images per step; its batch keys are compared."""
    old = dict.fromkeys(RUN_FOLDER.legacy_keys) | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(old))
    make_checkpoint(tmp_path / "checkpoint-1")
    now = old | {"output_dir": "elsewhere", "images_per_step": 2}
    with pytest.raises(ValueError, match="`per_device_train_batch_size` was 2, is 4"):
        prepare_run_folder(tmp_path, now | {"per_device_train_batch_size": 4})
    assert prepare_run_folder(tmp_path, now) == str(tmp_path / "checkpoint-1")


def test_keys_of_a_later_release_are_compared_with_their_defaults(tmp_path):
    """An earlier release recorded neither `start_over` nor `lora_dora` nor the images per step."""
    prepare_run_folder(tmp_path, {"learning_rate": 1.0})
    make_checkpoint(tmp_path / "checkpoint-1")
    later = {"learning_rate": 1.0, "lora_dora": False, "freeze": [], "images_per_step": 4}
    assert prepare_run_folder(tmp_path, later) == str(tmp_path / "checkpoint-1")
    with pytest.raises(ValueError, match="`lora_dora` was False, is True"):
        prepare_run_folder(tmp_path, later | {"lora_dora": True})


@dataclass
class Batches:
    """Keys that `collect_settings` reads."""

    output_dir: str
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 1
    world_size: int = 2
    start_over: bool = False


def test_images_per_step_are_kept_with_another_number_of_processes(tmp_path):
    recorded = {
        "images_per_step": 4,
        "processes": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
    }
    prepare_run_folder(tmp_path, recorded)
    resumed = Batches(str(tmp_path), world_size=1)
    keep_images_per_step(resumed)
    assert resumed.gradient_accumulation_steps == 2
    with pytest.raises(
        ValueError, match="4 images per step with 2 processes, which 3 processes of 2 images cannot keep"
    ):
        keep_images_per_step(Batches(str(tmp_path), world_size=3))
    changed = Batches(str(tmp_path), world_size=1, gradient_accumulation_steps=8)  # the user's choice, refused later
    keep_images_per_step(changed)
    assert changed.gradient_accumulation_steps == 8


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`output_dir`: .*file is a file"), lock_folder(tmp_path / "file", RUN_FOLDER):
        pass
    with pytest.raises((ValueError, OSError), match="file"), lock_folder(tmp_path / "file" / "out", RUN_FOLDER):
        pass
