"""Atomic writes: a file is written under a temporary name in its own folder and renamed when it is complete."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(file: str | Path) -> Iterator[Path]:
    """
    Yield a temporary path beside `file`, and rename it to `file` when the context ends.

    After an error it is removed instead.

    Args:
        file (`str` or `Path`): The final path; its folder is created if it is missing.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    short = file.name.encode()[:80].decode(errors="ignore")  # file systems limit bytes
    draft = file.with_name(f".{short}.{os.getpid()}.part{file.suffix}")
    try:
        yield draft
        draft.replace(file)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_atomically(file: str | Path, write: Callable[[Path], object]) -> Path:
    """
    Write a file through a callback that receives a temporary path.

    Args:
        file (`str` or `Path`): The final path.
        write (`Callable[[Path], object]`): Callback that writes the content to the path.

    Returns:
        `Path`: The final path.
    """
    with atomic_path(file) as draft:
        write(draft)
    return Path(file)


def write_text(file: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; see [`atomic_path`]."""
    return write_atomically(file, lambda draft: draft.write_text(text, encoding="utf-8"))


def file_digest(file: str | Path) -> str:
    """Compute the BLAKE2b digest (16 bytes, hexadecimal) of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
