"""Which rows are of one image, where a data set has a row a phrase."""

import hashlib
from collections.abc import Hashable, Iterable

import numpy as np
from datasets import Dataset

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
