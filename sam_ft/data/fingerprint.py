"""Fingerprints of a data set: whether annotations or image files are still those of an earlier start."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Dataset, Image

from ..utils.text import list_some
from .lazy_rows import MixedRows


MAX_EXAMPLES = 20_000  # above it the digests of single examples are not kept
_CHUNK = 256


@dataclass
class DataFingerprint:
    """
    Digests of the rows of one split.

    Attributes:
        num_images (`int`): Rows.
        annotations (`str`): Digest of sizes, instances and phrases of all rows, in their order.
        images (`str`): Digest of all image files, byte by byte, in their order.
        examples (`dict[str, list[str]]`): Example id to the two digests of that row; empty above `MAX_EXAMPLES` rows.
    """

    num_images: int
    annotations: str
    images: str
    examples: dict[str, list[str]] = field(default_factory=dict)

    def plain(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def find_differences(self, before: "DataFingerprint", split: str, *, with_images: bool = True) -> list[str]:
        """
        Describe what changed since an earlier fingerprint.

        Args:
            before (`DataFingerprint`): The earlier one.
            split (`str`): Name of the split, for the texts.
            with_images (`bool`): Compare image files too; both fingerprints must have digests of one kind.
        """
        if self.annotations == before.annotations and (not with_images or self.images == before.images):
            return []
        if not self.examples or not before.examples:
            kinds = ["annotations"] * (self.annotations != before.annotations)
            kinds += ["images"] * (with_images and self.images != before.images)
            return [
                f"{' and '.join(kinds)} of the {split} split ({before.num_images} images then, {self.num_images} now)"
            ]
        shared = [name for name in self.examples if name in before.examples]
        groups = {
            "added": [name for name in self.examples if name not in before.examples],
            "removed": [name for name in before.examples if name not in self.examples],
            "with other annotations": [n for n in shared if self.examples[n][0] != before.examples[n][0]],
            "with another image file": [
                n for n in shared if with_images and self.examples[n][1] != before.examples[n][1]
            ],
        }
        found = [f"{len(names)} {split} images {what} ({list_some(names)})" for what, names in groups.items() if names]
        return found or [f"the order of the {split} images"]


def fingerprint_rows(rows, *, with_images: bool = True) -> DataFingerprint | None:
    """
    Compute the fingerprint of a split.

    Args:
        rows: A `datasets.Dataset` of `example.py`, or [`MixedRows`].
        with_images (`bool`): Read every image file; otherwise only its size counts.

    Returns:
        `DataFingerprint` or `None`: `None` where rows are made when they are requested, so that there is nothing to compare.
    """
    datasets = rows.sources if isinstance(rows, MixedRows) else [rows]
    if not all(isinstance(one, Dataset) for one in datasets):
        return None
    annotations, images, examples = _hash(), _hash(), {}
    number = 0
    for source, dataset in enumerate(datasets):
        for name, parts in _digests(dataset, with_images):
            annotations.update(parts[0].encode())
            images.update(parts[1].encode())
            examples[f"{source}/{name}" if source else name] = parts
            number += 1
    return DataFingerprint(
        number, annotations.hexdigest(), images.hexdigest(), examples if number <= MAX_EXAMPLES else {}
    )


def _hash():
    return hashlib.blake2b(digest_size=8)


def _digests(rows: Dataset, with_images: bool) -> Iterator[tuple[str, list[str]]]:
    undecoded = rows.cast_column("image", Image(decode=False))
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing and reading release the interpreter's lock
        for begin in range(0, len(undecoded), _CHUNK):
            chunk = list(undecoded.select(range(begin, min(begin + _CHUNK, len(undecoded)))))
            pictures = pool.map(lambda row: _image_digest(row["image"], with_images), chunk)
            for row, picture in zip(chunk, pictures, strict=True):
                content = {name: value for name, value in row.items() if name != "image"}
                digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8)
                yield row["example_id"], [digest.hexdigest(), picture]


def _image_digest(value: dict, with_images: bool) -> str:
    content = value["bytes"]
    if not with_images:
        return str(os.path.getsize(value["path"]) if content is None else len(content))
    if content is not None:
        return hashlib.blake2b(content, digest_size=8).hexdigest()
    with open(value["path"], "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def find_shared_images(train: DataFingerprint | None, validation: DataFingerprint | None) -> list[str]:
    """Example ids of validation images whose file is, byte by byte, one of the training images."""
    if train is None or validation is None:
        return []
    trained = {parts[1] for parts in train.examples.values()}
    return [name for name, parts in validation.examples.items() if parts[1] in trained]


class ImageFiles:
    """
    Image files of a run's data, to notice that one is replaced while the run goes on.

    Args:
        splits (`Iterable`): Rows of the splits; those that are no `datasets.Dataset` are left out.
    """

    def __init__(self, splits: Iterable):
        self._files: dict[str, tuple[int, int]] = {}
        for rows in splits:
            for dataset in rows.sources if isinstance(rows, MixedRows) else [rows]:
                if isinstance(dataset, Dataset):
                    values = dataset.cast_column("image", Image(decode=False))["image"]
                    self._files |= {v["path"]: _identity(v["path"]) for v in values if v["bytes"] is None}

    def find_changed(self) -> list[str]:
        """Paths of files that were written or removed since; their content may be the same."""
        return [path for path, identity in self._files.items() if _identity(path) != identity]


def _identity(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
