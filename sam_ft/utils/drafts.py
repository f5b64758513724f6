"""Drafts of folders: a result is written to a temporary folder, which replaces the earlier result when complete."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .files import find_drafts, shorten_name
from .locks import LOCK_FILE, hold_lock
from .owned_files import RECORD, OwnedFiles
from .text import list_some


logger = logging.getLogger("sam_ft.run")

_DRAFT_MARKER = ".sam-ft-draft"  # marks a temporary folder of this module


def check_replaceable(
    folder: Path, kind: str, argument: str, *, overwrite: bool, allowed: tuple[str, ...] = ()
) -> None:
    """
    Check that a folder may be written, or replaced.

    Args:
        folder (`Path`): The result's folder.
        kind (`str`): Kind of the command; results of other kinds are never replaced.
        argument (`str`): The argument that names the folder, for errors.
        overwrite (`bool`): Whether an earlier result may be replaced.
        allowed (`tuple[str, ...]`): Names of marker files that are not recorded, none by default.

    Raises:
        `ValueError`: If the path is a file; if the folder contains files that this kind of command did not write, or
            that changed since; if it contains an earlier result and `overwrite` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{argument}` is {str(folder)!r}, a file. Give a folder")
    entries = [p for p in folder.iterdir() if not _is_ours(p)] if folder.is_dir() else []
    if not entries:
        return
    owned = OwnedFiles(folder, kind)
    foreign = [name for name in owned.find_foreign() if name not in allowed and not _is_ours(folder / name)]
    if not foreign and not owned.names:  # the entries are empty folders of the user
        foreign = sorted(p.name for p in entries if p.name not in (*allowed, RECORD))
    if foreign:
        raise ValueError(
            f"`{argument}`: {str(folder)!r} contains {list_some(foreign)}, which this command did not write or which "
            f"changed since. Move it away, or give another `{argument}`"
        )
    if not overwrite:
        raise ValueError(
            f"`{argument}`: {str(folder)!r} contains an earlier result. Give another folder, or set `--overwrite true`"
        )


def _is_ours(path: Path) -> bool:
    """Check whether a path is a lock of this package, or lies in a temporary folder of it."""
    if path.name.endswith(LOCK_FILE):
        return True
    return any((parent / _DRAFT_MARKER).is_file() for parent in (path, *path.parents[:3]))


@contextlib.contextmanager
def folder_draft(
    folder: Path,
    kind: str,
    argument: str,
    *,
    overwrite: bool,
    allowed: tuple[str, ...] = (),
    num_proc: int | None = 1,
) -> Iterator[Path]:
    """
    Yield a temporary folder that becomes `folder` when the context ends without an error.

    The folder is locked meanwhile.
    The folder behind a symbolic link is replaced, not the link. If the folder cannot be renamed, such as a mount
    point, its files are replaced one by one.

    Args:
        folder (`Path`): The result's folder.
        kind (`str`): Kind of the command.
        argument (`str`): The argument that names the folder, for errors.
        overwrite (`bool`): Whether an earlier result may be replaced.
        allowed (`tuple[str, ...]`): Names of marker files that are not recorded, none by default.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`]; this one by default.

    Raises:
        `ValueError`: As [`check_replaceable`]; if another process writes to the folder.
    """
    folder = Path(os.path.realpath(folder))
    in_place = os.path.ismount(folder) or (folder.is_dir() and not os.access(folder.parent, os.W_OK))
    root, short = (folder if in_place else folder.parent), shorten_name(folder.name)
    with hold_lock(root / f".{short}{LOCK_FILE}", argument, folder):
        earlier = folder.with_name(f".{short}.earlier")
        _recover(folder, earlier, kind, allowed)
        for stale in root.glob(f".{short}.part-*"):  # the lock is held, so that these belong to killed processes
            if (stale / _DRAFT_MARKER).is_file():
                shutil.rmtree(stale)
        check_replaceable(folder, kind, argument, overwrite=overwrite, allowed=allowed)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{short}.part-") as temporary:
            (Path(temporary) / _DRAFT_MARKER).touch()
            draft = Path(temporary) / (folder.name or "result")
            draft.mkdir()
            yield draft
            owned = OwnedFiles(draft, kind)
            owned.add([name for name in owned.find_foreign() if name not in allowed], num_proc)
            # files may have been added in the meantime
            check_replaceable(folder, kind, argument, overwrite=overwrite, allowed=allowed)
            if in_place:
                _remove_result(folder, kind, allowed)
                for entry in sorted(draft.iterdir(), key=lambda p: p.name == RECORD):
                    entry.rename(folder / entry.name)
            else:
                if folder.is_dir():
                    folder.rename(earlier)
                draft.rename(folder)
        if earlier.is_dir() and not _remove_result(earlier, kind, allowed):
            logger.warning("files that were added to the earlier result are kept in %s", earlier)


def _recover(folder: Path, earlier: Path, kind: str, allowed: tuple[str, ...]) -> None:
    """Complete the replacement of a folder after a kill."""
    if earlier.is_dir() and not folder.exists():
        earlier.rename(folder)
    elif earlier.is_dir() and not _remove_result(earlier, kind, allowed):
        raise ValueError(f"{earlier} contains files that were added to an earlier result of {folder}. Move it away")


def _remove_result(folder: Path, kind: str, allowed: tuple[str, ...]) -> bool:
    """Remove the recorded files of a result, and the folder if it is then empty; return whether only locks remain."""
    owned = OwnedFiles(folder, kind)
    remaining = owned.remove(owned.names)
    for file in [*(folder / name for name in (*allowed, RECORD)), *find_drafts(folder / RECORD)] * (not remaining):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.is_dir() or all(_is_ours(p) for p in folder.iterdir())
