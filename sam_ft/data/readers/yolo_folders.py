"""Search for YOLO labels in a folder without data.yaml: class names and image folders of each split."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, images_in
from .json_files import read_json
from .yolo_paths import images_of, label_file, read_text


_NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")
_FLAT = {"train": "."}  # images and label files in the folder itself, as labelImg writes them
_MAX_CHECKED_FILES = 20  # label files that are opened to find out whether a folder is of YOLO


@dataclass
class FolderConfig:
    """
    Configuration of a folder without data.yaml.

    Attributes:
        file (`Path`): File of the class names.
        values (`dict`): Configuration as in data.yaml.
        notes (`list[str]`): Notes on images that are not read.
    """

    file: Path
    values: dict
    notes: list[str] = field(default_factory=list)


def find_config(folder: Path) -> FolderConfig | None:
    """
    Build the configuration of a folder of YOLO labels without data.yaml.

    Args:
        folder (`Path`): Folder of a data set.

    Returns:
        `FolderConfig` or `None`: The configuration; `None` for another layout.

    Raises:
        `DatasetFormatError`: If the labels have no class names, or the files of class names contradict each other.
    """
    if any(folder.glob("*.xml")):  # The labels may be a copy of CVAT's annotations.
        return None
    sources = _image_sources(folder)
    files = [folder / name for name in _NAME_FILES if (folder / name).is_file()]
    if not files and (sources == _FLAT or any(f.name != "notes.json" for f in folder.glob("*.json"))):
        return None
    if not _contains_labels(_label_files(folder, sources)):
        if files and _contains_labels(file for file in (folder / "labels").rglob("*.txt") if file not in files):
            raise DatasetFormatError(
                "the folder has YOLO labels, but no image that belongs to one (searched "
                f"{', '.join(sources.values())}). Put the images there; Label Studio writes them with the export "
                "`YOLO with Images`",
                file=str(folder),
            )
        return None
    names = {file: _read_names(file) for file in files} | _read_label_studio_notes(folder / "notes.json")
    if not names:
        raise DatasetFormatError(
            "the folder has YOLO labels without class names. Add classes.txt with one name a line, in the order of "
            "the class numbers, or data.yaml with `names`",
            file=str(folder),
        )
    (file, first), *rest = names.items()
    for other, other_names in rest:
        if other_names != first:
            raise DatasetFormatError(
                f"its class names are {first[:10]}, those of {other} are {other_names[:10]}; remove the wrong file",
                file=str(file),
            )
    return FolderConfig(file, {"names": first, **sources}, _note_unread_images(folder, sources))


def _note_unread_images(folder: Path, sources: dict[str, str]) -> list[str]:
    """Return a note if `images` has folders of splits and other images."""
    if not any(source.startswith("images/") for source in sources.values()):
        return []
    images = images_in(folder / "images")
    unread = [f for f in images if f.relative_to(folder / "images").parts[0] not in SPLIT_WORDS]
    return [f"{len(unread)} images are in no folder of a split and not read, such as {unread[0]}"] if unread else []


def _image_sources(folder: Path) -> dict[str, str]:
    """Return the image folder, or list of images, of each split."""
    sources: dict[str, str] = {}
    for word, split in SPLIT_WORDS.items():
        if split in map(SPLIT_WORDS.get, sources):
            continue
        for images in (f"{word}/images", f"images/{word}", f"{word}.txt"):
            if (folder / images).is_dir() or (images.endswith(".txt") and _find_images(folder / images, folder)):
                sources[word] = images
                break
    if not sources:
        return {"train": "images"} if (folder / "images").is_dir() else _FLAT
    return sources


def _label_files(folder: Path, sources: dict[str, str]) -> Iterator[Path]:
    """Yield the label files of the images of each split."""
    for source in sources.values():
        images = _find_images(folder / source, folder)
        yield from (text for image in images if (text := label_file(image, folder)).is_file())


def _find_images(source: Path, folder: Path) -> list[Path]:
    """Return the images of a folder or a list; none of a file that is no list."""
    with contextlib.suppress(OSError, DatasetFormatError):
        return images_of(source, folder, [])
    return []


def _contains_labels(files: Iterable[Path]) -> bool:
    """Return whether one of the first files has a line of numbers, as YOLO's labels have."""
    return any(
        any(map(_is_label_line, file.read_text(encoding="utf-8", errors="replace").splitlines()))
        for file in itertools.islice(files, _MAX_CHECKED_FILES)
    )


def _is_label_line(line: str) -> bool:
    words = line.split()
    try:
        return len(words) >= 5 and words[0].isdigit() and all(-1 <= float(word) <= 2 for word in words[1:5])
    except ValueError:
        return False


def _read_names(file: Path) -> list[str]:
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if "" in names or not names:
        raise DatasetFormatError(
            f"line {names.index('') + 1 if names else 1} is empty, so the class numbers are unknown; write one class "
            "name a line",
            file=str(file),
        )
    return names


def _read_label_studio_notes(file: Path) -> dict[Path, list[str]]:
    """Return the names of Label Studio's notes.json in the order of their numbers; nothing for another file."""
    if not file.is_file():
        return {}
    content = read_json(file, "Label Studio")
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories) or not categories:
        return {}
    numbered = {category.get("id"): category.get("name") for category in categories}
    if sorted(numbered, key=str) != sorted(range(len(categories)), key=str):
        return {}
    return {file: [str(numbered[number]) for number in range(len(categories))]}
