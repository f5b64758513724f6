"""Image files: search by name, size, and a check that they can be decoded."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags, Image

from ...utils.text import short_repr
from ..image_channels import describe_channels, read_channels


# Pillow raises these for files that are damaged, not images, or above its limit against decompression bombs.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class ImageError(ValueError):
    """Error of an image file that cannot be used; the message contains the reason and the remedy."""


def bare_name(file_name: str) -> str:
    """Return a path without its folders; both slashes separate folders."""
    path = file_name.replace("\\", "/")
    name = path.rpartition("/")[2]
    return Path(path).name if name in ("", ".") or ":" in name else name


def file_name_text(value) -> str:
    """Return the `file_name` of an annotation as text; another type becomes a short representation."""
    return str(value) if isinstance(value, str | int | float) else short_repr(value)


def find_image(file_name: str, folders: list[Path], *, by_bare_name: bool = True) -> Path:
    """
    Find an image in the first folder that contains it.

    Args:
        file_name (`str`): Path in the annotations.
        folders (`list[Path]`): Folders to search, in this order.
        by_bare_name (`bool`): Also search for the name without its folders, `True` by default.

    Returns:
        `Path`: The image file.

    Raises:
        `ImageError`: If no folder contains the image; lists the folders.
    """
    relative = file_name.replace("\\", "/")
    for folder in folders:
        for name in (relative, bare_name(relative))[: 1 + by_bare_name]:
            candidate = folder / name
            # As `Path.is_file`, but faster; a name that the file system does not allow is a missing file.
            if os.path.isfile(candidate):
                return candidate
    searched = ", ".join(str(folder) for folder in folders)
    raise ImageError(
        f"the image {short_repr(file_name)} is missing (searched {searched}). Put it there, correct `file_name`, or "
        "set `on_bad_rows: skip` to leave such rows out"
    )


def count_bare_names(file_names) -> Counter:
    """Count the different paths of each name without folders."""
    return Counter(map(bare_name, set(file_names)))


def find_image_or_error(file_name: str, folders: list[Path], name_counts: Counter) -> Path | ImageError:
    """
    Find an image as [`find_image`] does, and return the error instead of raising it.

    Args:
        file_name (`str`): Path in the annotations.
        folders (`list[Path]`): Folders to search, in this order.
        name_counts (`Counter`): Result of [`count_bare_names`]; a name that several paths share is not searched
            without its folders.

    Returns:
        `Path` or `ImageError`: The image file, or the reason why it is missing.
    """
    try:
        return find_image(file_name, folders, by_bare_name=name_counts[bare_name(file_name)] == 1)
    except ImageError as error:
        return error


def upright_size(image: Path | bytes, *, decode: bool = True, channels: Sequence[int] = ()) -> tuple[int, int, bool]:
    """
    Return the size of an image after its EXIF rotation.

    Pillow rotates a TIFF file itself: its size changes when it is opened (Pillow 11) or decoded (Pillow 10). Such a
    file is therefore always decoded, and only a rotation that remains afterwards swaps the sides.

    Args:
        image (`Path` or `bytes`): The file, or its content.
        decode (`bool`): Also decode the pixels (JPEG at 1/8 of its size) to detect truncated files, `True` by default.
        channels (`Sequence[int]`): Channels that are used, see [`read_channels`]; all by default.

    Returns:
        `tuple[int, int, bool]`: Width and height, px, and whether EXIF swaps the sides that are stored in the file.

    Raises:
        `ImageError`: If the file is not an image, or is truncated, or has channels of which three must be chosen.
    """
    if channels:
        try:
            return *read_channels(image, list(channels)).size, False
        except ValueError as error:
            raise ImageError(str(error)) from error
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            width, height = opened.size
            is_rotated = remaining = exif_swaps_sides(opened)
            if decode or (is_rotated and opened.format == "TIFF"):
                is_reduced = opened.draft(opened.mode, (max(width // 8, 1), max(height // 8, 1))) is not None
                opened.load()
                width, height = (width, height) if is_reduced else opened.size
                remaining = exif_swaps_sides(opened)
            problem = describe_channels(image, len(opened.getbands())) if opened.format == "TIFF" else None
    except IMAGE_ERRORS as error:
        name = "inside the file" if isinstance(image, bytes) else image
        raise ImageError(
            describe_channels(image)
            or f"the image {name} cannot be read ({error}). Copy it again, or set `on_bad_rows: skip` to leave it out"
        ) from error
    if problem is not None:
        raise ImageError(problem)
    return (height, width, is_rotated) if remaining else (width, height, is_rotated)


def exif_swaps_sides(image: Image.Image) -> bool:
    """Return whether EXIF swaps the sides that are stored in the file."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
