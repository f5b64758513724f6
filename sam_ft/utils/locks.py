"""Locks of folders: one process writes to a folder at a time."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


try:
    import fcntl
except ImportError:  # Windows has no record locks; the owner's process is looked up instead
    fcntl = None

LOCK_FILE = ".sam-ft.lock"
_HELD: dict[str, int] = {}  # locks of this process: a POSIX record lock cannot refuse its own process


@dataclass(frozen=True)
class LockOwner:
    """
    Owner of a lock.

    Attributes:
        host (`str`): Host name.
        pid (`int`): Process id on that host.
        started (`float`): Start time of the process, seconds since the epoch.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> "LockOwner":
        """Describe this process."""
        return cls(socket.gethostname(), os.getpid(), round(psutil.Process().create_time(), 2))

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs. A process of another host counts as running: it cannot be looked up."""
        if self.host != socket.gethostname():
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 2
        except psutil.Error:
            return False

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, started {started}"


@contextlib.contextmanager
def hold_lock(file: str | Path, argument: str, folder: str | Path) -> Iterator[LockOwner | None]:
    """
    Hold the lock of a folder while the context is open.

    The kernel's record lock on `file` decides, so that the lock of a killed process ends with it; the content of the file names the owner. A lock file
    that another host left counts as held until it is deleted, because its process cannot be looked up from here.

    Args:
        file (`str` or `Path`): The lock file, created and removed here.
        argument (`str`): The argument that named the folder, for errors.
        folder (`str` or `Path`): The folder that the lock protects, for errors.

    Yields:
        `LockOwner` or `None`: The dead process whose lock was taken over, if there was one.

    Raises:
        `ValueError`: If another process, or another thread of this one, holds the lock.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    key = str(file.resolve())
    if key in _HELD:
        raise ValueError(f"`{argument}`: {folder} is already in use by this process")
    descriptor, dead = _acquire(file, argument, folder)
    _HELD[key] = descriptor
    try:
        yield dead
    finally:
        del _HELD[key]
        with contextlib.suppress(OSError):  # removed while it is held, so that no other process locks a removed file
            file.unlink()
        os.close(descriptor)


def _acquire(file: Path, argument: str, folder: str | Path) -> tuple[int, LockOwner | None]:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            owner = _read_owner(descriptor)
            if not _lock(descriptor) or (owner is not None and _is_elsewhere(owner)):
                raise ValueError(
                    f"`{argument}`: {folder} is in use by {owner or 'another process'}. Wait until it ends, or choose another "
                    f"`{argument}`; if that process no longer exists, delete {file}"
                )
            if not _is_same_file(descriptor, file):  # its owner removed it between opening and locking
                os.close(descriptor)
                continue
            content = json.dumps(asdict(LockOwner.current())).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            return descriptor, owner
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise


def _lock(descriptor: int) -> bool:
    """Take the record lock; false if another process has it. File systems without locks leave it to the owner's record."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _is_elsewhere(owner: LockOwner) -> bool:
    """Whether a lock that the kernel granted is still another living process's: of another host, or without record locks."""
    is_own = owner == LockOwner.current()
    return not is_own and owner.is_alive and (owner.host != socket.gethostname() or fcntl is None)


def _read_owner(descriptor: int) -> LockOwner | None:
    try:
        return LockOwner(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _is_same_file(descriptor: int, file: Path) -> bool:
    try:
        there = os.stat(file)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
