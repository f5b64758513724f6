"""Search of a folder for COCO annotation files and the folders of their images."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.text import list_some
from ..conversion_info import read_conversion_info
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, split_of_name


@dataclass
class CocoFiles:
    """
    Files of one split.

    Attributes:
        annotation_file (`Path`): The COCO file.
        image_folders (`list[Path]`): Folders that are searched for images, in this order.
        others (`list[Path]`): Annotation files beside it that are not read.
    """

    annotation_file: Path
    image_folders: list[Path]
    others: list[Path] = field(default_factory=list)


def find_coco_splits(folder: Path) -> dict[str, CocoFiles]:
    """
    Find the splits of a folder of COCO files.

    Args:
        folder (`Path`): The folder of the data set.

    Returns:
        `dict[str, CocoFiles]`: Files by split (`train`, `validation`, `test`); only the splits that exist.

    Raises:
        `DatasetFormatError`: If the folder has several COCO files whose names contain no split.
    """
    candidates = [f for f in sorted((folder / "annotations").glob("*.json")) if not f.name.startswith(".")]
    standard = [f for f in candidates if f.name.startswith("instances_") or f.name.endswith("_coco.json")]
    splits = _group_by_split(folder, standard or [f for f in candidates if _is_coco(f)])
    if not splits:
        for word, split in SPLIT_WORDS.items():
            file = folder / word / "_annotations.coco.json"
            if file.is_file():
                splits.setdefault(split, CocoFiles(file, [folder / word, folder / word / "images"]))
    return splits or _find_files_without_folder(folder)


def _group_by_split(folder: Path, files: list[Path]) -> dict[str, CocoFiles]:
    splits: dict[str, CocoFiles] = {}
    others = []
    for file in files:
        split = _split_of(file) or ("train" if len(files) == 1 else None)
        if split and split not in splits:
            splits[split] = CocoFiles(file, image_folders_of(folder, file, split))
        else:
            others.append(file)
    for split_files in splits.values():
        split_files.others = others
    return splits


def _find_files_without_folder(folder: Path) -> dict[str, CocoFiles]:
    """Return the splits of COCO files in the folder itself, unless they are copies of YOLO or CVAT annotations."""
    if any(file for pattern in ("*.yaml", "*.yml", "*.xml") for file in folder.glob(pattern)):
        return {}
    files = [f for f in sorted(folder.glob("*.json")) if not f.name.startswith(".") and has_coco_lists(f)]
    splits = _group_by_split(folder, files)
    if files and not splits:
        raise DatasetFormatError(
            f"several COCO files, {list_some([file.name for file in files])}, have no split such as train or val in "
            "their names. Rename them, or set `annotation_file` to one of them",
            file=str(folder),
        )
    return splits


def has_coco_lists(file: Path) -> bool:
    """Return whether a file is an object with the lists `images` and `annotations`, without reading it whole."""
    missing, previous = [rb'"images"\s*:\s*\[', rb'"annotations"\s*:\s*\['], b""
    if not file.is_file() or file.name.startswith("panoptic_"):
        return False
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            if not previous and not re.match(rb"(\xef\xbb\xbf)?\s*\{", block):
                return False
            block = previous[-100:] + block  # A name may be at the end of a block.
            missing = [pattern for pattern in missing if not re.search(pattern, block)]
            if not missing:
                return b'"segments_info"' not in block
            previous = block
    return False


def _split_of(file: Path) -> str | None:
    """Return the split that a conversion wrote to a file, or that its name stands for."""
    info = read_conversion_info(file)
    return (info and info.split_of(file)) or split_of_name(file.stem)


def _is_coco(file: Path) -> bool:
    """Return whether a file begins as COCO files do; panoptic files, and one file for each image, do not."""
    if not file.is_file() or file.name.startswith("panoptic_"):
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(4000)
    return (
        any(f'"{key}"' in start for key in ("images", "annotations", "info", "categories", "licenses"))
        and '"image"' not in start
        and '"ISAT' not in start
    )


def image_folders_of(folder: Path, file: Path, split: str) -> list[Path]:
    """Return the folders that may contain the images of an annotation file, by the names of the file and its split."""
    name = file.stem.removeprefix("instances_").removeprefix("panoptic_").removesuffix("_coco")
    words = [name, *(word for word, s in SPLIT_WORDS.items() if s == split)]
    candidates = [folder / w for w in words] + [folder / f"{w}_images" for w in words]
    candidates += [folder / "images" / w for w in words] + [folder / "images", folder]
    return list(dict.fromkeys(c for c in candidates if c.is_dir()))
