"""Outputs of an export: written beside their place, compared there, and only then put there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..utils.drafts import check_replaceable, folder_draft
from ..utils.files import atomic_path
from ..utils.locks import LOCK_FILE, hold_lock
from ..utils.owned_files import OwnedFiles


RECORD = "export.json"  # what was exported from which source, in every folder
_ARGUMENT, _KIND = "output_path", "export"


def check_output(output: Path, sources: list[str], *, overwrite: bool, is_file: bool) -> None:
    """
    Check the output of an export before anything is loaded.

    Args:
        output (`Path`): File or folder to write.
        sources (`list[str]`): What is read.
        overwrite (`bool`): Replace an earlier export.
        is_file (`bool`): Whether the output is a file.

    Raises:
        `ValueError`: If the output is, contains or lies in a source; if there is something that no export wrote, or an export and `overwrite` is false.
    """
    here = output.resolve()
    for source in filter(None, sources):
        there = Path(source).resolve()
        if Path(source).exists() and (
            here == there or here in there.parents or (there in here.parents and there.is_dir())
        ):
            raise ValueError(f"`output_path` is {str(output)!r}, and {source!r} is read: give a place beside it")
    if is_file:
        _check_file(output, overwrite=overwrite)
    else:
        check_replaceable(output, _KIND, _ARGUMENT, overwrite=overwrite)


def _check_file(output: Path, *, overwrite: bool) -> None:
    if output.is_dir():
        raise ValueError(f"`output_path` is {str(output)!r}, a folder. Give a file")
    if not output.exists():
        return
    if not overwrite:
        raise ValueError(f"`output_path`: {str(output)!r} is there already. Give another, or `--overwrite true`")
    OwnedFiles(output.parent, _KIND).check_free([output.name], _ARGUMENT)


@contextlib.contextmanager
def draft_of(output: Path, *, is_file: bool = False) -> Iterator[Path]:
    """
    Yield a temporary path; it becomes `output` when the context ends without an error, and replaces an earlier export there.

    Args:
        output (`Path`): As checked by [`check_output`].
        is_file (`bool`): Whether a file is written, or a folder.
    """
    if not is_file:
        with folder_draft(output, _KIND, _ARGUMENT, overwrite=True) as draft:
            yield draft
        return
    with hold_lock(output.parent / f".{output.name[:80]}{LOCK_FILE}", _ARGUMENT, output):
        owned = OwnedFiles(output.parent, _KIND)
        owned.check_free([output.name], _ARGUMENT)
        with atomic_path(output) as draft:
            yield draft
        owned.add([output.name])
