"""Signals and user errors, of which each is one line."""

import os
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from sam_ft.utils.errors import describe_error


WAITING = """
import sys, time
from sam_ft.utils.console import as_program
from sam_ft.utils.signals import SIGNALS
with as_program():
    if sys.argv[1] == "deferring":
        with SIGNALS.deferring():
            print("ready", flush=True)
            end = time.monotonic() + 30
            while time.monotonic() < end and (SIGNALS.received is None or sys.argv[2] == "twice"):
                time.sleep(0.01)
            SIGNALS.raise_received()
    print("ready", flush=True)
    time.sleep(30)
"""


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a test runner in the background ignores interrupts, and its children inherit this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_outside_training_ends_the_program_in_one_line(name, status):
    process = start("waiting", "once")
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == status
    assert stderr == f"stopped by {name}\n"


def test_a_signal_in_training_waits_for_the_checkpoint():
    process = start("deferring", "once")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 143
    first, last = stderr.splitlines()
    assert first == "SIGTERM: a checkpoint is saved after the current step; a second signal stops at once"
    assert last == "stopped by SIGTERM"


def test_a_second_signal_stops_at_once():
    process = start("deferring", "twice")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)  # a launcher forwards the same request
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    process.communicate()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sam_ft.utils.errors import describe_error
from sam_ft.utils.json_files import write_json
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
tensor, folder = torch.zeros(10000), Path(sys.argv[1])
for write in (
    lambda: torch.save({"a": tensor}, folder / "a.pt"),
    lambda: save_file({"a": tensor}, folder / "a.safetensors"),
    lambda: write_json(folder / "a.json", "x" * 10000),
):
    try:
        write()
    except Exception as error:
        print(describe_error(error))
"""


def test_a_full_disk_is_one_line(tmp_path):
    """A limit of the file size raises the errors of a full disk in torch, safetensors and Python."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(
        line.startswith("no space is left on the disk") and "resume from the last checkpoint" in line for line in lines
    )


class Killed(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_loader_process_is_one_line():
    with pytest.raises(RuntimeError) as caught:
        next(iter(DataLoader(Killed(), num_workers=1)))
    line = describe_error(caught.value)
    assert line.startswith("a process that loads images was killed (pid ")
    assert "`dataloader_num_workers: 0`" in line


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("`a` is 1"), "`a` is 1"),
        (ImportError("No module named 'deepspeed'\nmore"), "a package is missing: No module named 'deepspeed'"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "a.json: No such file or directory"),
        (RuntimeError("a defect"), None),
        (OSError("no file"), None),
    ],
)
def test_user_errors_are_lines_and_defects_are_not(error, line):
    assert describe_error(error) == line


def test_log_lines_contain_no_escape_code_and_no_token():
    code = """
import logging
from sam_ft.utils.console import as_program
from sam_ft.utils.secrets import register_secret
with as_program():
    register_secret("planted-secret")
    logging.getLogger("sam_ft.run").info("class %s, token %s", chr(27) + "[31mcat", "planted-secret")
    raise ValueError("no planted-secret here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "class \\x1b[31mcat, token <redacted>\nno <redacted> here\n"
