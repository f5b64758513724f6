"""Check that records of the same picture have labels that do not contradict each other."""

import hashlib
import os
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

from ..image_entries import ImageEntry
from ..row_schema import DatasetFormatError
from .records import Record


class RepeatedPictures:
    """
    Comparison of the labels of records of the same picture: the same file, or the same embedded content.

    Args:
        records (`list[Record]`): Records of one split.
        source (`str`): The file or folder that was read, for messages.
    """

    def __init__(self, records: list[Record], source: str):
        self.source = source
        keys = {id(record): picture_key(record.image) for record in records}
        counts = Counter(key for key in keys.values() if key is not None)
        self._keys = {record: key for record, key in keys.items() if counts[key] > 1}
        self._checked: dict[Hashable, list[tuple[str, dict]]] = {}

    def is_repeated(self, record: Record) -> bool:
        """Return whether another record has the same picture."""
        return id(record) in self._keys

    def check(self, record: Record, row: dict) -> None:
        """
        Compare a row with earlier rows of the same picture.

        Args:
            record (`Record`): The record of the row.
            row (`dict`): The row, in the schema of `row_schema.py`.

        Raises:
            `DatasetFormatError`: If a phrase is present in one row and verified absent in another; contains both
                records.
        """
        key = self._keys.get(id(record))
        if key is None:
            return
        for where, phrases in self._checked.get(key, ()):
            refuse_contradiction(phrases, row["phrases"], where, record.where, self.source)
        self._checked.setdefault(key, []).append((record.where, row["phrases"]))


def picture_key(image) -> Hashable | None:
    """
    Return a key that is equal for equal pictures.

    Args:
        image (`Path`, `bytes`, `ImageEntry` or `ImageError`): Image of a [`Record`].

    Returns:
        `Hashable` or `None`: Device and inode of a file, which links share, the digest of a content, or the file and
            position of a member; `None` without an image.
    """
    if isinstance(image, ImageEntry):
        return image.file, image.position
    if isinstance(image, bytes):
        return hashlib.blake2b(image, digest_size=16).digest()
    if not isinstance(image, Path):
        return None
    try:
        status = os.stat(image)
    except (OSError, ValueError):
        return None
    # Some file systems have no inode numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(image)


def refuse_contradiction(
    first: list[dict], second: list[dict], first_name: str, second_name: str, source: str
) -> None:
    """
    Refuse two records of one picture if a phrase is present in one and verified absent in the other.

    Args:
        first (`list[dict]`): Phrases of a row.
        second (`list[dict]`): Phrases of another row.
        first_name (`str`): Name of the first record.
        second_name (`str`): Name of the second record.
        source (`str`): The file or data set.

    Raises:
        `DatasetFormatError`: If the labels contradict each other; contains both records and a phrase.
    """
    pairs = (_present(first) & _absent(second), first_name), (_present(second) & _absent(first), second_name)
    for texts, name in pairs:
        if texts:
            raise DatasetFormatError(
                f"the same picture is listed by {first_name}, and their labels contradict each other: {min(texts)!r} "
                f"is present in {name} and absent in the other. List each picture once, with all its labels",
                file=source,
                record=second_name,
            )


def _present(phrases: list[dict]) -> set[str]:
    return {phrase["text"] for phrase in phrases if phrase["instances"]}


def _absent(phrases: list[dict]) -> set[str]:
    return {phrase["text"] for phrase in phrases if not phrase["instances"] and phrase["exhaustive"]}
