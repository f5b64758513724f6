"""Locks of folders: one process writes to a folder at a time."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


try:
    import fcntl
except ImportError:  # Windows has no record locks; the owner's process is looked up instead
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".sam-ft.lock"
STALE_AFTER_S = 600.0
_RENEW_EVERY_S = 60.0
_HELD: set[str] = set()  # locks of this process: a POSIX record lock cannot refuse its own process


@dataclass(frozen=True)
class LockOwner:
    """
    Owner of a lock.

    Attributes:
        host (`str`): Host name.
        pid (`int`): Process id on that host.
        started (`float`): Start time of the process, seconds since the epoch.
        job (`str`): Id of the scheduler's job, which keeps it when the job is queued again; empty without one.
    """

    host: str
    pid: int
    started: float
    job: str = ""

    @classmethod
    def current(cls) -> "LockOwner":
        """Describe this process."""
        started = round(psutil.Process().create_time(), 2)
        return cls(socket.gethostname(), os.getpid(), started, os.environ.get("SLURM_JOB_ID", ""))

    @property
    def is_here(self) -> bool:
        """Return whether the process was started on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Return whether a process of this host still runs; false for another host's, which cannot be looked up."""
        try:
            return self.is_here and abs(psutil.Process(self.pid).create_time() - self.started) < 2
        except psutil.Error:
            return False

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, started {started}"


@contextlib.contextmanager
def hold_lock(file: str | Path, argument: str, folder: str | Path) -> Iterator[LockOwner | None]:
    """
    Hold the lock of a folder while the context is open.

    Between processes of one host, the kernel's record lock on `file` decides, so that the lock of a killed process
    ends with it. For other hosts, the file contains the owner, who renews its modification time every minute. The lock
    is taken over after `STALE_AFTER_S` without a renewal, or by the same job of a scheduler.

    Args:
        file (`str` or `Path`): The lock file, created and removed here.
        argument (`str`): The argument that named the folder, for errors.
        folder (`str` or `Path`): The folder that the lock protects, for errors.

    Yields:
        `LockOwner` or `None`: The dead process whose lock was taken over, if there was one.

    Raises:
        `ValueError`: If another process, or another thread of this process, holds the lock.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    key = str(file.resolve())
    if key in _HELD:
        raise ValueError(f"`{argument}`: {folder} is already in use by this process")
    descriptor, dead = _acquire(file, argument, folder)
    _HELD.add(key)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(file, ended), daemon=True).start()
    try:
        yield dead
    finally:
        ended.set()
        _HELD.remove(key)
        with contextlib.suppress(OSError):  # removed while it is held, so that no other process locks a removed file
            file.unlink()
        os.close(descriptor)


def _renew(file: Path, ended: threading.Event) -> None:
    while not ended.wait(_RENEW_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(file)


def _acquire(file: Path, argument: str, folder: str | Path) -> tuple[int, LockOwner | None]:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            age = time.time() - os.fstat(descriptor).st_mtime
            owner = _read_owner(descriptor)
            is_locked = _try_lock(descriptor)
            if is_locked is False or (owner is not None and _is_held(owner, age, has_record_lock=bool(is_locked))):
                raise ValueError(
                    f"`{argument}`: {folder} is in use by {owner or 'another process'}. Wait until it ends, or choose "
                    f"another `{argument}`; if that process no longer exists, delete {file}"
                )
            if not _is_same_file(descriptor, file):  # its owner removed it between opening and locking
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(asdict(LockOwner.current())).encode())
            return descriptor, owner
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise


def _try_lock(descriptor: int) -> bool | None:
    """Take the record lock; false if another process has it, `None` if the file system or platform has none."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def _is_held(owner: LockOwner, age: float, *, has_record_lock: bool) -> bool:
    """
    Decide whether a recorded owner still holds the lock, if the kernel does not decide it.

    Args:
        owner (`LockOwner`): Recorded owner.
        age (`float`): Seconds since the owner renewed the file.
        has_record_lock (`bool`): Whether the kernel granted the lock, so that no process of this host has it.
    """
    if owner == LockOwner.current():
        return False
    if owner.is_here:
        return not has_record_lock and owner.is_alive
    return age < STALE_AFTER_S and (not owner.job or owner.job != os.environ.get("SLURM_JOB_ID"))


def _read_owner(descriptor: int) -> LockOwner | None:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return LockOwner(**json.loads(os.read(descriptor, 4096)))
    except (ValueError, TypeError):
        return None


def _is_same_file(descriptor: int, file: Path) -> bool:
    try:
        current = os.stat(file)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (opened.st_dev, opened.st_ino) == (current.st_dev, current.st_ino)
