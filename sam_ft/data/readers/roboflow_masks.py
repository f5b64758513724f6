"""Reader of Roboflow's semantic segmentation masks: NAME.jpg with NAME_mask.png and the class of each pixel value."""

import csv
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in
from .images import ImageError
from .mask_values import read_mask_values
from .records import Record, Split


FORM = (
    "train/NAME.jpg with train/NAME_mask.png and train/_classes.csv (semantic masks of Roboflow): needs `mask_values`"
)
KEYS = ("mask_values",)
_MASK_ENDING = "_mask"


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of semantic masks; `None` for another layout."""
    splits = {}
    for word in (*SPLIT_WORDS, ""):
        if _has_classes(folder / word / "_classes.csv") and (word or not splits):
            splits.setdefault(SPLIT_WORDS.get(word, "train"), partial(_read, folder / word, folder))
    return splits or None


def _has_classes(file: Path) -> bool:
    """Return whether a file lists pixel values; the `_classes.csv` of image labels lists file names."""
    if not file.is_file():
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline(200).lower().replace(" ", "").startswith("pixelvalue,")


def _read(folder: Path, root: Path, options: ReadOptions) -> Split:
    if options.mask_values not in ("classes", "components"):
        raise DatasetFormatError(
            f"`mask_values` is {short_repr(options.mask_values)}, and each pixel value is a class. Set `mask_values: "
            "classes` (one mask for each class) or `components` (classes whose connected parts are objects)",
            file=str(folder),
        )
    split = Split(str(folder), [], _read_classes(folder / "_classes.csv"))
    files = images_in(folder)
    masks = {mask.with_name(mask.stem.removesuffix(_MASK_ENDING)): mask for mask in files if _is_mask(mask)}
    images: dict[Path, Path] = {}
    for image in (file for file in files if not _is_mask(file)):
        other = images.setdefault(image.with_suffix(""), image)
        if other is not image:
            raise DatasetFormatError(
                f"{image.name} has the name of {other.name} but for its suffix; keep one", file=str(folder)
            )
    for stem, mask in masks.items():
        image = images.get(stem) or ImageError(f"the image {stem.name!r} of the mask {mask} is missing; put it there")
        shapes = partial(read_mask_values, mask, options.mask_values, split.labels)
        split.records.append(Record(example_id_of(stem.with_name(f"{stem.name}.png"), root), str(mask), image, shapes))
    if not masks:
        raise DatasetFormatError(f"there is no mask NAME{_MASK_ENDING}.png; export the images again", file=str(folder))
    num_unpaired = len(images.keys() - masks.keys())
    if num_unpaired:
        split.notes.append(f"{num_unpaired} images have no mask image and are left out")
    if options.mask_values == "classes":
        split.notes.append("all of a class in an image is one mask: present phrases are not exhaustive")
    return split


def _is_mask(file: Path) -> bool:
    return file.stem.endswith(_MASK_ENDING) and file.suffix.lower() == ".png"


def _read_classes(file: Path) -> dict[int, str]:
    """Return the class name of each pixel value."""
    labels: dict[int, str] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, strict=True, skipinitialspace=True) if row][1:]
        for row in rows:
            number, name = int(row[0]), row[1].strip()
            if len(row) != 2 or not name or number in labels or not 0 <= number <= 255:
                raise ValueError(f"the row {short_repr(row)} is damaged, or its number occurs twice")
            labels[number] = name
        if not labels:
            raise ValueError("it has no class")
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DatasetFormatError(
            f"expected rows of a pixel value and a class ({error}); export the images again", file=str(file)
        ) from error
    return labels
