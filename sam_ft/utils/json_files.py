"""Strict JSON: files are written atomically without NaN or infinity, and read with errors that name the file."""

import json
import math
from pathlib import Path

from .files import write_text


def find_non_finite(content, path: str = "") -> str | None:
    """
    Find the first NaN or infinity in nested dictionaries and lists.

    Args:
        content: Value that `json.dumps` accepts.
        path (`str`): Name of `content` in the result, empty by default.

    Returns:
        `str` or `None`: The path, such as `metrics.loss` or `results[3].score`.
    """
    if isinstance(content, float):
        return None if math.isfinite(content) else path or "the value"
    if isinstance(content, dict):
        children = ((f"{path}.{key}" if path else str(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        children = ((f"{path}[{i}]", value) for i, value in enumerate(content))
    else:
        return None
    return next((result for name, value in children if (result := find_non_finite(value, name))), None)


def to_json(content, name: str = "JSON", **options) -> str:
    """
    Serialise to JSON.

    Args:
        content: Plain values.
        name (`str`): Name of the content in errors, "JSON" by default.
        options: Options of `json.dumps`.

    Returns:
        `str`: JSON text.

    Raises:
        `ValueError`: If the content contains NaN or infinity; names its path in the content.
    """
    try:
        return json.dumps(content, allow_nan=False, **{"ensure_ascii": False, **options})
    except ValueError as error:
        path = find_non_finite(content)
        if path is None:
            raise
        raise ValueError(
            f"{name}: `{path}` is not a finite number. The model's weights or outputs contain NaN or infinity"
        ) from error


def write_json(file: str | Path, content, **options) -> Path:
    """
    Write JSON atomically.

    Args:
        file (`str` or `Path`): The final path.
        content: Plain values.
        options: Options of `json.dumps`, such as `indent`.

    Raises:
        `ValueError`: If the content contains NaN or infinity; names the file. No file is written.
    """
    return write_text(file, to_json(content, str(file), **options))


def read_json_file(file: str | Path, argument: str | None = None, *, remedy: str = "Delete it, or write it again"):
    """
    Read a JSON file that this package wrote.

    Args:
        file (`str` or `Path`): The file.
        argument (`str`, *optional*): The argument that names the file or its folder, for errors.
        remedy (`str`): Sentence for the user on how to repair a damaged file.

    Raises:
        `ValueError`: If the file is missing, empty, no UTF-8 text, or no JSON; names it.
    """
    prefix = f"`{argument}`: " if argument else ""
    try:
        text = Path(file).read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError("the file is empty")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{prefix}{file} cannot be read as JSON ({error}). {remedy}") from error
