"""Entry in `info` of the COCO files that `convert_data.py` writes: final phrases, and the files of all splits."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..utils.text import list_some


_KEY, _FINAL = "sam_ft", "final"
_MAX_CHARACTERS = 2**16  # of the beginning of a file, which contains `info`


@dataclass(frozen=True)
class ConversionInfo:
    """
    Description of one COCO file of a conversion. Its category names are phrases, which are read without a change.

    Attributes:
        split (`str`): Name of the split.
        files (`dict[str, str]`): Name of the annotation file of each split of the conversion.
    """

    split: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict:
        """Return the value of `info`."""
        entry = {"phrases": _FINAL, "split": self.split, "files": self.files}
        return {"description": "written by sam-ft", _KEY: entry}

    def split_of(self, file: Path) -> str | None:
        """Return the split of a file; `None` if the file was renamed after the conversion."""
        return self.split if self.split and self.files.get(self.split) == file.name else None

    def notes(self, file: Path) -> list[str]:
        """Return a note on the splits of the conversion that have no annotation file beside `file`."""
        missing = [split for split, name in self.files.items() if not (file.parent / name).is_file()]
        if not missing:
            return []
        return [f"the conversion also wrote the splits {list_some(missing)}, which are missing beside {file.name}"]


def parse_conversion_info(info) -> ConversionInfo | None:
    """
    Parse the `info` of a COCO file.

    Args:
        info: The parsed JSON value.

    Returns:
        `ConversionInfo` or `None`: `None` if the file was not written by `convert_data.py`.
    """
    entry = info.get(_KEY) if isinstance(info, dict) else None
    if not isinstance(entry, dict) or entry.get("phrases") != _FINAL:
        return None
    split, files = entry.get("split"), entry.get("files")
    if not isinstance(split, str) or not split.isprintable() or not isinstance(files, dict):
        return ConversionInfo()
    # A name with a folder was not written by a conversion.
    names = {key: name for key, name in files.items() if isinstance(name, str) and Path(name).name == name}
    return ConversionInfo(split, names)


def read_conversion_info(file: Path) -> ConversionInfo | None:
    """
    Read the `info` at the beginning of a COCO file, without parsing the rest.

    Args:
        file (`Path`): The annotation file.

    Returns:
        `ConversionInfo` or `None`: `None` if the file was not written by `convert_data.py`.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            start = stream.read(_MAX_CHARACTERS)
        match = re.match(r'\s*\{\s*"info"\s*:\s*', start)
        info = json.JSONDecoder().raw_decode(start, match.end())[0] if match else None
    except (OSError, ValueError, RecursionError):
        return None
    return parse_conversion_info(info)
