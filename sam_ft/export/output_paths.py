"""Output paths of an export: checked before loading, and replaced only by a complete draft."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..utils.drafts import check_replaceable, folder_draft
from ..utils.files import atomic_path, shorten_name
from ..utils.locks import LOCK_FILE, hold_lock
from ..utils.owned_files import OwnedFiles


RECORD = "export.json"  # layout, source and versions of an exported folder
_ARGUMENT, _KIND = "output_path", "export"


def check_output(output: Path, sources: list[str], *, overwrite: bool, is_file: bool) -> None:
    """
    Check the output path of an export before anything is loaded.

    Args:
        output (`Path`): File or folder to write.
        sources (`list[str]`): Files and folders that are read.
        overwrite (`bool`): Replace an earlier export.
        is_file (`bool`): Whether the output is a file.

    Raises:
        `ValueError`: If the output is, contains or lies in a source; if it contains files that no export wrote; if it
            contains an export and `overwrite` is false.
    """
    target = output.resolve()
    for source in filter(None, sources):
        read = Path(source).resolve()
        if Path(source).exists() and (
            target == read or target in read.parents or (read in target.parents and read.is_dir())
        ):
            raise ValueError(
                f"`output_path` is {str(output)!r}, which overlaps the source {source!r}. Give another path"
            )
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
        raise ValueError(
            f"`output_path`: {str(output)!r} exists already. Give another path, or set `--overwrite true`"
        )
    OwnedFiles(output.parent, _KIND).check_free([output.name], _ARGUMENT)


@contextlib.contextmanager
def open_draft(output: Path, *, is_file: bool = False) -> Iterator[Path]:
    """
    Yield a temporary path, which replaces `output` when the context ends without an error.

    Args:
        output (`Path`): Output path; see [`check_output`].
        is_file (`bool`): Whether a file is written instead of a folder, `False` by default.
    """
    if not is_file:
        with folder_draft(output, _KIND, _ARGUMENT, overwrite=True) as draft:
            yield draft
        return
    with hold_lock(output.parent / f".{shorten_name(output.name)}{LOCK_FILE}", _ARGUMENT, output):
        owned = OwnedFiles(output.parent, _KIND)
        owned.check_free([output.name], _ARGUMENT)
        with atomic_path(output) as draft:
            yield draft
        owned.add([output.name])
