"""SA-1B: one JSON file an image, with masks that have no names."""

from functools import partial
from pathlib import Path

from ...utils.text import short_repr
from ..row_schema import DatasetFormatError
from .files import by_split, example_id_of
from .images import ImageError, find_image, listed_name
from .json_files import read_json
from .records import ReadOptions, Record, Shape, Split


FORM = "NAME.json with `image` and `annotations` beside NAME.jpg (SA-1B; masks without names)"


def find(folder: Path) -> dict[str, partial] | None:
    """The splits of a tree of SA-1B files: name -> call that reads it."""
    files = sorted(f for f in folder.rglob("*.json") if not f.name.startswith("."))
    if not any(_content(file) is not None for file in files[:3]):
        return None
    return {split: partial(_read, folder, chosen) for split, chosen in by_split(files, folder).items()}


def _content(file: Path) -> dict | None:
    try:
        content = read_json(file, "SA-1B")
    except DatasetFormatError:
        return None
    return content if is_sa1b(content) else None


def is_sa1b(content) -> bool:
    """Whether a JSON file's content is one image of SA-1B."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("image"), dict)
        and isinstance(content.get("annotations"), list)
        and "file_name" in content["image"]
    )


def _read(folder: Path, files: list[Path], options: ReadOptions) -> Split:
    if not options.class_name:
        raise DatasetFormatError(
            "SA-1B's masks have no names, and SAM 3 asks for names. Where they all show one thing, say `class_name`",
            file=str(folder),
        )
    split = Split(str(folder), [], {options.class_name: options.class_name})
    for file in files:
        content = read_json(file, "SA-1B")
        if not is_sa1b(content):
            raise DatasetFormatError(
                "an SA-1B file holds `image` and `annotations`; move this one away", file=str(file)
            )
        try:
            image = find_image(listed_name(content["image"]["file_name"]), [file.parent])
        except ImageError as error:
            image = error
        size = (content["image"].get("width"), content["image"].get("height"))
        shapes = sa1b_shapes(content, options.class_name)
        split.records.append(Record(example_id_of(file, folder), str(file), image, shapes, size))
    return split


def sa1b_shapes(content: dict, label: str) -> list[Shape]:
    """The masks of one image; others may be unlabelled."""
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
