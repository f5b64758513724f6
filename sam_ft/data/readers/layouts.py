"""Detection of the layout of a folder and of its splits."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...utils.yaml_files import read_yaml_mapping
from . import cvat, labelme, mask_files, mask_values, polygon_files, sa1b, via, yolo
from .coco import read_coco_content
from .coco_tree import FORMS, CocoFiles, find_coco_splits
from .json_files import read_json
from .records import ReadOptions, Split
from .saco import is_saco, read_saco_content


SplitReader = Callable[[ReadOptions], Split]

# In the order of detection: layouts with distinctive files come before those whose files several layouts share.
_FINDERS = {
    "coco": lambda folder: {name: partial(read_json_split, files) for name, files in find_coco_splits(folder).items()},
    "yolo": yolo.find,
    "cvat": cvat.find,
    "polygons": polygon_files.find,
    "via": via.find,
    "labelme": labelme.find,
    "sa1b": sa1b.find,
    "mask_files": mask_files.find,
    "mask_values": mask_values.find,
}
LAYOUTS = tuple(_FINDERS)
_PARSERS = {
    ".json": lambda file: read_json(file, "annotation"),
    ".yaml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".yml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".xml": ElementTree.parse,
}
_MAX_FILE_BYTES = 2**24  # of a file that is parsed to report why no layout was detected
# Keys of `ReadOptions` that only some layouts use; every layout uses the others.
LAYOUT_KEYS = {
    "coco": ("phrase_source", "noun_phrases"),
    "via": ("class_name", "class_attribute"),
    "sa1b": ("class_name",),
    "mask_files": ("class_name",),
    "mask_values": ("class_name", "class_names", "mask_values"),
    "hub": ("noun_phrases", "class_name", "class_names", "mask_values"),
}
ACCEPTED = "\n  ".join(
    ["the layouts that are read:", *FORMS]
    + [module.FORM for module in (yolo, cvat, polygon_files, via, labelme, sa1b, mask_files, mask_values)]
)


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
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"`layout` is {layout!r}; choose from {', '.join(LAYOUTS)}")
    for name in LAYOUTS if layout is None else (layout,):
        splits = _FINDERS[name](folder)
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


def read_json_split(files: CocoFiles, options: ReadOptions) -> Split:
    """
    Read one annotation file for many images: COCO, LVIS or SA-Co.

    Args:
        files (`CocoFiles`): The annotation file and the folders of its images.
        options (`ReadOptions`): Conversion of annotations to rows.

    Returns:
        `Split`: The records of the file.

    Raises:
        `DatasetFormatError`: If the file is in none of these formats; see [`read_coco`].
    """
    content = read_json(files.annotation_file, "COCO")
    read_content = read_saco_content if is_saco(content) else read_coco_content
    split = read_content(content, files, options)
    if files.others:
        names = ", ".join(file.name for file in files.others[:3])
        split.notes.append(f"{len(files.others)} other annotation files beside this one are not read: {names}")
    return split
