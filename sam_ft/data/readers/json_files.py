"""JSON annotation files, read with errors that name the file."""

import json
from pathlib import Path

from ..example import DatasetFormatError


def read_json(path: Path, kind: str):
    """
    The content of a JSON file.

    Args:
        path (`Path`). kind (`str`): what the file should be, for messages, such as `COCO`.

    Raises:
        `DatasetFormatError`: where there is no such file, or it is empty, no UTF-8 text, or no JSON.
    """

    def refuse(message):
        raise DatasetFormatError(message, file=str(path))

    if not path.is_file():
        refuse("there is no such file; correct `annotation_file` or `dataset_name`")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"the file cannot be read as UTF-8 text ({error}); export the annotations again as {kind} JSON")
    if not text.strip():
        refuse("the file is empty; export the annotations again")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        refuse(f"this is not JSON ({error}); export the annotations again as {kind}")
