"""Atomic writes: a file or folder is written under a temporary name beside its final path and renamed at the end."""

import contextlib
import glob
import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """
    Yield a temporary path beside `path`, and rename it to `path` when the context ends.

    The context writes a file or a folder to the temporary path. After an error it is removed instead.

    Args:
        path (`str` or `Path`): The final path; the folder that contains it is created if it is missing. A file is
            replaced; a folder is replaced if it is empty.

    Raises:
        `OSError`: If `path` is a folder that contains files, for example because another process wrote it first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{shorten_name(path.name)}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.unlink()


def find_drafts(path: str | Path) -> list[Path]:
    """Find the temporary files of `path` that [`atomic_path`] left in killed processes."""
    path = Path(path)
    return sorted(path.parent.glob(f".{glob.escape(shorten_name(path.name))}.*.part{glob.escape(path.suffix)}"))


def shorten_name(name: str) -> str:
    """Shorten a file name to 80 bytes of UTF-8, because file systems limit the bytes of a name."""
    return name.encode()[:80].decode(errors="ignore")


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """
    Write a file or folder through a callback that receives a temporary path; see [`atomic_path`].

    Args:
        path (`str` or `Path`): The final path.
        write (`Callable[[Path], object]`): Callback that writes the content to the path.

    Returns:
        `Path`: The final path.
    """
    with atomic_path(path) as draft:
        write(draft)
    return Path(path)


def write_text(file: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; see [`atomic_path`]."""
    return write_atomically(file, lambda draft: draft.write_text(text, encoding="utf-8"))


def file_digest(file: str | Path) -> str:
    """Compute the BLAKE2b digest (16 bytes, hexadecimal) of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
