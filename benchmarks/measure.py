"""Time and peak memory of a call, on a GPU or a CPU."""

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sam_ft.utils.memory import peak_resident_memory, reset_peak_resident_memory, resident_memory


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    """Return the name of the GPU, or of the CPU with its number of threads."""
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{models[0].split(':')[1].strip() if models else 'CPU'}, {torch.get_num_threads()} threads"


def seconds(*calls: Callable, repeats: int = 3, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Measure the median seconds of each call. The calls take turns, so that slow moments affect all of them.

    Args:
        *calls (`Callable`): Calls without arguments.
        repeats (`int`): Measured rounds after one warm-up round, 3 by default.
        clock (`Callable[[], float]`): Clock in seconds. Default: wall-clock time; `time.process_time` is CPU time.
    """
    times = [[] for _ in calls]
    for round_ in range(repeats + 1):
        for call, durations in zip(calls, times, strict=True):
            _finish()
            begin = clock()
            call()
            _finish()
            if round_:
                durations.append(clock() - begin)
    return [statistics.median(durations) for durations in times]


def peak_bytes(call: Callable) -> int:
    """Measure the peak memory of a call, in bytes beyond the memory held before it.

    On CUDA it is the allocator's count; on a CPU the peak of resident memory.

    Args:
        call (`Callable`): Call without arguments.
    """
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    reset_peak_resident_memory()
    before = resident_memory()
    call()
    return peak_resident_memory() - before


def _finish():
    if DEVICE == "cuda":
        torch.cuda.synchronize()
