"""Detection of the layout of a folder and of its splits."""

import importlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from ...options.data import LAYOUTS, ReadOptions
from ...utils.text import list_some
from ...utils.yaml_files import read_yaml_mapping
from .files import images_in
from .json_files import read_json
from .records import Split
from .unread_formats import find_unread_format


SplitReader = Callable[[ReadOptions], Split]

# Layout -> its module, see the docstring of this folder.
_READERS = {name: importlib.import_module(f".{module}", __package__) for name, module in LAYOUTS.items()}
_PARSERS = {
    ".json": lambda file: read_json(file, "annotation"),
    ".yaml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".yml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".xml": ElementTree.parse,
}
_MAX_FILE_BYTES = 2**24  # of a file that is parsed to report why no layout was detected
# Keys of `ReadOptions` that only some layouts use; every layout uses the others.
LAYOUT_KEYS = {
    **{name: (*getattr(reader, "KEYS", ()), "image_channels") for name, reader in _READERS.items()},
    "hub": ("noun_phrases", "class_name", "class_names", "mask_values"),
}
ACCEPTED = "\n  ".join(["the layouts that are read:", *(reader.FORM for reader in _READERS.values())])


def find_splits(folder: Path, layout: str | None = None) -> tuple[str, dict[str, SplitReader]]:
    """
    Find the layout of a folder and its splits.

    Args:
        folder (`Path`): The folder of a data set.
        layout (`str`, *optional*): One of `LAYOUTS`, detected by default.

    Returns:
        `tuple[str, dict[str, SplitReader]]`: The layout, and a function that reads each existing split (`train`,
            `validation`, `test`).

    Raises:
        `ValueError`: If the folder is missing or has none of the layouts; lists its content.
    """
    if not folder.is_dir():
        raise ValueError(
            f"`dataset_name`: there is no folder {str(folder)!r}. Pass the folder of a data set; {ACCEPTED}"
        )
    for name in _READERS if layout is None else (layout,):
        splits = _READERS[name].find(folder)
        if splits:
            return name, splits
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    expected = f"not of the layout {layout!r}" if layout else "of none of the layouts below"
    content = f"contains {list_some(names, 12)}, which is {expected}" if names else "is empty"
    if names and len({image.name for image in images_in(folder)}.intersection(names)) == len(names):
        content = f"contains images without labels ({list_some(names)})"
    damaged = "".join(f"\n  cannot be read: {problem}" for problem in _find_damaged_files(folder))
    raise ValueError(
        f"`dataset_name`: the folder {str(folder)!r} {content}; {ACCEPTED}{damaged}{_describe_unread_format(folder)}"
    )


def find_splits_of_file(file: Path, layout: str | None = None) -> tuple[str, dict[str, SplitReader]]:
    """
    Find the layout of an annotation file that describes many images, and its splits.

    Args:
        file (`Path`): The annotation file.
        layout (`str`, *optional*): One of `LAYOUTS`, detected by default.

    Returns:
        `tuple[str, dict[str, SplitReader]]`: As [`find_splits`].

    Raises:
        `ValueError`: If the file is in none of the layouts with such a file.
    """
    readers = {name: reader for name, reader in _READERS.items() if hasattr(reader, "find_file")}
    for name in readers if layout is None else [layout] if layout in readers else []:
        splits = readers[name].find_file(file)
        if splits:
            return name, splits
    expected = f"not of the layout {layout!r}" if layout else f"of none of the layouts {', '.join(readers)}"
    problem = _find_problem(file)
    raise ValueError(
        f"`dataset_name`: the file {str(file)!r} is {expected}. Pass such an annotation file, or the folder of the "
        "data set" + (f"\n  cannot be read: {problem}" if problem else "") + _describe_unread_format(file)
    )


def _describe_unread_format(source: Path) -> str:
    """Return the last line of the error: the format of a folder or file, if it is known, and what is read instead."""
    recognised = find_unread_format(source)
    if recognised is None:
        return ""
    unread, file = recognised
    return f"\n  {file} is recognised as {unread.name}, which is not read. {unread.remedy}."


def _find_damaged_files(folder: Path) -> list[str]:
    """Return the errors of files that may be annotations, as reasons why no layout was detected."""
    files = [
        f
        for f in sorted([*folder.glob("*"), *folder.glob("*/*")])
        if f.suffix in _PARSERS and f.is_file() and f.stat().st_size < _MAX_FILE_BYTES
    ]
    return [problem for problem in map(_find_problem, files[:8]) if problem][:3]


def _find_problem(file: Path) -> str | None:
    """Return the error of a file that cannot be parsed; `None` if it can, or is of another kind."""
    if file.suffix in _PARSERS and file.stat().st_size < _MAX_FILE_BYTES:
        try:
            _PARSERS[file.suffix](file)
        except (ValueError, OSError, LookupError, ElementTree.ParseError) as error:
            return str(error) if str(file) in str(error) else f"{file}: {error}"
    return None
