"""Trackers of a run: what they receive after the training, and the end of their runs; their packages are replaced."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from transformers.integrations import MLflowCallback, TrackioCallback, WandbCallback
from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState

from sam_ft.training.trackers import RunTracking, log_picture
from sam_ft.utils.secrets import register_secret


class Calls:
    """Package of a tracker that records the calls of its functions."""

    def __init__(self):
        self.names = []

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.names.append((name, args, kwargs)) or (name, args)


@pytest.fixture
def trainer(tmp_path):
    """A trainer of which trackers need the callbacks, and the calls of their packages by name."""
    calls = {}
    callbacks = []
    for cls, attribute in ((MLflowCallback, "_ml_flow"), (TrackioCallback, "_trackio"), (WandbCallback, "_wandb")):
        callback = object.__new__(cls)
        calls[attribute] = Calls()
        vars(callback).update(
            {attribute: calls[attribute], "_initialized": True, "_auto_end_run": True, "_space_id": None},
            _log_model=SimpleNamespace(is_enabled=False),
        )
        callbacks.append(callback)
    args = SimpleNamespace(output_dir=str(tmp_path / "mine"), run_name=None)
    handler = CallbackHandler(callbacks, None, None, None, None)
    yield SimpleNamespace(
        args=args, state=TrainerState(global_step=7), control=TrainerControl(), model=None, callback_handler=handler,
        is_world_process_zero=lambda: True, calls=calls,
    )  # fmt: skip
    callbacks[0]._auto_end_run = False  # read when the callback is deleted


def named(calls, name):
    return [(args, kwargs) for called, args, kwargs in calls.names if called == name]


@pytest.mark.parametrize("error", [None, RuntimeError("stopped")])
def test_trackers_stay_open_until_the_end_of_the_run(trainer, tmp_path, error):
    mlflow, trackio, wandb = trainer.calls.values()
    page = tmp_path / "report.html"
    page.write_text("<p>gained</p>")
    (tmp_path / "report.md").write_text("| gained |")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "before_after.png")
    try:
        with RunTracking() as tracking:
            tracking.begin(trainer)
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
            assert not named(mlflow, "end_run")
            assert not named(trackio, "finish")
            tracking.log_report(page, tmp_path / "before_after.png")
            if error is not None:
                raise error
    except RuntimeError:
        pass
    assert trainer.args.run_name == "mine"
    assert named(mlflow, "log_artifact") == [((str(page),), {})]
    assert named(mlflow, "log_image")[0][1] == {"key": "before_after", "step": 7}
    assert named(trackio, "log_artifact") == [((str(page),), {"type": "report"})]
    assert [list(args[0])[0] for args, _ in named(wandb, "log")] == ["before_after", "report"]
    assert named(mlflow, "end_run") == [(("FINISHED" if error is None else "FAILED",), {})]
    assert named(wandb, "finish") == [((0 if error is None else 1,), {})]
    assert len(named(trackio, "finish")) == 1


def test_trackers_that_did_not_begin_receive_nothing(trainer, tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    for callback in trainer.callback_handler.callbacks:
        callback._initialized = False
    log_picture(trainer.callback_handler.callbacks, "a", tmp_path / "a.png", 1)
    with RunTracking() as tracking:
        tracking.begin(trainer)
    assert not any(calls.names for calls in trainer.calls.values())


def test_secrets_are_removed_from_the_command_line(trainer, monkeypatch):
    """Weights & Biases records it."""
    register_secret("my-hidden-token")
    url = "https://user:word@host/a.tar?token=abc"
    monkeypatch.setattr(sys, "argv", ["sam-ft", "finetune", "--hub_token", "my-hidden-token", "--dataset_name", url])
    RunTracking().begin(trainer)
    assert sys.argv[1:] == ["finetune", "--hub_token", "<redacted>", "--dataset_name", "https://host/a.tar"]
