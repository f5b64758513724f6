"""File and folder names: splits that they contain, and search for image files."""

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
    """Return the split that a whole word of a name stands for, as in `instances_val2017` but not in `latest`."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def image_suffixes() -> set[str]:
    """Return the suffixes of files that Pillow reads, such as `.jpg`."""
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} - {".pdf", ".txt"}


def images_in(folder: Path) -> list[Path]:
    """Return all image files below a folder, sorted by path, without hidden files such as `._a.jpg`."""
    return list(iterate_images(folder))


def iterate_images(folder: Path) -> Iterator[Path]:
    """Yield the files of [`images_in`] one by one, in the same order; each real folder is visited once."""
    yield from _iterate_images(folder, image_suffixes(), set())


def _iterate_images(folder: Path, suffixes: set[str], seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        names = sorted(os.listdir(folder))
    except PermissionError:
        return
    for name in names:
        path = folder / name
        if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".") and os.path.isfile(path):
            yield path
        elif os.path.isdir(path):
            yield from _iterate_images(path, suffixes, seen)


def split_of_folder(file: Path, root: Path) -> str:
    """Return the split of which a folder between `root` and the file has the name; `train` by default."""
    words = [part.lower() for part in file.relative_to(root).parts[:-1]]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")


def group_by_split(files: list[Path], root: Path) -> dict[str, list[Path]]:
    """Group files by split; see [`split_of_folder`]."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of_folder(file, root), []).append(file)
    return splits


def folder_of_file(file: Path) -> Path:
    """Return the folder of the data set of an annotation file: that of the file, or above a folder `annotations`."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def example_id_of(file: Path, root: Path) -> str:
    """Return the path of a file relative to `root` without its suffix: unique, and equal on every machine."""
    return file.relative_to(root).with_suffix("").as_posix()
