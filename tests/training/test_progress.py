"""Progress of a run: one bar on a terminal, and lines from time to time in a pipe."""

import contextlib
import io
import logging
import os
import re
import sys
import threading
from types import SimpleNamespace

import pytest

from sam_ft.training.progress import LINES_PER_RUN, ProgressReport
from sam_ft.utils.console import NOTE, log_to_console_and_file, logging_to_file


BEFORE = {"before_loss": 3.0, "before_mask_AP50": 0.05, "before_mask_AP50_trained": 0.04}
NOW = {"eval_loss": 1.0, "eval_mask_AP50": 0.5, "eval_mask_AP50_trained": 0.625}


@contextlib.contextmanager
def terminal():
    """Replace the error stream by a pseudo-terminal of 100 columns; the list that it yields is filled at the end."""
    master, slave = os.openpty()
    written, contents = [], []

    def read():
        with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal so.
            while data := os.read(master, 4096):
                written.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    stream = io.TextIOWrapper(os.fdopen(slave, "wb", 0), encoding="utf-8", write_through=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TERM", "xterm")
            patch.setenv("COLUMNS", "100")
            patch.delenv("JPY_PARENT_PID", raising=False)
            patch.setattr(sys, "stderr", stream)
            patch.setattr("sam_ft.utils.live_bar._SECONDS_BETWEEN_REFRESHES", 0.0)
            yield contents
    finally:
        stream.close()
        reader.join()
        os.close(master)
        contents.append(b"".join(written).decode())


def render(raw):
    """Return the lines that a terminal shows: carriage returns, cleared lines, and moves up are applied."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(re.search(r"\d+", part)[0])
        elif part.startswith("\x1b"):
            lines[row] = "" if part.endswith("2K") else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def train(report, steps=40, **keys):
    """Call the callback as a training with an evaluation before it and one after half of the steps."""
    args = SimpleNamespace(**{"disable_tqdm": False, "logging_strategy": "steps"} | keys)
    state = SimpleNamespace(is_world_process_zero=True, global_step=0, max_steps=steps)

    def evaluate(metrics):
        for _ in range(3):
            report.on_prediction_step(args, state, None, eval_dataloader=[0] * 3)
        report.on_evaluate(args, state, None, metrics=metrics)

    evaluate(BEFORE)
    report.on_train_begin(args, state, None)
    for step in range(1, steps + 1):
        state.global_step = step
        report.on_step_end(args, state, None)
        report.on_log(args, state, None, logs={"loss": 8 / step})
        if step == steps // 2:
            logging.getLogger("sam_ft.run").warning("a warning")
            evaluate(NOW)
    report.on_train_end(args, state, None)
    evaluate(NOW)


@pytest.fixture
def console(monkeypatch):
    """Log to the console, as a program does."""
    package = logging.getLogger("sam_ft")
    for name, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
        monkeypatch.setattr(package, name, value)
    log_to_console_and_file(None, is_main=True)


def test_a_terminal_shows_one_bar(console):
    with terminal() as contents:
        train(ProgressReport())
    raw = contents[0]
    assert "evaluation 1/3" in raw, "evaluations during training are in the same bar"
    assert "mask AP50 0.04 before" in raw
    assert re.search(r"\d:\d\d:\d\d left", raw)
    warning, bar = render(raw)
    assert warning == "a warning"
    assert re.fullmatch(r"training ━+ 40/40 · loss 0\.2 · mask AP50 0\.04 → 0\.62 · \d:\d\d:\d\d", bar)
    assert len(bar) <= 100


def fail_in_training(report):
    """Raise an error while the bar is open."""
    stream, args = sys.stderr, SimpleNamespace(disable_tqdm=False, logging_strategy="steps")
    with report.closed_on_error():
        report.on_train_begin(args, SimpleNamespace(is_world_process_zero=True, global_step=0, max_steps=9), None)
        assert sys.stderr is not stream
        raise RuntimeError


def test_a_failed_training_releases_the_terminal():
    with terminal() as contents:
        stream = sys.stderr
        with pytest.raises(RuntimeError):
            fail_in_training(ProgressReport())
        assert sys.stderr is stream
    assert render(contents[0])[-1].startswith("training ")


def test_a_pipe_gets_a_line_from_time_to_time(capsys, console):
    train(ProgressReport(), steps=400)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["evaluation before training: mask AP50 0.04", "step 1 of 400, loss 8"]
    assert "step 200 of 400, evaluation: mask AP50 0.04 → 0.62" in lines
    assert re.fullmatch(r"step 400 of 400, loss 0\.02, mask AP50 0\.04 → 0\.62, 0:00:00 left", lines[-1])
    assert len(lines) <= LINES_PER_RUN + 5


@pytest.mark.parametrize(("strategy", "has_lines"), [("steps", True), ("no", False)])
def test_a_terminal_without_bar(console, strategy, has_lines):
    with terminal() as contents:
        train(ProgressReport(), disable_tqdm=True, logging_strategy=strategy)
    assert "━" not in contents[0]
    assert ("step 1 of 40" in contents[0]) == has_lines


def test_a_cell_of_a_notebook_gets_lines(monkeypatch, console):
    """The commands of a cell run in a pseudo-terminal."""
    with terminal() as contents:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
        train(ProgressReport())
    assert "━" not in contents[0]
    assert "step 1 of 40" in contents[0]


def test_the_console_shows_notes_and_the_file_everything(tmp_path, capsys, console):
    logger = logging.getLogger("sam_ft.run")
    with logging_to_file(tmp_path / "log", is_main=True):
        logger.info("a detail")
        logger.log(NOTE, "a note")
        logger.warning("a warning")
    logger.info("afterwards")
    assert capsys.readouterr().err.splitlines() == ["a note", "a warning", "afterwards"]
    assert (tmp_path / "log").read_text().splitlines() == ["a detail", "a note", "a warning"]
