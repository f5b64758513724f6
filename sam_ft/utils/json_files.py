"""Strict JSON: files are written atomically without NaN or infinity, and read with errors that name the file."""

import json
import math
from pathlib import Path

from .files import write_text


def find_non_finite(content, place: str = "") -> str | None:
    """
    Find the first NaN or infinity in nested dictionaries and lists.

    Args:
        content: What `json.dumps` accepts.
        place (`str`): Name of `content` in the result.

    Returns:
        `str` or `None`: The place, such as `metrics.loss` or `results[3].score`.
    """
    if isinstance(content, float):
        return None if math.isfinite(content) else place or "the value"
    if isinstance(content, dict):
        children = ((f"{place}.{key}" if place else str(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        children = ((f"{place}[{i}]", value) for i, value in enumerate(content))
    else:
        return None
    return next((found for name, value in children if (found := find_non_finite(value, name))), None)


def to_json(content, name: str = "JSON", **options) -> str:
    """
    Serialise to JSON.

    Args:
        content: Plain values.
        name (`str`): Names the content in errors.
        options: Of `json.dumps`.

    Raises:
        `ValueError`: If the content contains NaN or infinity; names the place.
    """
    try:
        return json.dumps(content, allow_nan=False, **{"ensure_ascii": False, **options})
    except ValueError as error:
        place = find_non_finite(content)
        if place is None:
            raise
        raise ValueError(
            f"{name}: `{place}` is not a finite number. The model's weights or outputs contain NaN or infinity"
        ) from error


def write_json(file: str | Path, content, **options) -> Path:
    """
    Write JSON atomically.

    Args:
        file (`str` or `Path`): The final path.
        content: Plain values.
        options: Of `json.dumps`, such as `indent`.

    Raises:
        `ValueError`: If the content contains NaN or infinity; names file and place. No file is written.
    """
    return write_text(file, to_json(content, str(file), **options))


def read_json_file(file: str | Path, argument: str | None = None, *, remedy: str = "Delete it, or write it again"):
    """
    Read a JSON file of this package's own making.

    Args:
        file (`str` or `Path`): The path.
        argument (`str`, *optional*): The argument that led to the file.
        remedy (`str`): What to do about a damaged file.

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
