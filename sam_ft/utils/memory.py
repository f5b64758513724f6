"""Memory of this process and of the machine, in bytes, and a pause of the garbage collection."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil


_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available_memory() -> int:
    """Return the memory of the machine that new allocations can use without swapping."""
    return psutil.virtual_memory().available


def resident_memory() -> int:
    """Return the resident memory of this process."""
    return psutil.Process().memory_info().rss


def reset_peak_resident_memory() -> None:
    """
    Reset the peak of [`peak_resident_memory`] to the present resident memory.

    Without Linux's `/proc` the peak cannot be reset and remains that of the whole process.
    """
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5", encoding="ascii")


def peak_resident_memory() -> int:
    """Return the peak resident memory of this process since its start or the last reset."""
    if _STATUS.exists():  # Neither psutil nor `resource` returns the peak that `clear_refs` resets.
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return getattr(info, "peak_wset")  # noqa: B009 (not in the type of other systems)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pause the garbage collection, which takes half of the time in which many small objects are built."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                # Moves all objects to the oldest generation, so that the next collection does not search them.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
