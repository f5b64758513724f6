"""Which rows are of one image, where a data set has a row a phrase."""

import hashlib
from collections.abc import Hashable, Iterable

import numpy as np
from datasets import Dataset

from ..readers.repeated_pictures import refuse_contradiction
from ..row_schema import DatasetFormatError
from .columns import Columns
from .parquet import ParquetRows


def rows_of_images(rows: Dataset, columns: Columns) -> list[list[int]]:
    """Indices of the rows of each image, in the order of their first rows: equal bytes are one image."""
    images = rows.select_columns(columns.roles["image"].partition(".")[0])
    values = (columns.take(row, "image") or {} for row in images)
    contents = (value.get("bytes") or str(value.get("path") or i).encode() for i, value in enumerate(values))
    return _gather(hashlib.blake2b(content).digest() for content in contents)


def rows_of_paths(rows: ParquetRows, columns: Columns) -> list[list[int]] | None:
    """
    The same by the images' names, which are read without their bytes. Rows whose images share a name and differ are refused when they
    are made. `None` where some have no name, or where rows of one name are more than two row groups apart, which would fetch groups again
    and again.
    """
    paths = list(rows.image_paths(columns.roles["image"]))
    if not all(paths):
        return None
    images = _gather(paths)
    group_of = np.repeat(np.arange(len(rows.groups)), [len(group) for group in rows.groups])
    return images if all(group_of[i[-1]] - group_of[i[0]] <= 1 for i in images) else None


def _gather(keys: Iterable[Hashable]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def ranges_of(groups: list[list[int]], files: list[range]) -> list[range]:
    """Of images, by their first rows: which lie in one of `files`, ranges of rows that are read together."""
    ranges, image = [], 0
    for file in files:
        begin = image
        while image < len(groups) and groups[image][0] < file.stop:
            image += 1
        if image > begin:
            ranges.append(range(begin, image))
    return ranges


def without_contradictions(rows: Dataset, source: str) -> tuple[Dataset, list[DatasetFormatError]]:
    """
    Leave out rows that have the image of an earlier row and labels that contradict it.

    Args:
        rows (`datasets.Dataset`): Of `example.py`, with the column `picture`, the digest of an image's bytes or
            `None`.
        source (`str`): Name of the data set, for messages.

    Returns:
        `tuple[datasets.Dataset, list[DatasetFormatError]]`: The other rows, and an error for each row that was left
            out.
    """
    pictures = rows["picture"]
    groups = _gather(picture or i for i, picture in enumerate(pictures))
    light, dropped = rows.select_columns(["example_id", "phrases"]), {}
    for places in groups:
        for n, place in enumerate(places[1:], 1):
            row = light[place]
            for other in (light[earlier] for earlier in places[:n] if earlier not in dropped):
                names = f"row {other['example_id']}", f"row {row['example_id']}"
                try:
                    refuse_contradiction(other["phrases"], row["phrases"], *names, source)
                except DatasetFormatError as error:
                    dropped[place] = error
                    break
    kept = rows.select([i for i in range(len(rows)) if i not in dropped]) if dropped else rows
    return kept, list(dropped.values())
