"""Folders as people have them: which split a file belongs to, which files are images."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


def split_of_name(name: str) -> str | None:
    """The split that a word of a name says, as `instances_val2017` does; `latest` and `terrain` say none."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def image_suffixes() -> set[str]:
    """Suffixes of files that Pillow reads, such as `.jpg`."""
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} - {".pdf", ".txt"}


def images_in(folder: Path) -> list[Path]:
    """All image files below a folder, in the order of their names; hidden ones (`._a.jpg`) left out."""
    suffixes = image_suffixes()
    files = (
        Path(place, name)
        for place, folders, names in _walk(folder)
        for name in names
        if Path(name).suffix.lower() in suffixes and not name.startswith(".")
    )
    return sorted(f for f in files if f.is_file())


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, into linked folders too, each real folder once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield place, folders, names


def split_of_folder(file: Path, root: Path) -> str:
    """The split that one of a file's folders below `root` names; `train` where none does."""
    words = [part.lower() for part in file.relative_to(root).parts[:-1]]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")


def by_split(files: list[Path], root: Path) -> dict[str, list[Path]]:
    """Files by the split that their folders name."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of_folder(file, root), []).append(file)
    return splits


def example_id_of(file: Path, root: Path) -> str:
    """A file's path below `root` without its suffix: unique, and the same on every machine."""
    return file.relative_to(root).with_suffix("").as_posix()
