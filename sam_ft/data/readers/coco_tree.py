"""Search of a folder for COCO annotation files and the folders of their images."""

from dataclasses import dataclass, field
from pathlib import Path

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
    """
    splits: dict[str, CocoFiles] = {}
    annotations = folder / "annotations"
    candidates = [f for f in sorted(annotations.glob("*.json")) if not f.name.startswith(".")]
    standard = [f for f in candidates if f.name.startswith("instances_") or f.name.endswith("_coco.json")]
    files = standard or [f for f in candidates if _is_coco(f)]
    others = []
    for file in files:
        split = split_of_name(file.stem) or ("train" if len(files) == 1 else None)
        if split and split not in splits:
            splits[split] = CocoFiles(file, _image_folders(folder, file, split))
        else:
            others.append(file)
    for split_files in splits.values():
        split_files.others = others
    if not splits:
        for word, split in SPLIT_WORDS.items():
            file = folder / word / "_annotations.coco.json"
            if file.is_file():
                splits.setdefault(split, CocoFiles(file, [folder / word, folder / word / "images"]))
    return splits


def _is_coco(file: Path) -> bool:
    """Return whether a file begins as COCO files do; layouts with one file for each image do not."""
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(4000)
    return (
        any(f'"{key}"' in start for key in ("images", "annotations", "info", "categories", "licenses"))
        and '"image"' not in start
    )


def _image_folders(folder: Path, file: Path, split: str) -> list[Path]:
    name = file.stem.removeprefix("instances_").removesuffix("_coco")
    words = [name, *(word for word, s in SPLIT_WORDS.items() if s == split)]
    candidates = [folder / w for w in words] + [folder / f"{w}_images" for w in words]
    candidates += [folder / "images" / w for w in words] + [folder / "images", folder]
    return list(dict.fromkeys(c for c in candidates if c.is_dir()))
