"""Conversion of all records of a split to rows, in several processes."""

import copy
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ...options.data import ReadOptions
from ...utils.console import progress_bar
from ...utils.parallel import mapped_chunks
from ..reading_report import DataReport
from ..row_schema import FEATURES, DatasetFormatError, validate_example
from .records import Split
from .repeated_pictures import picture_key, refuse_contradiction
from .rows import RowMaker


def make_rows(split: Split, options: ReadOptions, num_proc: int | None = None) -> tuple[Dataset, DataReport]:
    """
    Convert all records of a split to rows, in their order.

    Args:
        split (`Split`): The records.
        options (`ReadOptions`): Options of the conversion.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `tuple[datasets.Dataset, DataReport]`: Rows in the schema of `row_schema.py`, and the report.

    Raises:
        `DatasetFormatError`: If, with `on_bad_rows: error`, a row cannot be used, or if no phrase has an instance. The
            message contains the source, the record and the field.
    """
    convert, tables = _ChunkConverter(split, options), [_to_table([])]
    caption = f"reading {Path(split.source).name}"
    with (
        progress_bar(total=len(split.records), caption=caption) as bar,
        mapped_chunks(convert, len(split.records), num_proc) as chunks,
    ):
        for chunk in chunks:
            tables.append(convert.add(chunk))
            bar.update(len(chunk.indices))
    convert.maker.check_positives()
    return Dataset(pa.concat_tables(tables)), convert.maker.report


@dataclass
class _Chunk:
    """
    Result of consecutive records.

    Attributes:
        indices (`range`): Indices of the records.
        rows (`pa.Table`): Rows of the records that can be used.
        used (`list[int]`): Indices of these records.
        pictures (`list[Hashable | None]`): Result of [`picture_key`] for each of these records.
        errors (`dict[int, DatasetFormatError]`): Reason of each other record, by its index; with `on_bad_rows: error`,
            that of the first one alone.
        report (`DataReport`): Report of these records alone.
    """

    indices: range
    rows: pa.Table
    used: list[int]
    pictures: list[Hashable | None]
    errors: dict[int, DatasetFormatError]
    report: DataReport


class _ChunkConverter:
    """
    Conversion of consecutive records, which runs in a worker process, and addition of the results in their order.

    Args:
        split (`Split`): The records.
        options (`ReadOptions`): Options of the conversion.
    """

    def __init__(self, split: Split, options: ReadOptions):
        self.maker, self.records, self.source = RowMaker(split, options), split.records, split.source
        self.skip = options.on_bad_rows == "skip"
        self._rows_of: dict[Hashable, list[tuple[int, pa.Table, int]]] = {}  # record, its chunk and its row there

    def __call__(self, indices: range) -> _Chunk:
        """Convert records, without a comparison of those of the same picture."""
        maker, rows, used, errors = copy.copy(self.maker), [], [], {}
        maker.report = DataReport(self.source)
        for index in indices:
            record = self.records[index]
            try:
                row = maker.row(record, maker.measure(record))
                validate_example(row, self.source)
            except DatasetFormatError as error:
                errors[index] = error
                if not self.skip:
                    break
                continue
            rows.append(row)
            used.append(index)
            maker.report.count(row)
        pictures = [picture_key(self.records[index].image) for index in used]
        return _Chunk(indices, _to_table(rows), used, pictures, errors, maker.report)

    def add(self, chunk: _Chunk) -> pa.Table:
        """
        Add a chunk to the report, and return the rows of it that can be used.

        Args:
            chunk (`_Chunk`): The chunk that follows the last added one.

        Raises:
            `DatasetFormatError`: With `on_bad_rows: error`, the reason of the first record that cannot be used.
        """
        report, rows, contradictions = self.maker.report, chunk.rows, dict(self._contradictions(chunk))
        for index, error in sorted({**chunk.errors, **contradictions}.items()):
            if not self.skip:
                raise error
            image = self.records[index].image
            report.skipped.append(str(error))
            report.skipped_images += [image] if isinstance(image, Path) else []
        if contradictions:
            rows = rows.filter(pa.array([index not in contradictions for index in chunk.used]))
            chunk.report.reset_counts()
            for row in rows.drop_columns("image").to_pylist():
                chunk.report.count(row)
        report.add(chunk.report)
        return rows

    def _contradictions(self, chunk: _Chunk) -> Iterator[tuple[int, DatasetFormatError]]:
        """Yield the records whose picture an earlier record has with contradicting labels, by their index."""
        for position, (index, key) in enumerate(zip(chunk.used, chunk.pictures, strict=True)):
            earlier = [] if key is None else self._rows_of.setdefault(key, [])
            try:
                for other, rows, row in earlier:
                    phrases = (table["phrases"][i].as_py() for table, i in ((rows, row), (chunk.rows, position)))
                    names = (self.records[i].where for i in (other, index))
                    refuse_contradiction(*phrases, *names, self.source)
            except DatasetFormatError as error:
                yield index, error
            else:
                earlier.append((index, chunk.rows, position))


def _to_table(rows: list[dict]) -> pa.Table:
    images = [row["image"] for row in rows]
    images = [image if isinstance(image, dict) else {"bytes": None, "path": image} for image in images]
    rows = [row | {"image": image} for row, image in zip(rows, images, strict=True)]
    return pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema)
