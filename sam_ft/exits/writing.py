"""A result is written beside its place, checked there, and only then put there."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


RECORD = "export.json"  # says that a folder was written by an export, and may be replaced by one


def check_output(output: Path, sources: list[str], *, overwrite: bool, is_file: bool) -> None:
    """
    Args:
        output (`Path`): to write. is_file (`bool`): a file, or a folder. sources (`list[str]`): what is read. overwrite (`bool`): replace what is there.

    Raises:
        `ValueError`: where something is there that may not be replaced, or where the output is, holds or lies in a source.
    """
    here = output.resolve()
    for source in filter(None, sources):
        there = Path(source).resolve()
        if Path(source).exists() and (
            here == there or here in there.parents or (there in here.parents and there.is_dir())
        ):
            raise ValueError(f"`output_path` is {str(output)!r}, and {source!r} is read: give a place beside it")
    if not output.exists():
        _recover(output)
    if not output.exists():
        return
    if output.is_dir() == is_file:
        kinds = ("a folder", "a file") if is_file else ("a file", "a folder")
        raise ValueError(f"`output_path` is {str(output)!r}, {kinds[0]}; give {kinds[1]}")
    if not overwrite:
        raise ValueError(f"`output_path`: {str(output)!r} is there already; give another, or `--overwrite true`")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise ValueError(
            f"`output_path`: the folder {str(output)!r} holds no {RECORD}, so no export wrote it and none replaces it; give another"
        )


@contextlib.contextmanager
def draft_of(output: Path) -> Iterator[Path]:
    """
    A place beside `output` to write to; it becomes `output` when the context ends well, and is removed when it does not. What stands there
    is replaced.
    """
    draft = output.with_name(f".{output.stem}.part{output.suffix}")
    _remove(draft)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        if output.is_dir():
            old = output.with_name(f".{output.name}.old")
            _remove(old)
            output.rename(old)
            try:
                draft.rename(output)
            except OSError:
                old.rename(output)
                raise
            _remove(old)
        else:
            draft.replace(output)
    finally:
        _remove(draft)


def _recover(output: Path) -> None:
    """Puts back what a kill between two renames has left aside."""
    old = output.with_name(f".{output.name}.old")
    if old.is_dir():
        old.rename(output)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
