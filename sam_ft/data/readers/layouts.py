"""Which layout a folder has, and the splits that are in it."""

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
from .saco import is_saco, saco_split


SplitReader = Callable[[ReadOptions], Split]

# in the order of detection: what only one layout has comes before what several have
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
_READ_AS = {
    ".json": lambda file: read_json(file, "annotation"),
    ".yaml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".yml": lambda file: read_yaml_mapping(str(file), "dataset_name"),
    ".xml": ElementTree.parse,
}
_LARGEST = 2**24  # bytes of a file that is looked at to say why no layout was found
# the keys of `ReadOptions` that say something about a layout, beside those that hold for all
USES = {
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
    Finds the layout of a folder and its splits.

    Args:
        folder (`Path`).
        layout (`str`, *optional*): one of `LAYOUTS`; detected where it is not given.

    Returns:
        `tuple[str, dict[str, SplitReader]]`: the layout, and for `train`, `validation`, `test`, those that are there, a call that
        reads it.

    Raises:
        `ValueError`: where the folder is missing or has none of the layouts; lists what was found.
    """
    if not folder.is_dir():
        raise ValueError(
            f"`dataset_name`: there is no folder {str(folder)!r}. Give the folder of a data set; {ACCEPTED}"
        )
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"`layout` is {layout!r}; choose from {', '.join(LAYOUTS)}")
    for name in LAYOUTS if layout is None else (layout,):
        splits = _FINDERS[name](folder)
        if splits:
            return name, splits
    found = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:12]) or "nothing"
    wanted = f"not of the layout {layout!r}" if layout else "none of"
    damaged = "".join(f"\n  cannot be read: {problem}" for problem in _damaged(folder))
    raise ValueError(
        f"`dataset_name`: the folder {str(folder)!r} holds {found}, which is {wanted}; {ACCEPTED}{damaged}"
    )


def _damaged(folder: Path) -> list[str]:
    """What is wrong with files that may be the annotations: why none of the layouts was found."""
    files = [
        f
        for f in sorted([*folder.glob("*"), *folder.glob("*/*")])
        if f.suffix in _READ_AS and f.is_file() and f.stat().st_size < _LARGEST
    ]
    problems = []
    for file in files[:8]:
        try:
            _READ_AS[file.suffix](file)
        except (ValueError, OSError, LookupError, ElementTree.ParseError) as error:
            problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    return problems[:3]


def read_json_split(files: CocoFiles, options: ReadOptions) -> Split:
    """One annotation file for many images: COCO, LVIS or SA-Co."""
    content = read_json(files.annotation_file, "COCO")
    read = saco_split if is_saco(content) else read_coco_content
    split = read(content, files, options)
    if files.others:
        names = ", ".join(file.name for file in files.others[:3])
        split.notes.append(f"{len(files.others)} other annotation files beside this one are not read: {names}")
    return split
