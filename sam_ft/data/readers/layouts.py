"""Detection of the layout of a folder and of its splits."""

import importlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from ...options.data import LAYOUTS, ReadOptions
from ...utils.yaml_files import read_yaml_mapping
from .json_files import read_json
from .records import Split


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
    **{name: reader.KEYS for name, reader in _READERS.items() if hasattr(reader, "KEYS")},
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
    content = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:12]) or "nothing"
    expected = f"not of the layout {layout!r}" if layout else "none of"
    damaged = "".join(f"\n  cannot be read: {problem}" for problem in _find_damaged_files(folder))
    raise ValueError(
        f"`dataset_name`: the folder {str(folder)!r} contains {content}, which is {expected}; {ACCEPTED}{damaged}"
    )


def _find_damaged_files(folder: Path) -> list[str]:
    """Return the errors of files that may be annotations, as reasons why no layout was detected."""
    files = [
        f
        for f in sorted([*folder.glob("*"), *folder.glob("*/*")])
        if f.suffix in _PARSERS and f.is_file() and f.stat().st_size < _MAX_FILE_BYTES
    ]
    problems = []
    for file in files[:8]:
        try:
            _PARSERS[file.suffix](file)
        except (ValueError, OSError, LookupError, ElementTree.ParseError) as error:
            problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    return problems[:3]
