"""Reader of SA-1B: one JSON file for each image, with masks that have no class names."""

from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import example_id_of, group_by_split
from .images import ImageError, file_name_text, find_image
from .json_files import read_json
from .records import Record, Shape, Split


FORM = "NAME.json with `image` and `annotations` beside NAME.jpg (SA-1B; masks without names)"
KEYS = ("class_name",)


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of SA-1B files; `None` for another layout."""
    files = sorted(f for f in folder.rglob("*.json") if not f.name.startswith("."))
    if not any(_content(file) is not None for file in files[:3]):
        return None
    return {split: partial(_read, folder, chosen) for split, chosen in group_by_split(files, folder).items()}


def _content(file: Path) -> dict | None:
    try:
        content = read_json(file, "SA-1B")
    except DatasetFormatError:
        return None
    return content if is_sa1b(content) else None


def is_sa1b(content) -> bool:
    """Return whether the content of a JSON file is one image of SA-1B."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("image"), dict)
        and isinstance(content.get("annotations"), list)
        and "file_name" in content["image"]
    )


def _read(folder: Path, files: list[Path], options: ReadOptions) -> Split:
    if not options.class_name:
        raise DatasetFormatError(
            "the masks of SA-1B have no class names, and SAM 3 is trained with a phrase for each mask. If all masks "
            "show one kind of object, set `class_name`",
            file=str(folder),
        )
    split = Split(str(folder), [], {options.class_name: options.class_name})
    for file in files:
        content = read_json(file, "SA-1B")
        if not is_sa1b(content):
            raise DatasetFormatError(
                "an SA-1B file contains `image` and `annotations`, which are missing here; move the file away",
                file=str(file),
            )
        try:
            image = find_image(file_name_text(content["image"]["file_name"]), [file.parent])
        except ImageError as error:
            image = error
        size = (content["image"].get("width"), content["image"].get("height"))
        shapes = sa1b_shapes(content, options.class_name)
        split.records.append(Record(example_id_of(file, folder), str(file), image, shapes, size))
    return split


def sa1b_shapes(content: dict, label: str) -> list[Shape]:
    """
    Build the shapes of one image of SA-1B; other objects of the image may be unlabelled.

    Args:
        content (`dict`): Content of the JSON file.
        label (`str`): Class of all masks.

    Returns:
        `list[Shape]`: One shape for each annotation.
    """
    shapes = []
    for i, annotation in enumerate(content["annotations"]):
        shape = Shape(f"annotations[{i}]", label, exhaustive=False)
        rle = annotation.get("segmentation") if isinstance(annotation, dict) else None
        if isinstance(rle, dict):
            shape.rle = rle
        else:
            shape.problem = f"`segmentation` is {short_repr(rle)}; expected an RLE"
        shapes.append(shape)
    return shapes
