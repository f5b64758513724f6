"""Ordered map over the rows of a data set in several processes: the same chunks and results for any number of them."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import TypeVar


Result = TypeVar("Result")

CHUNK = 64  # rows of a task: transferring the result of one takes about 1 ms, computing it 30 ms or more
MIN_SECONDS = 0.3  # of work from which on processes are used; starting and ending them takes about 0.1 s
_AHEAD = 3  # tasks for each process whose results may be in memory

_function: Callable | None = None  # of this worker process


def count_usable_cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def mapped_chunks(
    function: Callable[[range], Result], length: int, num_proc: int | None = None, *, size: int | None = None
) -> Iterator[Iterator[Result]]:
    """
    Yield an iterator over the results of a function of consecutive ranges, in their order.

    Processes are forked, so the function and all it refers to are neither pickled nor imported again; only results
    are pickled. Workers must not use a GPU. Where a process cannot be forked, threads are used. All workers have ended
    when the context ends, also by an error or a signal.

    Args:
        function (`Callable[[range], Result]`): Function of the indices of at most `size` rows; it must not change what
            it refers to, and its results and errors must be picklable.
        length (`int`): Number of rows. If these take less than `MIN_SECONDS`, by the time of the first chunk, they are
            processed in this process.
        num_proc (`int`, *optional*): Number of processes; 1 uses this process alone. Default: the usable cores,
            divided among the processes of a distributed run on this machine.
        size (`int`, *optional*): Number of rows of a task, `CHUNK` by default.
    """
    if num_proc is None:
        num_proc = max(count_usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    size = CHUNK if size is None else size
    chunks = [range(begin, min(begin + size, length)) for begin in range(0, length, size)]
    # Searching the records and rows of a large data set for garbage takes longer than converting them; in a worker it
    # would also copy the memory that is shared with the parent.
    gc.freeze()
    try:
        results: Iterator[Result] = map(function, chunks)
        if num_proc > 1 and len(chunks) > 1:
            begin = time.perf_counter()
            # The first chunk also imports, once for all workers, what is imported at a first call.
            first = next(results)
            if (time.perf_counter() - begin) * (len(chunks) - 1) > MIN_SECONDS:
                with _workers(function, min(num_proc, len(chunks) - 1)) as (executor, call):
                    results = _results(executor, call, chunks[1:], _AHEAD * num_proc)
                    yield itertools.chain([first], results)
                return
            results = itertools.chain([first], results)
        yield results
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _workers(function: Callable, number: int) -> Iterator[tuple[Executor, Callable]]:
    """Yield an executor and the function to submit; all workers have ended when the context ends."""
    before = set(multiprocessing.active_children())
    executor, call = _start(function, number)
    try:
        yield executor, call
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _results(executor: Executor, call: Callable, chunks: list[range], ahead: int) -> Iterator:
    """Yield the results of all chunks in their order, with a limited number of them computed ahead."""
    futures: deque[Future] = deque()
    for chunk in chunks:
        futures.append(executor.submit(call, chunk))
        if len(futures) > ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def _start(function: Callable, number: int) -> tuple[Executor, Callable]:
    """Return an executor and the function to submit; a forked process inherits `function` without pickling."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return ThreadPoolExecutor(number), function
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(number, context, _start_worker, (function,)), _call


def _start_worker(function: Callable) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent receives it too, and ends its workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _call(chunk: range):
    assert _function is not None, "set when the worker starts"
    return _function(chunk)
