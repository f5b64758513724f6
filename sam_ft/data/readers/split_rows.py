"""Conversion of all records of a split to rows, in several processes."""

import copy
from collections.abc import Iterator
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
from .repeated_pictures import RepeatedPictures
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
        errors (`dict[int, DatasetFormatError]`): Reason of each other record, by its index; with `on_bad_rows: error`,
            that of the first one alone.
        report (`DataReport`): Report of these records alone.
    """

    indices: range
    rows: pa.Table
    used: list[int]
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
        self.repeated = RepeatedPictures(split.records, split.source)

    def __call__(self, indices: range) -> _Chunk:
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
        if not self._has_repeated(used):
            for row in rows:
                maker.report.count(row)
        return _Chunk(indices, _to_table(rows), used, errors, maker.report)

    def add(self, chunk: _Chunk) -> pa.Table:
        """
        Add a chunk to the report, and return the rows of it that can be used.

        Args:
            chunk (`_Chunk`): The chunk that follows the last added one.

        Raises:
            `DatasetFormatError`: With `on_bad_rows: error`, the reason of the first record that cannot be used.
        """
        report, rows, errors = self.maker.report, chunk.rows, dict(chunk.errors)
        if self._has_repeated(chunk.used):
            contradictions = dict(self._contradictions(chunk))
            errors |= contradictions
            rows = rows.filter(pa.array([index not in contradictions for index in chunk.used]))
        for index, error in sorted(errors.items()):
            if not self.skip:
                raise error
            image = self.records[index].image
            report.skipped.append(str(error))
            report.skipped_images += [image] if isinstance(image, Path) else []
        report.add(chunk.report)
        if self._has_repeated(chunk.used):
            for row in rows.drop_columns("image").to_pylist():
                report.count(row)
        return rows

    def _has_repeated(self, used: list[int]) -> bool:
        """Return whether records share their picture with another, whose rows are counted after their comparison."""
        return any(self.repeated.is_repeated(self.records[index]) for index in used)

    def _contradictions(self, chunk: _Chunk) -> Iterator[tuple[int, DatasetFormatError]]:
        phrases = chunk.rows["phrases"]
        for position, index in enumerate(chunk.used):
            if self.repeated.is_repeated(self.records[index]):
                try:
                    self.repeated.check(self.records[index], {"phrases": phrases[position].as_py()})
                except DatasetFormatError as error:
                    yield index, error


def _to_table(rows: list[dict]) -> pa.Table:
    images = [row["image"] for row in rows]
    images = [image if isinstance(image, dict) else {"bytes": None, "path": image} for image in images]
    rows = [row | {"image": image} for row, image in zip(rows, images, strict=True)]
    return pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema)
