"""
Reader of mask images of single objects.

Files are `ID/images/*` with `ID/masks/*` (DSB 2018), or `images/NAME.*` with `masks/NAME/*`.
"""

from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in, split_of_name
from .mask_values import read_mask_file
from .records import Record, Shape, Split


FORM = "ID/images/*.png with ID/masks/*.png, or images/NAME.* with masks/NAME/*.png (one mask image an object)"
KEYS = ("class_name",)


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of mask images; `None` for another layout."""
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    unpaired: dict[str, list[Path]] = {}
    for subfolder in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        split = (split_of_name(subfolder.name) if subfolder != folder else None) or "train"
        split_pairs, split_unpaired = _find_pairs(subfolder)
        if split_pairs:
            pairs.setdefault(split, []).extend(split_pairs)
            unpaired.setdefault(split, []).extend(split_unpaired)
    return {split: partial(_read, folder, pairs[split], unpaired[split]) for split in pairs} or None


def _find_pairs(folder: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return pairs of an image and the folder of its masks, and the images or folders without a pair."""
    pairs, unpaired = [], []
    for image_folder in sorted(folder.glob("*/images")):
        if image_folder.parent.name.lower() in SPLIT_WORDS:  # train/images contains a split, not one picture.
            continue
        images, masks = images_in(image_folder), image_folder.parent / "masks"
        if len(images) == 1 and masks.is_dir():
            pairs.append((images[0], masks))
        else:
            unpaired.append(image_folder)
    if not pairs and (folder / "images").is_dir():
        images = {image.stem: image for image in images_in(folder / "images")}
        mask_folders = {p.name: p for p in sorted((folder / "masks").glob("*")) if p.is_dir()}
        pairs = [(images[name], mask_folders[name]) for name in mask_folders if name in images]
        unpaired = [image for name, image in images.items() if name not in mask_folders]
    return pairs, unpaired


def _read(folder: Path, pairs: list[tuple[Path, Path]], unpaired: list[Path], options: ReadOptions) -> Split:
    if not options.class_name:
        raise DatasetFormatError(
            "the mask images have no class names. Set the class that they show, such as `class_name: nucleus`",
            file=str(folder),
        )
    records = [
        Record(example_id_of(image, folder), str(image), image, partial(_shapes, masks, options.class_name))
        for image, masks in pairs
    ]
    split = Split(str(folder), records, {options.class_name: options.class_name})
    if unpaired:
        split.notes.append(f"{len(unpaired)} images without a folder of masks are left out, such as {unpaired[0]}")
    return split


def _shapes(folder: Path, label: str) -> list[Shape]:
    return [Shape(f"mask {file.name}", label, mask=partial(read_mask_file, file)) for file in images_in(folder)]
