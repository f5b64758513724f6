"""Paths in YOLO data sets: folders and lists of images, often written on another machine, and label files."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, image_suffixes, images_in


@dataclass
class YoloPaths:
    """
    Search for paths of a configuration or a list in the folder of the data set.

    Paths of another machine are read below the folder without their first parts. These parts are the same for all
    paths, so that different paths never become the same file.

    Attributes:
        root (`Path`): Folder of the data set.
        base (`Path`): Folder that the paths are relative to.
        notes (`list[str]`): List that notes on paths of another machine are appended to.
        name (`str`): Name of the paths in notes.
        is_list (`bool`): Whether the paths are those of images in a list. Its relative paths may be of another machine
            too, and a name without a folder is not searched, because another image may have it.
    """

    root: Path
    base: Path
    notes: list[str]
    name: str
    is_list: bool = False
    _prefix: tuple[str, ...] | None = field(default=None, init=False)

    def find(self, value: str) -> Path | None:
        """
        Find a file or folder.

        Args:
            value (`str`): Path as it is written.

        Returns:
            `Path` or `None`: The first that exists of: the path below `base`, below `root`, and, for Roboflow's
                `../train/images`, below `root` without `..`; then the path of another machine below `root`.
        """
        inside = self.root / Path(*[part for part in Path(value).parts if part not in ("..", ".", "/")])
        for candidate in (self.base / value, self.root / value, inside):
            if _exists(candidate):
                return candidate
        path = PureWindowsPath(value)  # Both slashes separate folders.
        # A relative path without `..`, such as images/val, is that of a split that does not exist.
        is_foreign = self.is_list or path.root or path.parts[:1] == ("..",)
        return self._find_foreign(path.parts) if is_foreign else None

    def _find_foreign(self, parts: tuple[str, ...]) -> Path | None:
        if self._prefix is not None:
            candidate = self.root.joinpath(*parts[len(self._prefix) :])
            return candidate if parts[: len(self._prefix)] == self._prefix and _exists(candidate) else None
        for number in range(1, len(parts)):
            candidate = self.root.joinpath(*parts[number:])
            is_whole = not self.is_list or number < len(parts) - 1 or parts[number - 1] == self.root.name
            # The images of /data/valid/images are not those of images/.
            if is_whole and parts[number - 1].lower() not in SPLIT_WORDS and _exists(candidate):
                self._prefix = parts[:number]
                removed = "/".join(part.rstrip("\\/") for part in self._prefix)
                self.notes.append(f"{self.name} begins with {removed!r}, which does not exist; {self.root} is read")
                return candidate
        return None


def _exists(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # A name that the file system does not allow is a missing file.
        return path.exists()
    return False


def read_text(file: Path) -> str:
    """Return the content of a text file; `DatasetFormatError` if it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetFormatError(f"this is not UTF-8 text ({error}); save it as UTF-8", file=str(file)) from error


def images_of(source: Path, root: Path, notes: list[str]) -> list[Path]:
    """
    Return the images of a folder or of a text file that lists them.

    Args:
        source (`Path`): Folder or text file.
        root (`Path`): Folder of the data set.
        notes (`list[str]`): List that notes on paths of another machine are appended to.

    Returns:
        `list[Path]`: The images; those of a list that cannot be found have the path in the list.

    Raises:
        `DatasetFormatError`: If the list is not UTF-8 text.
    """
    if source.is_dir():
        return images_in(source)
    lines = [line.strip() for line in read_text(source).splitlines() if line.strip()]
    lines = [line for line in lines if Path(line).suffix.lower() in image_suffixes()]
    paths = YoloPaths(root, source.parent, notes, f"a path in {source.name}", is_list=True)
    return [paths.find(line) or source.parent / line for line in lines]


def label_file(image: Path, root: Path) -> Path:
    """
    Return the label file of an image: the last folder `images` becomes `labels`, as in Ultralytics.

    Args:
        image (`Path`): The image.
        root (`Path`): Folder of the data set, whose own path is not changed.

    Returns:
        `Path`: The label file; beside the image if no folder is named `images`.
    """
    is_inside = image.is_relative_to(root)
    parts = list((image.relative_to(root) if is_inside else image).parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    path = Path(*parts).with_suffix(".txt")
    return root / path if is_inside else path
