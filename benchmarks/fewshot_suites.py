"""Data sets of the few-shot benchmark: layouts of ODinW13 and RF100-VL, selection of the shots, stand-in folders."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.synthetic.scene_files import write_shape_scenes
from sam_ft.options.scenes import SceneFiles, SceneOptions


# Data set -> folder of its splits, and the phrases of the official configuration for classes that are no nouns.
ODINW13 = {
    "AerialMaritimeDrone_large": ("AerialMaritimeDrone/large", {"jetski": "jet ski", "lift": "boat lift"}),
    "Aquarium": ("Aquarium/Aquarium Combined.v2-raw-1024.coco", {}),
    "CottontailRabbits": ("CottontailRabbits", {}),
    "EgoHands_generic": ("EgoHands/generic", {}),
    "NorthAmericaMushrooms": (
        "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco", {"CoW": "chicken of wood"},
    ),
    "Packages": ("Packages/Raw", {}),
    "PascalVOC": ("PascalVOC", {}),
    "Raccoon": ("Raccoon/Raccoon.v2-raw.coco", {}),
    "ShellfishOpenImages": ("ShellfishOpenImages/raw", {}),
    "VehiclesOpenImages": ("VehiclesOpenImages/416x416", {}),
    "pistols": ("pistols/export", {}),
    "pothole": ("pothole", {}),
    "thermalDogsAndPeople": ("thermalDogsAndPeople", {}),
}  # fmt: skip
TEST_SPLITS = ("test", "valid", "val", "mini_val")  # PascalVOC has no test split with labels
FILE_NAMES = ("annotations_without_background.json", "_annotations.coco.json")


@dataclass
class FewShotData:
    """Files of one data set.

    Attributes:
        name (`str`): Its name.
        train_file (`Path`): COCO file of all training images.
        train_images (`Path`): Their folder.
        test_file (`Path`): COCO file of the test images.
        test_images (`Path`): Their folder.
        phrases (`dict[str, str]`): Class -> phrase, where they differ.
    """

    name: str
    train_file: Path
    train_images: Path
    test_file: Path
    test_images: Path
    phrases: dict[str, str] = field(default_factory=dict)


def find_data(suite: str, folder: Path) -> tuple[list[FewShotData], list[str]]:
    """Find the data sets of a suite.

    Args:
        suite (`str`): `odinw13` or `rf100vl`.
        folder (`Path`): Folder with one folder for each data set.

    Returns:
        `tuple[list[FewShotData], list[str]]`: Complete data sets, and the names of the others.
    """
    roots = ODINW13 if suite == "odinw13" else {f.name: (f.name, {}) for f in sorted(folder.iterdir()) if f.is_dir()}
    complete, incomplete = [], []
    for name, (path, phrases) in roots.items():
        train = _find_split(folder / path, ("train",))
        test = _find_split(folder / path, TEST_SPLITS)
        if train and test:
            complete.append(FewShotData(name, *train, *test, phrases))
        else:
            incomplete.append(name)
    return complete, incomplete


def _find_split(root: Path, splits: tuple[str, ...]) -> tuple[Path, Path] | None:
    """Find the COCO file and the images of the first split: a folder, or a prefix of files beside the images."""
    for split in splits:
        for name in FILE_NAMES:
            for file in (root / split / name, root / f"{split}_{name}"):
                if file.is_file():
                    return file, file.parent
    return None


def get_shots_file(data: FewShotData, shots: int, seed: int, folder: Path) -> Path:
    """Return the COCO file of the shots: the published one of ODinW, or else a selection that is written once.

    Args:
        data (`FewShotData`): Data set.
        shots (`int`): Images with each class.
        seed (`int`): Random seed.
        folder (`Path`): Folder of written selections.
    """
    published = data.train_images / f"fewshot_train_shot{shots}_seed{seed}.json"
    if published.is_file():
        return published
    file = folder / data.name / published.name
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        coco = json.loads(data.train_file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(select_shots(coco, shots, seed)), encoding="utf-8")
    return file


def select_shots(coco: dict, shots: int, seed: int) -> dict:
    """Select images of a COCO file until each class is in at least `shots` of them, or in all of its images.

    The images are shuffled by the seed, and rare classes come first. All annotations of a selected image are kept,
    as in ODinW's files, so that a class can be in more images.

    Args:
        coco (`dict`): Content of the COCO file.
        shots (`int`): Images with each class.
        seed (`int`): Random seed.

    Returns:
        `dict`: The file with the selected images and their annotations.
    """
    classes: dict[int, set[int]] = {}
    for annotation in coco["annotations"]:
        classes.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    totals = Counter(category for present in classes.values() for category in present)
    images = sorted(classes)
    order = [images[i] for i in keyed_draws(seed, 0, "shots", "few-shot").permutation(len(images))]
    chosen, counts = set(), Counter()
    for category in sorted(totals, key=lambda c: (totals[c], c)):
        for image in order:
            if counts[category] >= shots:
                break
            if category in classes[image] and image not in chosen:
                chosen.add(image)
                counts.update(classes[image])
    return {
        **coco,
        "images": [image for image in coco["images"] if image["id"] in chosen],
        "annotations": [a for a in coco["annotations"] if a["image_id"] in chosen],
    }


def write_stand_in(suite: str, folder: Path) -> None:
    """Write two data sets of synthetic shapes in the layout of a suite.

    Args:
        suite (`str`): `odinw13` or `rf100vl`.
        folder (`Path`): Folder of the suite, which must not exist.

    Raises:
        ValueError: If the folder exists.
    """
    if folder.exists():
        raise ValueError(f"`--folder`: {folder} exists; choose a new folder for the stand-in")
    scenes = SceneOptions(width=160, height=120, min_shapes=1, max_shapes=3)
    for number, name in enumerate(("Raccoon", "pistols") if suite == "odinw13" else ("13-lkc01", "actions")):
        source = write_shape_scenes(folder / "source", SceneFiles(scenes, num_train=12 + number, num_validation=4))
        root = folder / (ODINW13[name][0] if suite == "odinw13" else name)
        for split, source_split in (("train", "train"), ("valid", "val"), ("test", "val")):
            annotations = source / "annotations" / f"instances_{source_split}.json"
            coco = json.loads(annotations.read_text(encoding="utf-8"))
            if name == "pistols":  # The images of all splits are in one folder, the split is in the file's name.
                images, file = root, root / f"{split}_{FILE_NAMES[0]}"
                for image in coco["images"]:
                    image["file_name"] = f"{split}_{image['file_name']}"
            else:
                images = root / split
                file = images / FILE_NAMES[0 if suite == "odinw13" else 1]
            images.mkdir(parents=True, exist_ok=True)
            for image in coco["images"]:
                original = image["file_name"].removeprefix(f"{split}_")
                shutil.copy(source / source_split / original, images / image["file_name"])
            file.write_text(json.dumps(coco), encoding="utf-8")
        shutil.rmtree(source)
