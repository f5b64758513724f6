"""Fingerprints of a data set, to detect changes of annotations or image files since an earlier start."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Dataset, Image

from ..utils.text import count_noun, list_some
from .image_entries import ImageEntry
from .lazy_rows import MixedRows


MAX_EXAMPLES = 20_000  # Digests of single examples are stored up to this number of rows.
_CHUNK = 256


@dataclass
class DataFingerprint:
    """
    Digests of the rows of one split.

    Attributes:
        num_images (`int`): Number of rows.
        annotations (`str`): Digest of sizes, instances and phrases of all rows, in their order.
        images (`str`): Digest of all image files, byte by byte, in their order.
        examples (`dict[str, list[str]]`): Example id to the two digests of that row; empty above `MAX_EXAMPLES` rows.
    """

    num_images: int
    annotations: str
    images: str
    examples: dict[str, list[str]] = field(default_factory=dict)

    def plain(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)

    def find_differences(self, before: "DataFingerprint", split: str, *, with_images: bool = True) -> list[str]:
        """
        Describe what changed since an earlier fingerprint.

        Args:
            before (`DataFingerprint`): The earlier fingerprint.
            split (`str`): Name of the split, for the texts.
            with_images (`bool`): Compare image files too; both fingerprints must have digests of one kind.

        Returns:
            `list[str]`: One text per kind of difference; empty if there is none.
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
        texts = [
            f"{count_noun(len(names), f'{split} image')} {what} ({list_some(names)})"
            for what, names in groups.items()
            if names
        ]
        return texts or [f"the order of the {split} images"]


def fingerprint_rows(rows, *, with_images: bool = True) -> DataFingerprint | None:
    """
    Compute the fingerprint of a split.

    Args:
        rows (`datasets.Dataset` or [`MixedRows`]): Rows as in `row_schema.py`.
        with_images (`bool`): Read every image file; otherwise only its size counts. Default: `True`.

    Returns:
        `DataFingerprint` or `None`: `None` for rows that are made on access, which have no fingerprint.
    """
    datasets = rows.sources if isinstance(rows, MixedRows) else [rows]
    if not all(isinstance(dataset, Dataset) for dataset in datasets):
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
    with ThreadPoolExecutor(max_workers=4) as pool:  # Hashing and reading release the GIL.
        for begin in range(0, len(undecoded), _CHUNK):
            chunk = list(undecoded.select(range(begin, min(begin + _CHUNK, len(undecoded)))))
            image_digests = pool.map(lambda row: _image_digest(row["image"], with_images=with_images), chunk)
            for row, image_digest in zip(chunk, image_digests, strict=True):
                content = {name: value for name, value in row.items() if name != "image"}
                digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8)
                yield row["example_id"], [digest.hexdigest(), image_digest]


def _image_digest(value: dict, *, with_images: bool) -> str:
    content = value["bytes"]
    if not with_images:
        return str(os.path.getsize(value["path"]) if content is None else len(content))
    if content is not None:
        return hashlib.blake2b(content, digest_size=8).hexdigest()
    with open(value["path"], "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def find_shared_images(train: DataFingerprint | None, validation: DataFingerprint | None) -> list[str]:
    """
    Find validation images whose file equals, byte by byte, a training image.

    Args:
        train (`DataFingerprint`, *optional*): Fingerprint of the training split.
        validation (`DataFingerprint`, *optional*): Fingerprint of the validation split.

    Returns:
        `list[str]`: Example ids of these validation images.
    """
    if train is None or validation is None:
        return []
    train_digests = {parts[1] for parts in train.examples.values()}
    return [name for name, parts in validation.examples.items() if parts[1] in train_digests]


class ImageContents:
    """
    Contents of the images of rows, to recognise byte-by-byte copies under another name.

    Only contents of equal size are read and compared by their digests.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
    """

    def __init__(self, rows: Dataset):
        self._by_size: dict[int, list[dict]] = {}
        self._digests: dict[int, set[str]] = {}
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            size = int(_image_digest(value, with_images=False))
            self._by_size.setdefault(size, []).append(value)

    def has_copy(self, image: ImageEntry) -> bool:
        """
        Return whether a row has the content of an image; rows of a remote parquet file are not compared.

        Args:
            image (`ImageEntry`): The image; one that cannot be read is no copy.
        """
        if image.column and "://" in image.file:  # its rows have no size, so that all of them would be downloaded
            return False
        try:
            if not image.column:
                size = os.path.getsize(image.file) if image.is_file else image.position[1]
                if size not in self._by_size:
                    return False
            content = image.load()
            value = {"path": content, "bytes": None} if isinstance(content, Path) else {"bytes": content}
            size = int(_image_digest(value, with_images=False))
            return size in self._by_size and _image_digest(value, with_images=True) in self._digests_of(size)
        except (OSError, ValueError):
            return False

    def _digests_of(self, size: int) -> set[str]:
        if size not in self._digests:
            self._digests[size] = {_image_digest(value, with_images=True) for value in self._by_size[size]}
        return self._digests[size]


class ImageFiles:
    """
    Image files of a run, to detect replaced files during training.

    Args:
        splits (`Iterable`): Rows of the splits; rows that are no `datasets.Dataset` are ignored.
    """

    def __init__(self, splits: Iterable):
        self._files: dict[str, tuple[int, int]] = {}
        for rows in splits:
            for dataset in rows.sources if isinstance(rows, MixedRows) else [rows]:
                if isinstance(dataset, Dataset):
                    values = dataset.cast_column("image", Image(decode=False))["image"]
                    self._files |= {v["path"]: _identity(v["path"]) for v in values if v["bytes"] is None}

    def find_changed(self) -> list[str]:
        """Return the paths of files that were written or removed since; their content may be unchanged."""
        return [path for path, identity in self._files.items() if _identity(path) != identity]


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
