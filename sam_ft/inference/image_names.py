"""Names of the images of a prediction: unique, and usable as paths of the files that are written for an image."""

import functools
import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.image_entries import ImageEntry, resolve_path
from ..data.readers.files import image_suffixes
from ..data.safe_text import is_valid_utf8, to_printable
from .image_list import ImageList
from .prediction_records import LISTINGS


_MAX_BYTES = 240  # of a file or folder name; file systems allow 255, of which a suffix needs some
_KEPT_BYTES = 200  # of a longer name, before its digest
_OUTPUT_SUFFIXES = {".json", ".jpg", ".png", ".txt"}  # of the files that are named as an image


class ImageNaming:
    """
    Names of images, assigned in a second pass, when the common folder and repeated names are known.

    Of each path only a digest is kept, so that long lists need little memory.

    Args:
        skipped_below (`Path`, *optional*): Folder whose images are left out.
        argument (`str`): The key or parameter that contains the images, for errors.

    Attributes:
        num_skipped (`int`): Number of images that were left out.
    """

    def __init__(self, skipped_below: Path | None, argument: str = "images"):
        self.num_skipped, self._root, self._skipped_below, self._argument = 0, "", skipped_below, argument
        self._suffixes = image_suffixes()
        self._identities, self._stems = array("Q"), array("Q")  # digests of the images, and of paths without suffix

    def collect(self, images: Iterable[ImageEntry]) -> Iterator[ImageEntry]:
        """Yield the images without a name that are not left out."""
        folder = None
        for image in images:
            path = image.path
            if not is_valid_utf8(path):
                raise ValueError(
                    f"`{self._argument}`: the name {to_printable(path)} is not valid UTF-8. Rename the file"
                )
            file = resolve_path(image.file) if image.is_file else path
            if self._skipped_below is not None and Path(file).is_relative_to(self._skipped_below):
                self.num_skipped += 1
                continue
            if os.path.dirname(path) != folder:
                folder = os.path.dirname(path)
                self._root = os.path.commonpath([self._root, folder]) if self._stems else folder
            self._identities.append(
                compute_name_digest(file if image.is_file else f"{path} {image.file} {image.position}")
            )
            self._stems.append(compute_name_digest(self._remove_suffix(path)))
            yield image

    def assign(self, images: ImageList) -> Iterator[ImageEntry]:
        """Yield each image once with its name; `a.jpg` and `a.png` keep their suffixes, equal names are extended."""
        identities, stems = np.asarray(self._identities), np.asarray(self._stems)
        is_first = np.zeros(len(identities), bool)
        is_first[np.unique(identities, return_index=True)[1]] = True  # a file that is named twice counts once
        unique_stems, counts = np.unique(stems[is_first], return_counts=True)
        repeated, names = set(unique_stems[counts > 1].tolist()), set()
        unique_stems = unique_stems[counts == 1]
        begin = len(self._root.rstrip("/")) + 1
        for image, stem, is_listed in zip(images, self._stems, is_first.tolist(), strict=True):
            if not is_listed:
                continue
            path = image.path
            if stem not in repeated:
                path = self._remove_suffix(path)
            else:
                while (digest := compute_name_digest(path)) in names or contains_digest(unique_stems, digest):
                    path += "_"
                names.add(digest)
            yield replace(image, name=_to_output_name(path[begin:].replace(os.sep, "/")))

    def _remove_suffix(self, path: str) -> str:
        """Remove the suffix of an image; another one, such as that of `frame.0001`, is part of the name."""
        stem, suffix = os.path.splitext(path)
        return stem if suffix.lower() in self._suffixes else path


def compute_name_digest(text: str) -> int:
    """Compute a digest of 64 bits of the path or name of an image."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def contains_digest(digests: np.ndarray, digest: int) -> bool:
    """Check whether sorted digests contain one."""
    position = np.searchsorted(digests, digest)
    return position < len(digests) and digests[position] == digest


def _to_output_name(path: str) -> str:
    """
    Change a relative path so that the files that are written for an image have different names than all folders.

    The record of `a.png` is `a.json`, so that the name of an image in a folder `a.json` begins with `a.json_`. Names
    that are too long for a file are shortened. Different paths have different names.
    """
    folder, _, name = path.rpartition("/")
    return (_to_output_folder(folder) + "/" if folder else "") + _shorten(name)


@functools.lru_cache(maxsize=4096)
def _to_output_folder(folder: str) -> str:
    suffixes = _OUTPUT_SUFFIXES | image_suffixes()
    parts = []
    for part in folder.split("/"):
        plain = part.rstrip("_")
        is_reserved = plain == LISTINGS or os.path.splitext(plain)[1].lower() in suffixes
        parts.append(_shorten(part + "_" if is_reserved else part))
    return "/".join(parts)


def _shorten(name: str) -> str:
    data = name.encode()
    if len(data) <= _MAX_BYTES:
        return name
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"{data[:_KEPT_BYTES].decode(errors='ignore')}-{digest}"
