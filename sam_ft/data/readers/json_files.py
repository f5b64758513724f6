"""Strict reading of JSON annotation files; errors contain the file."""

import json
from pathlib import Path

from ...utils.text import short_repr
from ..row_schema import DatasetFormatError


def read_json(path: Path, kind: str):
    """
    Read the content of a JSON annotation file.

    Args:
        path (`Path`): The file.
        kind (`str`): Expected format for messages, such as `COCO`.

    Returns:
        The parsed content.

    Raises:
        `DatasetFormatError`: If the file is missing, empty, not UTF-8 text, not JSON or nested too deeply, or if an
            object has a key twice, of which JSON readers keep only the last value.
    """

    def refuse(message):
        raise DatasetFormatError(message, file=str(path))

    if not path.is_file():
        refuse("the file does not exist; correct `annotation_file` or `dataset_name`")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"the file cannot be read as UTF-8 text ({error}); export the annotations again as {kind} JSON")
    if not text.strip():
        refuse("the file is empty; export the annotations again")
    try:
        return parse_json(text)
    except RecursionError:
        refuse(f"the JSON is nested too deeply to be read; export the annotations again as {kind}")
    except DuplicateKeyError as error:
        refuse(str(error))
    except ValueError as error:
        refuse(f"this is not JSON ({error}); export the annotations again as {kind}")


class DuplicateKeyError(ValueError):
    """Error of a JSON object that has a key twice."""


def parse_json(text: str):
    """
    Parse JSON strictly.

    Args:
        text (`str`): The JSON text.

    Returns:
        The parsed content.

    Raises:
        `DuplicateKeyError`: If an object has a key twice.
        `ValueError`: If the text is not JSON.
        `RecursionError`: If it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    seen = set()
    key = next(key for key, _ in pairs if key in seen or seen.add(key))
    raise DuplicateKeyError(
        f"the key {short_repr(key)} occurs twice in one object, {short_repr(content)}; its first value would be lost. "
        "Merge both values, or remove one"
    )
