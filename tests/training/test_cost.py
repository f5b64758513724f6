"""Training time and peak memory of a run over its resumptions."""

import time
from types import SimpleNamespace

import pytest
import torch

from sam_ft.training.run_cost import RunCost


def event(cost, name, step):
    args = SimpleNamespace(device=torch.device("cpu"))
    getattr(cost, name)(args, SimpleNamespace(global_step=step), None)


def test_seconds_continue_from_a_checkpoint():
    cost = RunCost()
    event(cost, "on_train_begin", 0)
    time.sleep(0.2)
    saved = cost.state()
    assert saved["args"]["seconds"] == pytest.approx(0.2, abs=0.1)
    assert saved["args"]["memory"] > 2**26  # torch alone takes more
    time.sleep(0.3)  # lost with a kill
    again = RunCost.from_state(saved)
    event(again, "on_train_begin", 5)
    time.sleep(0.1)
    event(again, "on_train_end", 6)
    assert again.seconds == pytest.approx(0.3, abs=0.1)


def test_start_without_training_adds_no_time():
    cost = RunCost(seconds=7.0)
    event(cost, "on_train_begin", 5)
    time.sleep(0.05)
    event(cost, "on_train_end", 5)
    assert cost.seconds == 7.0
