"""Parquet files read by row, local or on the Hub: a row group is fetched when one of its rows is requested."""

import bisect
import contextlib
from collections import OrderedDict
from collections.abc import Iterator

import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, load_dataset

from ...utils.secrets import describe_file_error, strip_url_secrets
from ..lazy_rows import WINDOW
from ..remote_files import open_for_parts


def undecoded(features: Features) -> Features:
    """
    Return features with images as `{"bytes", "path"}`, so that `datasets` does not decode them.

    Args:
        features (`datasets.Features`): Features of a data set.

    Returns:
        `datasets.Features`: The same features, without decoding.
    """

    def without_decoding(feature):
        if isinstance(feature, Image):
            return Image(decode=False)
        if isinstance(feature, List):
            return List(without_decoding(feature.feature), length=feature.length)
        return feature

    return Features({name: without_decoding(feature) for name, feature in features.items()})


@contextlib.contextmanager
def _open(file: str) -> Iterator:
    """Open a parquet file; any error inside the context is one that names the file, without a token in its URL."""
    try:
        with open_for_parts(file) as stream:
            yield stream
    except Exception as error:  # fsspec raises the errors of each protocol
        cause = None if "://" in file else error  # its text may contain a token
        raise ValueError(
            f"{strip_url_secrets(file)} cannot be read as parquet ({describe_file_error(error)}); download or export "
            "it again"
        ) from cause


class ParquetRows:
    """
    Rows of parquet files by index, with undecoded images.

    Args:
        files (`list[str]`): Paths or URLs that fsspec opens, such as `hf://datasets/…`.

    Raises:
        `ValueError`: If a file is not a parquet file, or its columns differ from those of the first.
    """

    def __init__(self, files: list[str]):
        self.files, self._cache = files, OrderedDict()
        self.groups: list[range] = []
        self._locations: list[tuple[str, int]] = []
        schemas = {}
        for file in files:
            with _open(file) as stream:
                parquet = pq.ParquetFile(stream)
                schemas[file] = parquet.schema_arrow
                sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
            for number, size in enumerate(sizes):
                begin = self.groups[-1].stop if self.groups else 0
                self.groups.append(range(begin, begin + size))
                self._locations.append((file, number))
        first = schemas[files[0]]
        different = next((file for file, schema in schemas.items() if schema.names != first.names), None)
        if different:
            raise ValueError(
                f"{strip_url_secrets(different)} has the columns {schemas[different].names}, but "
                f"{strip_url_secrets(files[0])} has {first.names}. Select the files of one data set with `data_files`"
            )
        self.features = undecoded(Features.from_arrow_schema(first))
        self.column_names = first.names

    def __len__(self) -> int:
        return self.groups[-1].stop if self.groups else 0

    def __getitem__(self, index: int) -> dict:
        group = bisect.bisect(self.groups, index, key=lambda group: group.stop)
        row = self._table(group).slice(index - self.groups[group].start, 1).to_pylist()[0]
        return self.features.decode_example(row)

    def iterate_groups(self) -> Iterator[tuple[tuple[str, int], range]]:
        """Yield file and number of each row group, and the indices of its rows."""
        yield from zip(self._locations, self.groups, strict=True)

    def select_columns(self, column: str) -> Iterator[dict]:
        """Yield all rows with one column; the other columns are not fetched."""
        for file in self.files:
            with open_for_parts(file) as stream:
                features = Features({column: self.features[column]})
                yield from map(features.decode_example, pq.read_table(stream, columns=[column]).to_pylist())

    def image_paths(self, column: str) -> Iterator[str | None]:
        """Yield the names of the images of all rows; their bytes are not fetched."""
        for file in self.files:
            with _open(file) as stream:
                parquet = pq.ParquetFile(stream)  # `read_table` would fetch the bytes as well
                for group in range(parquet.num_row_groups):
                    for value in parquet.read_row_group(group, columns=[f"{column}.path"]).column(0).to_pylist():
                        yield value.get("path") if isinstance(value, dict) else value

    def to_dataset(self) -> Dataset:
        """Return the same rows as a `datasets.Dataset`; all files are fetched."""
        return load_dataset("parquet", data_files=self.files, split="train").cast(self.features)

    def _table(self, group: int):
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        file, number = self._locations[group]
        with open_for_parts(file) as stream:
            table = pq.ParquetFile(stream).read_row_group(number)
        self._cache[group] = table
        while len(self._cache) > WINDOW:  # An epoch mixes this many groups, so each is fetched once.
            self._cache.popitem(last=False)
        return table

    def __getstate__(self) -> dict:
        """Return the state for a worker process, with an empty cache."""
        return self.__dict__ | {"_cache": OrderedDict()}
