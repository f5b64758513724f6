"""File names of written images: those of the source, with its sub-folders, unique and safe."""

import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from datasets import Dataset, Image
from PIL import ExifTags
from PIL import Image as PILImage

from ...utils.parallel import mapped_chunks
from ..row_schema import image_paths
from ..safe_text import to_printable


_MAX_BYTES = 200  # of a file's stem and of a folder's name; file systems allow 255
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # of formats that are written without a change
_KEPT_MODES = ("RGB", "L", "RGBA", "P")  # of images that are written without a change


@dataclass
class ImageFile:
    """
    Written image of a row, which later rows of the same image share.

    Attributes:
        name (`str`): Path relative to the folder of the images.
        source_name (`str`, *optional*): Result of [`source_names`].
        first_row (`int`): First row with the image.
        is_kept (`bool`): Whether the bytes of the source are written; otherwise the image is converted to PNG.
    """

    name: str
    source_name: str | None
    first_row: int
    is_kept: bool


def name_images(rows: Dataset, num_proc: int | None = None) -> list[ImageFile]:
    """
    Assign a file to the image of each row, in the order of the rows.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `list[ImageFile]`: The file of each row. Names are free and safe, see [`ImageNames`].
    """
    sources = list(source_names(rows))
    ids = (re.sub(r"[^\w.-]+", "_", name) for name in rows["example_id"][:])
    preferred = [name or f"{example_id}.png" for name, example_id in zip(sources, ids, strict=True)]
    first: dict[str, int] = {}
    # An embedded image, without a path, is the row's own.
    first_rows = [i if path is None else first.setdefault(path, i) for i, path in enumerate(source_paths(rows))]
    images = rows.select_columns("image").cast_column("image", Image(decode=False))

    def find_suffixes(indices: range) -> list[str | None]:
        values = images[indices.start : indices.stop]["image"]
        return [
            _kept_suffix(preferred[i], value) if first_rows[i] == i else None
            for i, value in zip(indices, values, strict=True)
        ]

    names, files = ImageNames(), []
    with mapped_chunks(find_suffixes, len(rows), num_proc) as chunks:
        for row, suffix in enumerate(itertools.chain.from_iterable(chunks)):
            if first_rows[row] == row:
                name = names.assign(preferred[row], suffix or ".png")
                files.append(ImageFile(name, sources[row], row, suffix is not None))
            else:
                files.append(files[first_rows[row]])
    return files


def source_names(rows: Dataset) -> Iterator[str | None]:
    """
    Yield the name of each row's image in its source.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.

    Yields:
        `str` or `None`: Path relative to the folder that contains all image files of the rows, with `/`; the stored
            name of an embedded image, `None` if it has none.
    """
    paths = list(_paths(rows))
    folders = {os.path.dirname(path) for path, is_file in paths if path and is_file}
    root = os.path.commonpath(folders) if folders else ""
    for path, is_file in paths:
        if path and is_file:
            yield path[len(root) :].lstrip(os.sep).replace(os.sep, "/")
        else:
            name = PurePosixPath((path or "").replace("\\", "/"))
            # The folders of an absolute path are those of another machine.
            is_absolute = name.is_absolute() or PureWindowsPath(path or "").is_absolute()
            yield (name.name if is_absolute else name.as_posix()) or None if path else None


def _paths(rows: Dataset) -> Iterator[tuple[str | None, bool]]:
    """Yield the results of [`image_paths`], with absolute paths of files."""
    return ((os.path.abspath(path) if path and is_file else path, is_file) for path, is_file in image_paths(rows))


def source_paths(rows: Dataset) -> Iterator[str | None]:
    """
    Yield the absolute path of each row's image file.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.

    Yields:
        `str` or `None`: The path; `None` for an embedded image.
    """
    return (path if is_file else None for path, is_file in _paths(rows))


class ImageNames:
    """Assignment of unique file names to the images of one folder, also where the case of letters is ignored."""

    def __init__(self):
        self._used: set[str] = set()

    def assign(self, name: str, suffix: str) -> str:
        """
        Return a free name.

        Args:
            name (`str`): Name in the source, with its sub-folders.
            suffix (`str`): Suffix of the written file.

        Returns:
            `str`: `name` with the suffix, numbered if another image has it; folders that lead outside are left out.
        """
        *folders, last = (_safe_part(part) for part in name.replace("\\", "/").split("/"))
        folders = [_shorten(part) for part in folders if part.strip(".")]
        if PurePosixPath(last).suffix.lower() in PILImage.registered_extensions():
            last = PurePosixPath(last).stem
        stem, number = _shorten(last) if last.strip(".") else "image", 0
        while (path := "/".join([*folders, f"{stem}{f'-{number}' * (number > 0)}{suffix}"])).casefold() in self._used:
            number += 1
        # A folder is not the name of a file.
        self._used |= {path.casefold(), *("/".join(folders[: i + 1]).casefold() for i in range(len(folders)))}
        return path


def _kept_suffix(name: str, value: dict) -> str | None:
    """
    Return the suffix of an image that is written without a change, which requires 8 bits and an upright image.

    Args:
        name (`str`): Name in the source; its suffix is kept if it is one of the image's format.
        value (`dict`): Undecoded image `{"bytes", "path"}`.

    Returns:
        `str` or `None`: The suffix; `None` if the image must be converted.
    """
    with PILImage.open(io.BytesIO(value["bytes"]) if value["bytes"] else value["path"]) as image:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if not is_upright or image.mode not in _KEPT_MODES or image.format not in _SUFFIXES:
            return None
        suffix = PurePosixPath(name).suffix
        is_of_format = PILImage.registered_extensions().get(suffix.lower()) == image.format
        return suffix if is_of_format else _SUFFIXES[image.format]


def _safe_part(part: str) -> str:
    """Replace control characters and those that are no valid UTF-8 in a part of a path."""
    return re.sub(r"[\x00-\x1f\x7f\\]", "_", to_printable(part))


def _shorten(name: str) -> str:
    """Shorten a name, so that a number and a suffix fit; a digest replaces the rest."""
    encoded = name.encode()
    if len(encoded) <= _MAX_BYTES:
        return name
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return encoded[: _MAX_BYTES - len(digest) - 1].decode(errors="ignore") + f"-{digest}"
