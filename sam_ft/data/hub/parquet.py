"""Parquet files read by row, here or on the Hub: a row group is fetched when one of its rows is asked for."""

import bisect
from collections import OrderedDict
from collections.abc import Iterator

import fsspec
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, load_dataset

from ..lazy_rows import WINDOW


def undecoded(features: Features) -> Features:
    """The same features with images as `{"bytes", "path"}`: a mask is opened when it is used, and by us."""

    def without(feature):
        if isinstance(feature, Image):
            return Image(decode=False)
        if isinstance(feature, List):
            return List(without(feature.feature), length=feature.length)
        return feature

    return Features({name: without(feature) for name, feature in features.items()})


class ParquetRows:
    """
    Undecoded rows by index.

    Args:
        files (`list[str]`): paths or URLs that fsspec opens, such as `hf://datasets/…`.

    Raises:
        `ValueError`: where a file is no parquet file, or has other columns than the first.
    """

    def __init__(self, files: list[str]):
        self.files, self._kept = files, OrderedDict()
        self.groups: list[range] = []
        self._where: list[tuple[str, int]] = []
        schemas = {}
        for file in files:
            try:
                with fsspec.open(file) as stream:
                    parquet = pq.ParquetFile(stream)
                    schemas[file] = parquet.schema_arrow
                    sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
            except (OSError, ValueError) as error:
                raise ValueError(f"{file} cannot be read as parquet ({error}); download or export it again") from error
            for number, size in enumerate(sizes):
                begin = self.groups[-1].stop if self.groups else 0
                self.groups.append(range(begin, begin + size))
                self._where.append((file, number))
        first = schemas[files[0]]
        other = next((file for file, schema in schemas.items() if schema.names != first.names), None)
        if other:
            raise ValueError(
                f"{other} has the columns {schemas[other].names}, {files[0]} has {first.names}; they are not one data set"
            )
        self.features = undecoded(Features.from_arrow_schema(first))
        self.column_names = first.names

    def __len__(self) -> int:
        return self.groups[-1].stop if self.groups else 0

    def __getitem__(self, index: int) -> dict:
        group = bisect.bisect(self.groups, index, key=lambda group: group.stop)
        row = self._table(group).slice(index - self.groups[group].start, 1).to_pylist()[0]
        return self.features.decode_example(row)

    def select_columns(self, column: str) -> Iterator[dict]:
        """All rows with one column, which alone is fetched."""
        for file in self.files:
            with fsspec.open(file) as stream:
                features = Features({column: self.features[column]})
                yield from map(features.decode_example, pq.read_table(stream, columns=[column]).to_pylist())

    def image_paths(self, column: str) -> Iterator[str | None]:
        """The names of all rows' images; their bytes are not fetched."""
        for file in self.files:
            with fsspec.open(file) as stream:
                for value in pq.read_table(stream, columns=[f"{column}.path"]).column(0).to_pylist():
                    yield value.get("path") if isinstance(value, dict) else value

    def whole(self) -> Dataset:
        """The same rows in a `datasets.Dataset`: all files are fetched."""
        return load_dataset("parquet", data_files=self.files, split="train").cast(self.features)

    def _table(self, group: int):
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        file, number = self._where[group]
        with fsspec.open(file) as stream:
            table = pq.ParquetFile(stream).read_row_group(number)
        self._kept[group] = table
        while len(self._kept) > WINDOW:  # as many as an epoch mixes, so that each is fetched once
            self._kept.popitem(last=False)
        return table

    def __getstate__(self) -> dict:
        """Workers start with nothing kept."""
        return self.__dict__ | {"_kept": OrderedDict()}
