"""Error lines: one line for each error that a user can act on."""

import errno
import re
from concurrent.futures.process import BrokenProcessPool


_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXT = re.compile(
    r"No space left|Disk quota exceeded|File too large|os error (28|122|27)|PytorchStreamWriter failed|iostream error"
)
_WORKER_KILLED = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)")


def describe_error(error: BaseException) -> str | None:
    """
    Describe an error that a user can act on.

    Args:
        error (`BaseException`): Error of a command.

    Returns:
        `str` or `None`: One line; `None` for a defect of the program, whose traceback is needed.
    """
    if is_full_disk(error):
        file = getattr(error, "filename", None)
        target = f" for {file}" if file else ""
        return (
            f"no space is left on the disk{target} ({_first_line(error)}). Free some space; "
            "run the same command again to resume from the last checkpoint"
        )
    worker = _WORKER_KILLED.search(str(error))
    if isinstance(error, RuntimeError) and worker:
        return (
            f"a process that loads images was killed (pid {worker[1]}), most often because memory ran out. "
            "Set `dataloader_num_workers: 0` or a lower number; "
            "run the same command again to resume from the last checkpoint"
        )
    if isinstance(error, BrokenProcessPool):
        return (
            "a process that reads or writes data was killed, most often because memory ran out. Free some memory; "
            "check and convert also take a lower `num_proc`"
        )
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, ImportError):
        return f"a package is missing: {_first_line(error)}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def is_full_disk(error: BaseException | None) -> bool:
    """Check whether an error, or its cause, means that a disk, a quota or the largest file size is exhausted."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _DISK_FULL_ERRORS:
            return True
        if type(error).__name__ in ("RuntimeError", "SafetensorError", "OSError") and _DISK_FULL_TEXT.search(
            str(error)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
