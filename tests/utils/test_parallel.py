"""Ordered map over chunks in several processes: order, errors, and the end of all workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from sam_ft.data.row_schema import DatasetFormatError
from sam_ft.utils import parallel
from sam_ft.utils.errors import describe_error
from sam_ft.utils.parallel import mapped_chunks


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
from sam_ft.utils import parallel
parallel.CHUNK, parallel.MIN_SECONDS = 1, 0
with parallel.mapped_chunks(lambda indices: os.getpid() if indices.start < 2 else time.sleep(60), 8, 2) as results:
    print(next(results), next(results), flush=True)
    for _ in results:
        pass
"""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 3)
    monkeypatch.setattr(parallel, "MIN_SECONDS", 0)


def compute(function, length, num_proc):
    with mapped_chunks(function, length, num_proc) as results:
        return list(results)


@pytest.mark.parametrize("length", [0, 1, 5, 20])
def test_results_are_in_order_for_any_number_of_processes(length):
    chunks = [list(range(begin, min(begin + 3, length))) for begin in range(0, length, 3)]
    assert [compute(list, length, n) for n in (1, 2, 3, None)] == [chunks] * 4


def test_short_work_stays_in_this_process(monkeypatch):
    first, *workers = compute(lambda _: os.getpid(), 60, 2)
    assert first == os.getpid()
    assert first not in workers
    assert len(set(workers)) <= 2
    monkeypatch.setattr(parallel, "MIN_SECONDS", 5)
    assert set(compute(lambda _: os.getpid(), 60, 2)) == {os.getpid()}


def test_processes_of_a_distributed_run_share_the_cores(monkeypatch):
    monkeypatch.setattr(parallel, "count_usable_cores", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert set(compute(lambda _: os.getpid(), 60, None)) == {os.getpid()}


def test_where_processes_cannot_be_forked_threads_are_used(monkeypatch):
    monkeypatch.setattr(parallel.sys, "platform", "darwin")
    assert compute(lambda indices: (os.getpid(), indices.start), 9, 2) == [(os.getpid(), i) for i in (0, 3, 6)]


def test_errors_keep_their_type_and_message():
    def fail(indices):
        if indices.start == 6:
            raise DatasetFormatError("its mask is empty", file="a.json", record="image 7")
        return indices.start

    with pytest.raises(DatasetFormatError, match="^a.json, image 7: its mask is empty$") as error:
        compute(fail, 60, 2)
    assert (error.value.file, error.value.record, error.value.problem) == ("a.json", "image 7", "its mask is empty")
    assert not multiprocessing.active_children()


def test_an_error_of_the_caller_ends_the_workers():
    def stop_early():
        with mapped_chunks(lambda indices: time.sleep(indices.start), 60, 2) as results:
            next(results)
            next(results)
            raise KeyError

    begin = time.monotonic()
    with pytest.raises(KeyError):
        stop_early()
    assert not multiprocessing.active_children()
    assert time.monotonic() - begin < 20


def test_a_killed_worker_is_reported():
    with pytest.raises(BrokenProcessPool) as error:
        compute(lambda indices: indices.start and os.kill(os.getpid(), signal.SIGKILL), 60, 2)
    assert "memory ran out" in describe_error(error.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(number):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    program.stdout.readline()
    workers = psutil.Process(program.pid).children()
    assert len(workers) == 2
    program.send_signal(number)
    assert program.wait(20) != 0
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
