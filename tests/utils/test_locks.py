"""Locks: one process at a time, takeover from dead owners, and locks of other hosts."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sam_ft.utils.locks import LOCK_FILE, LockOwner, hold_lock


HOLDER = """
import sys, time
from sam_ft.utils.locks import hold_lock
with hold_lock(sys.argv[1], "output_dir", "out"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / LOCK_FILE)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def acquire(file):
    with hold_lock(file, "output_dir", "out") as dead:
        return dead


def test_second_process_is_refused_with_the_owner(holder, tmp_path):
    with pytest.raises(
        ValueError, match=rf"`output_dir`: out is in use by process {holder.pid} on .*, started 20\d\d-"
    ):
        acquire(tmp_path / LOCK_FILE)
    assert (tmp_path / LOCK_FILE).is_file()


def test_lock_of_a_killed_process_is_taken_over_and_reported(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    dead = acquire(tmp_path / LOCK_FILE)
    assert dead.pid == holder.pid
    assert not dead.is_alive
    assert not (tmp_path / LOCK_FILE).exists()


def test_lock_of_another_host_is_respected(tmp_path, monkeypatch):
    owner = {"host": "elsewhere", "pid": os.getpid(), "started": time.time()}
    (tmp_path / LOCK_FILE).write_text(json.dumps(owner))
    with pytest.raises(ValueError, match=r"in use by process \d+ on elsewhere.*delete .*lock"):
        acquire(tmp_path / LOCK_FILE)
    assert json.loads((tmp_path / LOCK_FILE).read_text()) == owner
    # the lock is taken over by the same job on another node, or after ten minutes without a renewal
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / LOCK_FILE).write_text(json.dumps(owner | {"job": "7"}))
    assert acquire(tmp_path / LOCK_FILE).host == "elsewhere"
    (tmp_path / LOCK_FILE).write_text(json.dumps(owner))
    os.utime(tmp_path / LOCK_FILE, (time.time() - 700,) * 2)
    assert acquire(tmp_path / LOCK_FILE).host == "elsewhere"


def test_without_record_locks_the_process_of_the_owner_is_checked(holder, tmp_path, monkeypatch):
    """Some file systems have no record locks."""
    monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no locks")))
    with pytest.raises(ValueError, match=f"in use by process {holder.pid}"):
        acquire(tmp_path / LOCK_FILE)
    holder.kill()
    holder.wait()
    assert acquire(tmp_path / LOCK_FILE).pid == holder.pid


def test_reused_process_id_is_not_the_owner():
    assert LockOwner.current().is_alive
    assert not LockOwner(LockOwner.current().host, os.getpid(), time.time() - 1e6).is_alive


def test_the_same_process_cannot_lock_twice(tmp_path):
    with (
        hold_lock(tmp_path / LOCK_FILE, "output_dir", "out"),
        pytest.raises(ValueError, match="already in use by this process"),
    ):
        acquire(tmp_path / LOCK_FILE)
    assert acquire(tmp_path / LOCK_FILE) is None
