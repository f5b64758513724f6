"""A folder belongs to one run: it is marked with the run's settings, and another run is told which of them differ."""

import shutil
from pathlib import Path

import yaml

from .yaml_files import read_yaml_mapping


def claim_folder(
    folder: Path, marker: str, settings: dict, *, key: str, what: str, has_results: bool, is_main: bool = True
) -> bool:
    """
    Marks a folder with settings, or finds that it has them already.

    Args:
        folder (`Path`). marker (`str`): name of the file that holds the settings. settings (`dict`): plain values.
        key (`str`): that named the folder, for messages. what (`str`): what a folder with the marker is, such as "run of this recipe".
        has_results (`bool`): whether anything worth keeping is there; without, the folder of other settings is emptied.
        is_main (`bool`): whether this process writes; the others only look.

    Returns:
        `bool`: whether the folder was marked with the same settings before.

    Raises:
        `ValueError`: where it holds other settings' results, or something else; names the keys that differ.
    """
    file = folder / marker
    found = [p for p in folder.iterdir() if p.name != f".{marker}"] if folder.is_dir() else []
    if found and not file.is_file():
        raise ValueError(
            f"`{key}`: {folder} already holds {found[0].name} and no {marker}, so it is no {what}. Choose another folder, or empty it"
        )
    if file.is_file():
        before = read_yaml_mapping(str(file), key)
        changed = [k for k in {**before, **settings} if before.get(k) != settings.get(k)]
        if not changed:
            return True
        if has_results:
            shown = "; ".join(f"`{k}` was {before.get(k)!r}, is {settings.get(k)!r}" for k in sorted(changed)[:5])
            raise ValueError(
                f"`{key}`: {folder} holds a {what} with other settings ({shown}). Choose another `{key}`, or delete this one to start over"
            )
        # an attempt that never got to a result, such as one with a wrong path: nothing of it is worth keeping
        if is_main:
            shutil.rmtree(folder)
    if is_main:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{marker}"
        draft.write_text(yaml.safe_dump(settings, sort_keys=True, allow_unicode=True), encoding="utf-8")
        draft.replace(file)
    return False
