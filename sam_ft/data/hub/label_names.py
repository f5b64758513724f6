"""Class names of the labels of a Hub data set."""

from datasets import Dataset

from ...options.data import HubSource, ReadOptions
from ..phrases.vocabulary import normalize_phrase
from ..readers.class_names import find_instance_name
from .columns import Columns
from .schemas import Schema, declared_names
from .source import class_names, names_in_row


def phrase_of(row: dict, columns: Columns) -> str:
    """Return the normalized phrase of a row, or an empty string."""
    text = columns.take(row, "phrase")
    return normalize_phrase(text) if isinstance(text, str) else ""


def label_names(rows: Dataset, columns: Columns, schema: Schema, source: HubSource, options: ReadOptions) -> dict:
    """
    Return the class name of each label.

    Args:
        rows (`datasets.Dataset`): Source rows.
        columns (`Columns`): Columns by role.
        schema (`Schema`): Schema of the rows.
        source (`HubSource`): The data set.
        options (`ReadOptions`): Options of the conversion.

    Returns:
        `dict`: Class name of each label in the rows.

    Raises:
        `ValueError`: If classes are numbers without names; contains the key that sets them.
    """
    if schema.one_phrase_a_row:
        texts = rows.select_columns(columns.roles["phrase"].partition(".")[0])
        return {text: text for text in sorted({phrase_of(row, columns) for row in texts} - {""})}
    if schema.needs_mask_values and options.mask_values is None:
        raise ValueError(
            f"`mask_values` is not set, and each row of {source.name!r} has one mask image. Set the meaning of its "
            "pixel values: `mask_values: instances` (one object each), `classes` (one mask for each class) or "
            "`components` (classes whose connected parts are objects)"
        )
    if schema.needs_class_name and not options.class_name:
        raise ValueError(
            f"the masks of {source.name!r} ({schema.description}) have no class names, and SAM 3 is trained with a "
            "phrase for each mask. If all masks show one kind of object, set `class_name`"
        )
    if "class_ids" in columns:
        return names_in_row(columns.take(rows[0], "class_ids"))
    declared = declared_names(columns)
    if declared is not None:
        return dict(enumerate(declared))
    if "masks" in columns and "labels" not in columns and "segments" not in columns and "segmentation" not in columns:
        return _labels_of_masks(source, options)
    labels = _collect_labels(rows, columns, options)
    if all(isinstance(label, str) for label in labels):
        return {label: label for label in sorted(labels)}
    names = class_names(source, options.class_names)
    unnamed = sorted(label for label in labels if label not in names)
    if unnamed:
        raise ValueError(
            f"`dataset_name`: the classes of {source.name!r} are numbers ({_shorten(labels)}), and "
            f"{_shorten(unnamed)} "
            'have no names. Pass a file `class_names: names.json` with {"0": "name", …}'
        )
    return names


def _labels_of_masks(source: HubSource, options: ReadOptions) -> dict:
    if options.mask_values == "instances":
        name = find_instance_name(source.name, options)
        return {name: name}
    names = class_names(source, options.class_names)
    if not names and not options.class_name:
        raise ValueError(
            f"the masks of {source.name!r} have no class names. Pass a file `class_names: names.json` with "
            '{"0": "name", …}, or set `class_name` if all masks show one kind of object'
        )
    return names or {options.class_name: options.class_name}


def _collect_labels(rows: Dataset, columns: Columns, options: ReadOptions) -> set:
    """Return all labels in the rows."""
    labels = set()
    role = "segments" if "segments" in columns else "labels"
    if role not in columns:
        return {options.class_name} if options.class_name else labels
    for row in rows.select_columns(columns.roles[role].partition(".")[0]):
        value = columns.take(row, role)
        if role == "segments":
            value = (
                value.get("category_id")
                if isinstance(value, dict)
                else [segment.get("category_id") for segment in value or []]
            )
        labels |= {label for label in (value if isinstance(value, list) else [value]) if label is not None}
    return labels


def _shorten(labels) -> str:
    names = sorted(map(str, labels))
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
