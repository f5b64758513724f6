"""Drafts of folders: a result is written to a temporary folder and appears under its name when it is complete; an earlier one stays until then."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .locks import LOCK_FILE, hold_lock
from .owned_files import RECORD, OwnedFiles
from .text import list_some


logger = logging.getLogger("sam_ft.run")


def check_replaceable(folder: Path, argument: str, *, overwrite: bool, allowed: tuple[str, ...] = ()) -> None:
    """
    Check that a folder may be written, or replaced.

    Args:
        folder (`Path`): The result's folder.
        argument (`str`): The argument that names it, for errors.
        overwrite (`bool`): Replace an earlier result.
        allowed (`tuple[str, ...]`): Names of empty marker files.

    Raises:
        `ValueError`: If the path is a file; if the folder contains files that this package did not write, or that changed since; if it contains an
            earlier result and `overwrite` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{argument}` is {str(folder)!r}, a file. Give a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    foreign = [name for name in OwnedFiles(folder).find_foreign() if name not in allowed]
    if not foreign and not (folder / RECORD).is_file():  # empty folders of the user
        foreign = sorted(p.name for p in folder.iterdir() if p.name not in allowed)
    if foreign:
        raise ValueError(
            f"`{argument}`: {str(folder)!r} contains {list_some(foreign)}, which this command did not write or which changed since. Move it "
            f"away, or give another `{argument}`"
        )
    if not overwrite:
        raise ValueError(
            f"`{argument}`: {str(folder)!r} contains an earlier result. Give another folder, or `--overwrite true`"
        )


@contextlib.contextmanager
def folder_draft(folder: Path, argument: str, *, overwrite: bool, allowed: tuple[str, ...] = ()) -> Iterator[Path]:
    """
    Yield a temporary folder that becomes `folder` when the context ends without an error. The folder is locked meanwhile.

    Args:
        folder, argument, overwrite, allowed: As in [`check_replaceable`].

    Raises:
        `ValueError`: As [`check_replaceable`]; if another process writes to the folder.
    """
    short = folder.name[:80]
    with hold_lock(folder.parent / f".{short}{LOCK_FILE}", argument, folder):
        earlier = folder.with_name(f".{short}.earlier")
        if earlier.is_dir() and not folder.exists():  # a process was killed between the two renames below
            earlier.rename(folder)
        check_replaceable(folder, argument, overwrite=overwrite, allowed=allowed)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{short}.part-") as place:
            draft = Path(place) / folder.name
            draft.mkdir()
            yield draft
            owned = OwnedFiles(draft)
            owned.add(name for name in owned.find_foreign() if name not in allowed)
            # files that were added in the meantime
            check_replaceable(folder, argument, overwrite=overwrite, allowed=allowed)
            if folder.is_dir():
                folder.rename(earlier)
            draft.rename(folder)
        if earlier.is_dir():
            _remove_result(earlier, allowed)


def _remove_result(folder: Path, allowed: tuple[str, ...]) -> None:
    owned = OwnedFiles(folder)
    kept = owned.remove(owned.names)
    for name in (*allowed, RECORD) if not kept else ():
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        logger.warning("files that were added to the earlier result are kept in %s", folder)
