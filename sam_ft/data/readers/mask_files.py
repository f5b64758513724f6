"""One mask image for each object: `ID/images/*` with `ID/masks/*` (DSB 2018), or `images/NAME.*` with `masks/NAME/*`."""

from functools import partial
from pathlib import Path

from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in, split_of_name
from .mask_values import read_mask_file
from .records import ReadOptions, Record, Shape, Split


FORM = "ID/images/*.png with ID/masks/*.png, or images/NAME.* with masks/NAME/*.png (one mask image an object)"


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a tree of mask images: name -> call that reads it."""
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    left: dict[str, list[Path]] = {}
    for place in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        split = (split_of_name(place.name) if place != folder else None) or "train"
        found, without = _pairs(place)
        if found:
            pairs.setdefault(split, []).extend(found)
            left.setdefault(split, []).extend(without)
    return {split: partial(_read, folder, pairs[split], left[split]) for split in pairs} or None


def _pairs(folder: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """(image, folder of its masks), and images or folders that make no pair."""
    pairs, left = [], []
    for place in sorted(folder.glob("*/images")):
        if place.parent.name.lower() in SPLIT_WORDS:  # train/images is a split, no picture's folder
            continue
        images, masks = images_in(place), place.parent / "masks"
        if len(images) == 1 and masks.is_dir():
            pairs.append((images[0], masks))
        else:
            left.append(place)
    if not pairs and (folder / "images").is_dir():
        images = {image.stem: image for image in images_in(folder / "images")}
        places = {p.name: p for p in sorted((folder / "masks").glob("*")) if p.is_dir()}
        pairs = [(images[name], places[name]) for name in places if name in images]
        left = [image for name, image in images.items() if name not in places]
    return pairs, left


def _read(folder: Path, pairs: list[tuple[Path, Path]], left: list[Path], options: ReadOptions) -> Split:
    if not options.class_name:
        raise DatasetFormatError(
            "mask images name no class; say what they show: `class_name: nucleus`", file=str(folder)
        )
    records = [
        Record(example_id_of(image, folder), str(image), image, partial(_shapes, masks, options.class_name))
        for image, masks in pairs
    ]
    split = Split(str(folder), records, {options.class_name: options.class_name})
    if left:
        split.notes.append(
            f"{len(left)} images without a folder of masks of their own are left out, such as {left[0]}"
        )
    return split


def _shapes(folder: Path, label: str) -> list[Shape]:
    return [Shape(f"mask {file.name}", label, mask=partial(read_mask_file, file)) for file in images_in(folder)]
