"""Grouping of the rows of one image in data sets with one row for each phrase."""

import hashlib
from collections.abc import Hashable, Iterable

import numpy as np
from datasets import Dataset

from ..readers.repeated_pictures import refuse_contradiction
from ..row_schema import DatasetFormatError
from .columns import Columns
from .parquet import ParquetRows


def rows_of_images(rows: Dataset, columns: Columns) -> list[list[int]]:
    """
    Group rows by the bytes of their image.

    Args:
        rows (`datasets.Dataset`): All rows.
        columns (`Columns`): Columns by role.

    Returns:
        `list[list[int]]`: Indices of the rows of each image, in the order of the first row.
    """
    images = rows.select_columns(columns.roles["image"].partition(".")[0])
    values = (columns.take(row, "image") or {} for row in images)
    contents = (value.get("bytes") or str(value.get("path") or i).encode() for i, value in enumerate(values))
    return _gather(hashlib.blake2b(content).digest() for content in contents)


def rows_of_paths(rows: ParquetRows, columns: Columns) -> list[list[int]] | None:
    """
    Group rows by the name of their image, which is read without the image's bytes.

    Rows whose images have the same name but different bytes are refused when they are converted.

    Args:
        rows (`ParquetRows`): All rows.
        columns (`Columns`): Columns by role.

    Returns:
        `list[list[int]]` or `None`: Indices of the rows of each image. `None` if an image has no name, or if the rows
            of one image lie in row groups that are not adjacent, which would be fetched repeatedly.
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
    """
    Convert ranges of rows to ranges of images.

    Args:
        groups (`list[list[int]]`): Indices of the rows of each image; an image belongs to the range of its first row.
        files (`list[range]`): Ranges of rows that are read together.

    Returns:
        `list[range]`: Ranges of images that are read together.
    """
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
        rows (`datasets.Dataset`): Rows in the schema of `row_schema.py`, with a column `picture`: the digest of the
            image's bytes, or `None`.
        source (`str`): Name of the data set, for messages.

    Returns:
        `tuple[datasets.Dataset, list[DatasetFormatError]]`: The other rows, and an error for each row that was left
            out.
    """
    pictures = rows["picture"]
    groups = _gather(picture or i for i, picture in enumerate(pictures))
    labels, dropped = rows.select_columns(["example_id", "phrases"]), {}
    for indices in groups:
        for n, index in enumerate(indices[1:], 1):
            row = labels[index]
            for other in (labels[earlier] for earlier in indices[:n] if earlier not in dropped):
                names = f"row {other['example_id']}", f"row {row['example_id']}"
                try:
                    refuse_contradiction(other["phrases"], row["phrases"], *names, source)
                except DatasetFormatError as error:
                    dropped[index] = error
                    break
    remaining = rows.select([i for i in range(len(rows)) if i not in dropped]) if dropped else rows
    return remaining, list(dropped.values())
