"""Class names of numbered classes: files of names, and classes that are no objects."""

import re
from collections.abc import Hashable
from pathlib import Path

import yaml

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ...utils.yaml_files import parse_yaml
from ..phrases.vocabulary import find_classes_without_objects
from ..row_schema import DatasetFormatError
from .json_files import parse_json


CLASS_NAME_FILES = ("id2label.json", "classes.json", "classes.txt", "labels.txt")


def find_instance_name(folder: Path | str, options: ReadOptions) -> str:
    """Return the class of mask images whose values are objects: `class_name`, or the only name in `class_names`."""
    if options.class_name:
        return options.class_name
    if not options.class_names:
        raise DatasetFormatError(
            "the mask images have no class names. Set the class that they show, such as `class_name: person`",
            file=str(folder),
        )
    names = read_class_names(Path(options.class_names))
    kept = [name for number, name in names.items() if number not in find_roles(names, options)]
    if len(kept) != 1:
        raise DatasetFormatError(
            f"`class_names` contains {len(kept)} classes, but with `mask_values: instances` the values are objects, "
            "whose classes are unknown. Set `class_name` if all are of one class, or `mask_values: components` if the "
            "values are classes",
            file=options.class_names,
        )
    return kept[0]


def find_roles(labels: dict[Hashable, str], options: ReadOptions) -> dict[Hashable, str]:
    """
    Find the classes that are no objects; see [`find_classes_without_objects`].

    Args:
        labels (`dict[Hashable, str]`): Class name of each label.
        options (`ReadOptions`): Options of the conversion.

    Returns:
        `dict[Hashable, str]`: `background` or `ignored` for each label that is no object.
    """
    background, ignored = find_classes_without_objects(labels.values(), options)
    roles = {label: "background" for label, name in labels.items() if name in background}
    return roles | {label: "ignored" for label, name in labels.items() if name in ignored}


def find_class_names(folder: Path, options: ReadOptions) -> tuple[dict[int, str], bool]:
    """Return the class of each pixel value, and whether masks are binary: all values except 0 are `class_name`."""
    file = Path(options.class_names) if options.class_names else None
    file = file or next((folder / name for name in CLASS_NAME_FILES if (folder / name).is_file()), None)
    if file is None and options.class_name:
        return {1: options.class_name}, True
    if file is None:
        raise DatasetFormatError(
            f'the classes have no names. Add a file {CLASS_NAME_FILES[0]} with {{"1": "road", …}} to the folder, or '
            "set `class_name` if there is only one class",
            file=str(folder),
        )
    return read_class_names(file), False


def read_class_names(file: Path) -> dict[int, str]:
    """
    Read class names from a file.

    Args:
        file (`Path`): JSON or YAML with `{"0": "name", …}` or `["name", …]`, or text with one name a line, with or
            without its number. The suffix selects the format.

    Returns:
        `dict[int, str]`: Class name of each number.

    Raises:
        `DatasetFormatError`: If the file contains something else; contains its path.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix in (".json", ".yaml", ".yml"):
            content = parse_json(text) if file.suffix == ".json" else parse_yaml(text)
        else:
            content = [line.strip() for line in text.splitlines() if line.strip()]
            numbered = [re.fullmatch(r"(\d+)[\s:,=]+(\S.*)", line) for line in content]
            content = dict(match.groups() for match in numbered) if all(numbered) else content
        if not isinstance(content, dict | list):
            raise ValueError(f"it contains {short_repr(content)}")
        entries = list(content.items() if isinstance(content, dict) else enumerate(content))
        invalid = [name for _, name in entries if not isinstance(name, str)]
        if invalid:
            raise ValueError(f"a name is {short_repr(invalid[0])}")
        # The label file of LabelMe starts with `__ignore__` and `_background_`, which have the numbers -1 and 0.
        first = -1 if isinstance(content, list) and content[:2] == ["__ignore__", "_background_"] else 0
        names = {int(number) + first: name for number, name in entries}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DatasetFormatError(
            f'expected {{"0": "name", …}} or a list of names ({error})', file=str(file)
        ) from error
    return {number: name for number, name in names.items() if name.strip()}
