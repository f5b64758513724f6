"""
Rows that are made when they are requested, without conversion of the data set beforehand.

A stream is read by index, so it does not depend on workers, ranks or resuming: the order of an epoch is a function of
(seed, epoch), `Trainer` skips batches without reading them, and no row is lost or duplicated.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset

from ..options.data import ReadOptions
from .keyed_random import keyed_draws
from .readers.records import Split
from .readers.repeated_pictures import RepeatedPictures
from .readers.rows import RowMaker
from .reading_report import DataReport
from .row_schema import DatasetFormatError, open_image_value, phrase_texts, validate_example


logger = logging.getLogger("sam_ft.run")

# Number of groups of rows that are shuffled together and cached. More would read every file for every batch.
WINDOW = 8


class LazyRows(Sequence):
    """
    Rows by index in the schema of `row_schema.py`, with decoded images.

    Args:
        make (`Callable[[int], dict]`): Function that returns the row at an index of the source, and raises
            `DatasetFormatError` if it cannot be used.
        length (`int`): Length of the source.
        groups (`list[range]`, *optional*): Indices that are fast to read one after another, such as those of a file;
            by default each index is a group.
        source_indices (`list[int]`, *optional*): Indices of the source that are used; all by default.
        skip (`bool`): Replace a row that cannot be used by the next usable row, and log one warning, `False` by
            default.
        report (`DataReport`, *optional*): Report to which `make` adds annotations that it leaves out; they are logged
            once instead.
    """

    def __init__(
        self,
        make: Callable[[int], dict],
        length: int,
        *,
        groups: list[range] | None = None,
        source_indices=None,
        skip: bool = False,
        report: DataReport | None = None,
    ):
        self.make, self.length, self.groups, self.skip, self.report = make, length, groups, skip, report
        self.source_indices = np.arange(length) if source_indices is None else np.asarray(source_indices)
        self.warned: set[int] = set()

    def __len__(self) -> int:
        return len(self.source_indices)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        for offset in range(len(self)):
            row = self._row((index + offset) % len(self))
            if row is not None:
                return row
        raise ValueError("no row can be used; run `sam-ft check` on the data")

    def usable(self, indices) -> list[dict]:
        """
        Return rows without the replacement of rows that cannot be used.

        Args:
            indices (`Iterable[int]`): Indices of rows.

        Returns:
            `list[dict]`: The rows; with `skip`, those that cannot be used are left out.
        """
        return [row for row in map(self._row, indices) if row is not None]

    def _row(self, index: int) -> dict | None:
        source_index = int(self.source_indices[index])
        try:
            row = self.make(source_index)
            self._warn_once(source_index, self._take_dropped())
            try:
                return row | {"image": open_image_value(row["image"])}
            except ValueError as error:
                raise ValueError(f"example {row['example_id']!r}: {error}") from error
        except ValueError as error:
            if not self.skip:
                raise
            self._warn_once(source_index, [*self._take_dropped(), str(error)])
            return None

    def _take_dropped(self) -> list[str]:
        """Return and forget the messages of annotations that were left out, which would grow with every epoch."""
        if self.report is None:
            return []
        messages, self.report.dropped = self.report.dropped, []
        return messages

    def _warn_once(self, source_index: int, messages: list[str]) -> None:
        if messages and source_index not in self.warned:
            self.warned.add(source_index)
            for message in messages:
                logger.warning("left out: %s", message)

    def select(self, indices) -> "LazyRows":
        """Return the rows at some indices, as `datasets.Dataset.select` does."""
        source_indices = self.source_indices[np.asarray(list(indices), dtype=np.int64)]
        return LazyRows(
            self.make,
            self.length,
            groups=self.groups,
            source_indices=source_indices,
            skip=self.skip,
            report=self.report,
        )

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """
        Return the order of an epoch: groups are shuffled, and then the rows within each `WINDOW` of groups.

        Args:
            seed (`int`): Random seed.
            epoch (`int`): Number of the epoch, from 0.

        Returns:
            `np.ndarray` of shape `(len(self),)`, int64: Indices of rows.
        """
        draws = keyed_draws(seed, epoch, "", "order")
        if self.groups is None:
            return draws.permutation(len(self))
        group_of = np.repeat(np.arange(len(self.groups)), [len(group) for group in self.groups])[self.source_indices]
        rank = draws.permutation(len(self.groups))[group_of] // WINDOW
        return np.lexsort((draws.random(len(self)), rank))


class RecordRows:
    """
    Rows by index, converted from the records of a reader.

    Args:
        split (`Split`): The records.
        options (`ReadOptions`): Options of the conversion.

    Raises:
        `DatasetFormatError`: If two records of one picture contradict each other, unless `on_bad_rows` is `skip`.
    """

    def __init__(self, split: Split, options: ReadOptions):
        self.maker, self.records = RowMaker(split, options), split.records
        self._contradictions = self._find_contradictions(RowMaker(split, options))
        if self._contradictions and options.on_bad_rows != "skip":
            raise next(iter(self._contradictions.values()))

    def __call__(self, index: int) -> dict:
        if index in self._contradictions:
            raise self._contradictions[index]
        return self._row(index, self.maker)

    def _row(self, index: int, maker: RowMaker) -> dict:
        record = self.records[index]
        row = maker.row(record, maker.measure(record))
        validate_example(row, maker.split.source)
        return row

    def _find_contradictions(self, maker: RowMaker) -> dict[int, DatasetFormatError]:
        """Return the error of each record whose picture an earlier record has with contradicting labels, by index."""
        repeated, errors = RepeatedPictures(self.records, maker.split.source), {}
        for index, record in enumerate(self.records):
            if repeated.is_repeated(record):
                # A row that cannot be used is reported when it is requested.
                with contextlib.suppress(DatasetFormatError):
                    row = self._row(index, maker)
                    try:
                        repeated.check(record, row)
                    except DatasetFormatError as error:
                        errors[index] = error
        return errors


class MixedRows(Sequence):
    """
    Mixture of several data sets; each epoch draws rows from them by weight.

    Args:
        sources (`list`): Rows of each data set, `LazyRows` or `datasets.Dataset`.
        weights (`list[float]`): Sampling weight of each data set. An epoch contains each row of the first one once;
            rows of the others are repeated in a new order, or continue in the next epoch, depending on their weights.
    """

    def __init__(self, sources: list, weights: list[float]):
        if len(sources) != len(weights) or not all(weight > 0 for weight in weights):
            raise ValueError(
                f"`weights` must contain a weight above 0 for each of {len(sources)} data sets, got {weights}"
            )
        self.sources, self.weights = sources, np.asarray(weights, dtype=np.float64) / sum(weights)
        self.begins = np.cumsum([0, *(len(source) for source in sources)])
        # Rounded up, so that every epoch draws from each data set on average.
        self.length = math.ceil(len(sources[0]) / self.weights[0] - 1e-9)
        if self.length < len(sources):
            raise ValueError(
                f"`dataset_name` has {len(sources[0])} training images, too few to mix with {len(sources) - 1} other "
                "data sets; add images, or lower their weights"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        number = int(np.searchsorted(self.begins, index, side="right")) - 1
        row = self.sources[number][index - int(self.begins[number])]
        return row if number == 0 else row | {"example_id": f"{number}/{row['example_id']}"}

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """
        Return the order of an epoch.

        Args:
            seed (`int`): Random seed.
            epoch (`int`): Number of the epoch, from 0.

        Returns:
            `np.ndarray` of shape `(len(self),)`, int64: Indices of rows in the concatenation of all sources.
        """
        counts = self._counts(seed, epoch)
        begins = sum((self._counts(seed, before) for before in range(epoch)), np.zeros_like(counts))
        parts = [
            self._draw(n, int(begin), int(begin + count), seed)
            for n, (begin, count) in enumerate(zip(begins, counts, strict=True))
        ]
        # Each source is spread evenly over the epoch, so that every batch has its share.
        draws = keyed_draws(seed, epoch, "", "mixture")
        times = np.concatenate([(np.arange(count) + draws.random(count)) / max(count, 1) for count in counts])
        numbers = np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]
        order = np.empty(self.length, dtype=np.int64)
        for number, part in enumerate(parts):
            order[numbers == number] = part + self.begins[number]
        return order

    def _counts(self, seed: int, epoch: int) -> np.ndarray:
        """Return the number of rows of each source in an epoch; remainders of rounding are drawn at random."""
        total = self.length - len(self.sources[0])
        exact = total * self.weights[1:] / (self.weights[1:].sum() or 1.0)
        counts = np.floor(exact + 1e-9).astype(np.int64)
        rest = total - int(counts.sum()) if len(counts) else 0
        if rest:
            chances = (exact - counts).clip(0)
            counts += keyed_draws(seed, epoch, "", "shares").multinomial(rest, chances / chances.sum())
        return np.concatenate([[len(self.sources[0])], counts])

    def _draw(self, number: int, begin: int, end: int, seed: int) -> np.ndarray:
        """Return rows `begin` to `end` of the endless sequence of shuffled passes over a source."""
        size = len(self.sources[number])
        passes = range(begin // size, (end - 1) // size + 1) if end > begin else ()
        shuffled = [order_of(self.sources[number], seed + number, index) for index in passes]
        return np.concatenate(shuffled)[begin % size :][: end - begin] if shuffled else np.empty(0, dtype=np.int64)


def order_of(rows, seed: int, epoch: int) -> np.ndarray:
    """
    Return the shuffled order of an epoch.

    Args:
        rows: Rows with a length; their method `order` is used if they have one.
        seed (`int`): Random seed.
        epoch (`int`): Number of the epoch, from 0.

    Returns:
        `np.ndarray` of shape `(len(rows),)`: Indices of rows.
    """
    return (
        rows.order(seed, epoch)
        if hasattr(rows, "order")
        else keyed_draws(seed, epoch, "", "order").permutation(len(rows))
    )


def texts_of(rows) -> set[str] | None:
    """Return all phrases of rows; `None` for rows that are made when they are requested."""
    if isinstance(rows, MixedRows):
        texts = [texts_of(source) for source in rows.sources]
        return None if None in texts else set().union(*texts)
    if not isinstance(rows, Dataset):
        return None
    return phrase_texts(rows)
