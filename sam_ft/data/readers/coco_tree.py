"""Where COCO files and their images lie in the trees that people have."""

from dataclasses import dataclass, field
from pathlib import Path

from .files import SPLIT_WORDS, split_of_name


FORMS = (
    "annotations/instances_train2017.json, annotations/instances_val2017.json beside train2017/, val2017/ (COCO; LVIS too)",
    "annotations/train_coco.json, annotations/val_coco.json beside train_images/, val_images/",
    "annotations/*train*.json, annotations/*val*.json beside images/ (SA-Co; CVAT's COCO export)",
    "train/_annotations.coco.json, valid/_annotations.coco.json, images beside them or in images/ (Roboflow)",
    "or one file and one folder by name: annotation_file, image_folder (eval_annotation_file, eval_image_folder)",
)


@dataclass
class CocoFiles:
    """One split: its annotation file, the folders that may hold its images, best first, and files beside it that are not read."""

    annotation_file: Path
    image_folders: list[Path]
    others: list[Path] = field(default_factory=list)


def find_coco_splits(folder: Path) -> dict[str, CocoFiles]:
    """
    Finds the splits of a COCO tree.

    Returns:
        `dict[str, CocoFiles]`: by `train`, `validation`, `test`; only those that are there.
    """
    splits: dict[str, CocoFiles] = {}
    annotations = folder / "annotations"
    listed = [f for f in sorted(annotations.glob("*.json")) if not f.name.startswith(".")]
    best = [f for f in listed if f.name.startswith("instances_") or f.name.endswith("_coco.json")]
    files = best or [f for f in listed if _is_one_file_for_all(f)]
    others = []
    for file in files:
        split = split_of_name(file.stem) or ("train" if len(files) == 1 else None)
        if split and split not in splits:
            splits[split] = CocoFiles(file, _image_folders(folder, file, split))
        else:
            others.append(file)
    for found in splits.values():
        found.others = others
    if not splits:
        for word, split in SPLIT_WORDS.items():
            file = folder / word / "_annotations.coco.json"
            if file.is_file():
                splits.setdefault(split, CocoFiles(file, [folder / word, folder / word / "images"]))
    return splits


def _is_one_file_for_all(file: Path) -> bool:
    """Whether a file begins as COCO's do, so that a folder of one file an image is none of ours."""
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
