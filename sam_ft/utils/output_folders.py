"""Output folders: each belongs to one command with one set of settings, and one process writes to it at a time."""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from .files import write_text
from .locks import LOCK_FILE, hold_lock
from .secrets import redact
from .text import short_repr
from .yaml_files import read_yaml_mapping


logger = logging.getLogger("sam_ft.run")

_HEADER = "# Written by sam-ft: settings,"


@dataclass(frozen=True)
class FolderKind:
    """
    Kind of an output folder.

    Attributes:
        argument (`str`): The argument that names such a folder, for errors.
        marker (`str`): Name of the YAML file that records the settings.
        description (`str`): Noun phrase, such as "training run".
        remedy (`str`): Alternative to choosing another folder, for errors about other settings.
        legacy_keys (`tuple[str, ...]`): Keys that together identify a marker of a release that wrote no header.
    """

    argument: str
    marker: str
    description: str
    remedy: str
    legacy_keys: tuple[str, ...] = ()


def changed_settings(before: dict, settings: dict, defaults: dict) -> list[str]:
    """
    Describe the settings that differ from recorded ones.

    Args:
        before (`dict`): Recorded settings; a missing key was added by a later release and had its default.
        settings (`dict`): Present settings.
        defaults (`dict`): Defaults of the present release.

    Returns:
        `list[str]`: One text for each difference, in the order of the keys.
    """
    recorded = {key: before.get(key, defaults.get(key)) for key in settings}
    return [
        f"`{key}` was {short_repr(recorded[key])}, is {short_repr(settings[key])}"
        for key in sorted(settings)
        if recorded[key] != settings[key]
    ]


def is_claimed(folder: Path, kind: FolderKind) -> bool:
    """Check whether a folder contains a marker of `kind` that this package wrote, not a user's file of that name."""
    file = folder / kind.marker
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    # a record of an earlier release has no header, but every key
    return text.startswith(_HEADER) or (
        bool(kind.legacy_keys) and all(re.search(rf"^{key}:", text, re.MULTILINE) for key in kind.legacy_keys)
    )


def check_unclaimed(folder: Path, kind: FolderKind) -> None:
    """
    Check that a folder is empty, missing, or claimed by `kind`.

    Args:
        folder (`Path`): The folder.
        kind (`FolderKind`): Its kind.

    Raises:
        `ValueError`: If the path is a file, or a folder that contains anything and no marker of `kind`.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{kind.argument}`: {folder} is a file. Give a folder")
    if not folder.is_dir() or is_claimed(folder, kind):
        return
    names = sorted(
        p.name for p in folder.iterdir() if p.name != LOCK_FILE and not p.name.startswith(f".{kind.marker}.")
    )
    if names:
        raise ValueError(
            f"`{kind.argument}`: {folder} already contains {names[0]} and no {kind.marker} that this package wrote. "
            "Choose another folder, or empty it"
        )


@contextlib.contextmanager
def lock_folder(folder: Path, kind: FolderKind) -> Iterator[None]:
    """
    Create a folder and hold its lock while the context is open. A lock of a dead process is taken over with a warning.

    Args:
        folder (`Path`): The folder.
        kind (`FolderKind`): Its kind.

    Raises:
        `ValueError`: If another process holds the lock, or the folder contains something else; see
            [`check_unclaimed`].
    """
    check_unclaimed(folder, kind)
    existed = folder.is_dir()
    try:
        with hold_lock(folder / LOCK_FILE, kind.argument, folder) as dead:
            check_unclaimed(folder, kind)
            if dead is not None:
                logger.warning("%s: taking over the lock of %s, which no longer runs", folder, dead)
            yield
    except OSError as error:
        if error.filename is None or not Path(error.filename).name.startswith(LOCK_FILE):
            raise
        raise ValueError(
            f"`{kind.argument}`: {folder} cannot be written to ({error.strerror}). Choose another folder"
        ) from error
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # an error must not leave an empty folder
                folder.rmdir()


def claim_settings(
    folder: Path,
    kind: FolderKind,
    settings: dict,
    *,
    has_results: bool,
    defaults: dict | None = None,
    recorded: dict | None = None,
    replace: bool = False,
) -> bool:
    """
    Record the settings of a locked folder, or compare them with the recorded ones; only the marker is written.

    Args:
        folder (`Path`): A folder under [`lock_folder`].
        kind (`FolderKind`): Its kind.
        settings (`dict`): Plain values.
        has_results (`bool`): Whether the folder contains results of the recorded settings.
        defaults (`dict`, *optional*): Defaults for keys that the record lacks.
        recorded (`dict`, *optional*): Settings that are written instead of `settings`, with keys that are not
            compared.
        replace (`bool`): Whether to accept other settings although there are results, which the caller then replaces.

    Returns:
        `bool`: Whether the folder had the same settings before.

    Raises:
        `ValueError`: If it has results of other settings; names the keys that differ.
    """
    file = folder / kind.marker
    settings = _without_secrets(settings)
    if is_claimed(folder, kind):
        changed = changed_settings(read_yaml_mapping(str(file), kind.argument), settings, defaults or {})
        if not changed:
            return True
        if has_results and not replace:
            raise ValueError(
                f"`{kind.argument}`: {folder} contains the {kind.description} of other settings "
                f"({'; '.join(changed[:5])}). Choose another `{kind.argument}`, or {kind.remedy}"
            )
    write_text(
        file,
        f"{_HEADER} {kind.description}\n"
        + yaml.safe_dump(
            settings if recorded is None else _without_secrets(recorded), sort_keys=True, allow_unicode=True
        ),
    )
    return False


def _without_secrets(value):
    """Redact known secrets in every string of plain values."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
