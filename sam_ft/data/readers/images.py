"""Image files: found, measured, and decoded once so that damage shows before training."""

import contextlib
import io
from collections import Counter
from pathlib import Path

from PIL import ExifTags, Image

from ...utils.text import short_repr


# what Pillow raises for files that are damaged, no images, or larger than its limit against decompression bombs
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class ImageError(ValueError):
    """An image file that cannot be used; the message says why and what to do."""


def bare_name(file_name: str) -> str:
    """A listed path without its folders, whichever slash it was written with."""
    return Path(file_name.replace("\\", "/")).name


def listed_name(value) -> str:
    """Return a listed file name as text; of something else, a short representation, which no file has."""
    return str(value) if isinstance(value, str | int | float) else short_repr(value)


def find_image(file_name: str, folders: list[Path], *, by_bare_name: bool = True) -> Path:
    """
    Finds a listed image in the first folder that has it, under its listed path or, unless two listed images share it, its
    bare name.

    Raises:
        `ImageError`: naming the folders that were searched.
    """
    listed = Path(file_name.replace("\\", "/"))
    for folder in folders:
        for candidate in (folder / listed, folder / listed.name)[: 1 + by_bare_name]:
            with contextlib.suppress(OSError):  # a name that no file system takes is a file that is not there
                if candidate.is_file():
                    return candidate
    searched = ", ".join(str(folder) for folder in folders)
    raise ImageError(
        f"the image {short_repr(file_name)} is missing (searched {searched}). Put it there, correct `file_name`, or "
        "set `on_bad_rows: skip` to leave such rows out"
    )


def bare_names(file_names) -> Counter:
    """How many different listed paths have each bare name."""
    return Counter(map(bare_name, set(file_names)))


def find_listed(file_name: str, folders: list[Path], bare: Counter) -> Path | ImageError:
    """As [`find_image`], by its bare name where no other listed image has it (see [`bare_names`]); the error is returned."""
    try:
        return find_image(file_name, folders, by_bare_name=bare[bare_name(file_name)] == 1)
    except ImageError as error:
        return error


def upright_size(image: Path | bytes, *, decode: bool = True) -> tuple[int, int, bool]:
    """
    Size of an image after its EXIF rotation.

    Args:
        image (`Path` or `bytes`): the file, or its content.
        decode (`bool`): read the pixels too, JPEG at an eighth of its size; a header alone says nothing of a file cut
            short.

    Returns:
        `tuple[int, int, bool]`: width, height in pixels, and whether EXIF swaps them.

    Raises:
        `ImageError`: where the file is no image or ends early.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            width, height = opened.size
            swapped = opened.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            if decode:
                opened.draft(opened.mode, (max(width // 8, 1), max(height // 8, 1)))
                opened.load()
    except IMAGE_ERRORS as error:
        name = "inside the file" if isinstance(image, bytes) else image
        raise ImageError(
            f"the image {name} cannot be read ({error}). Copy it again, or set `on_bad_rows: skip` to leave it out"
        ) from error
    return (height, width, True) if swapped else (width, height, False)
