"""Where COCO files and their images lie in the trees that people have."""

from dataclasses import dataclass
from pathlib import Path


SPLIT_WORDS = {"train": "train", "valid": "validation", "val": "validation", "test": "test"}
ACCEPTED = """the trees that are read:
  annotations/instances_train2017.json, annotations/instances_val2017.json beside train2017/, val2017/ (COCO)
  annotations/train_coco.json, annotations/val_coco.json beside train_images/, val_images/
  train/_annotations.coco.json, valid/_annotations.coco.json, images beside them or in images/ (Roboflow)
  or one file and one folder by name: annotation_file, image_folder (eval_annotation_file, eval_image_folder)"""


@dataclass
class CocoFiles:
    """One split: its annotation file and the folders that may hold its images, best first."""

    annotation_file: Path
    image_folders: list[Path]


def find_coco_splits(folder: Path) -> dict[str, CocoFiles]:
    """
    Finds the splits of a COCO tree.

    Returns:
        `dict[str, CocoFiles]`: by `train`, `validation`, `test`; only those that are there.

    Raises:
        `ValueError`: where the folder is missing or holds none of the accepted trees; lists what was found.
    """
    if not folder.is_dir():
        raise ValueError(
            f"`dataset_name`: there is no folder {str(folder)!r}. Give the folder of a data set; {ACCEPTED}"
        )
    splits: dict[str, CocoFiles] = {}
    annotations = folder / "annotations"
    for file in sorted(annotations.glob("instances_*.json")) + sorted(annotations.glob("*_coco.json")):
        split = _split_of(file.stem)
        if split and split not in splits:
            splits[split] = CocoFiles(file, _image_folders(folder, file, split))
    if not splits:
        for word, split in SPLIT_WORDS.items():
            file = folder / word / "_annotations.coco.json"
            if file.is_file():
                splits.setdefault(split, CocoFiles(file, [folder / word, folder / word / "images"]))
    if not splits:
        found = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:12]) or "nothing"
        raise ValueError(f"`dataset_name`: the folder {str(folder)!r} holds {found}, which is none of {ACCEPTED}")
    return splits


def _split_of(stem: str) -> str | None:
    return next((split for word, split in SPLIT_WORDS.items() if word in stem.lower()), None)


def _image_folders(folder: Path, file: Path, split: str) -> list[Path]:
    name = file.stem.removeprefix("instances_").removesuffix("_coco")
    words = [name, *(word for word, s in SPLIT_WORDS.items() if s == split)]
    candidates = [folder / w for w in words] + [folder / f"{w}_images" for w in words]
    candidates += [folder / "images" / w for w in words] + [folder / "images", folder]
    return list(dict.fromkeys(c for c in candidates if c.is_dir()))
