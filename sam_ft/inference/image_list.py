"""Ordered list of the images of a batch prediction: in memory while it is short, otherwise in a temporary file."""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.image_entries import ImageEntry


MAX_IN_MEMORY = 10_000  # images of a list without a file, and of a prediction with one record file an image
SHARD_SIZE = 1_000  # images of a row group, and of a record file of a long list
_COLUMNS = [field.name for field in fields(ImageEntry)]
_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "file": pa.string(),
        "member": pa.string(),
        "position": pa.list_(pa.int64(), 2),
        "column": pa.string(),
    }
)


class ImageList(Sequence):
    """
    Images in a fixed order.

    Args:
        entries (`Iterable[ImageEntry]`): The images; they are read once.

    Attributes:
        digest (`str`): Digest of the names and locations of all images.
    """

    def __init__(self, entries: Iterable[ImageEntry]):
        self._memory: list[ImageEntry] = []
        self._file: str | None = None
        self._length, self._group, self._rows = 0, -1, []
        digest, writer = hashlib.blake2b(digest_size=16), None
        try:
            for entry in entries:
                digest.update(repr(_to_tuple(entry)).encode("utf-8", "surrogateescape"))
                self._memory.append(entry)
                self._length += 1
                if writer is None and self._length > MAX_IN_MEMORY:
                    writer = self._open_file()
                if writer is not None and len(self._memory) >= SHARD_SIZE:
                    self._write_groups(writer)
            if writer is not None:
                self._write_groups(writer, is_last=True)
        finally:
            if writer is not None:
                writer.close()
        self.digest = digest.hexdigest()

    @property
    def is_long(self) -> bool:
        """Return whether the list has more than `MAX_IN_MEMORY` images."""
        return self._length > MAX_IN_MEMORY

    def find_common_folder(self) -> str:
        """Return the folder that all images lie in; see [`ImageEntry.path`]."""
        folders = (os.path.dirname(image.path) for image in self)
        return functools.reduce(
            lambda root, folder: root if folder == root else os.path.commonpath([root, folder]), folders
        )

    def list_files(self) -> dict[str, str]:
        """Return the file of each image by its name, for prompt files, which name images."""
        return {image.name: image.file if image.is_file else image.path for image in self}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> ImageEntry:
        if self._file is None:
            return self._memory[index]
        if not 0 <= index < self._length:
            raise IndexError(index)
        if index // SHARD_SIZE != self._group:
            self._group = index // SHARD_SIZE
            self._rows = self._read_group(self._group)
        return self._rows[index % SHARD_SIZE]

    def __iter__(self) -> Iterator[ImageEntry]:
        if self._file is None:
            yield from self._memory
            return
        for group in range(-(-self._length // SHARD_SIZE)):
            yield from self._read_group(group)

    def __getstate__(self) -> dict:
        """Return the state for a worker process, which reads the file of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_owner"} | {"_group": -1, "_rows": []}

    def _open_file(self) -> pq.ParquetWriter:
        self._owner = tempfile.TemporaryDirectory(prefix="sam-ft-images-")  # removed with this object
        self._file = os.path.join(self._owner.name, "images.parquet")
        return pq.ParquetWriter(self._file, _SCHEMA)

    def _write_groups(self, writer: pq.ParquetWriter, *, is_last: bool = False) -> None:
        while len(self._memory) >= SHARD_SIZE or (is_last and self._memory):
            group, self._memory = self._memory[:SHARD_SIZE], self._memory[SHARD_SIZE:]
            columns = zip(*map(_to_tuple, group), strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)]
            writer.write_table(pa.table(arrays, schema=_SCHEMA))

    def _read_group(self, group: int) -> list[ImageEntry]:
        table = pq.ParquetFile(self._file).read_row_group(group)
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
        return [
            ImageEntry(name, file, member, tuple(position), column)
            for name, file, member, position, column in zip(*columns, strict=True)
        ]


def _to_tuple(entry: ImageEntry) -> tuple:
    return entry.name, entry.file, entry.member, entry.position, entry.column  # `astuple` copies each value
