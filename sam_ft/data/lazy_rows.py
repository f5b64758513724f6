"""
Rows made when they are asked for: nothing is converted or held beforehand.

A stream is read by index, so that order, workers, ranks and resuming change nothing: the order of an epoch is a function of
(seed, epoch), `Trainer` skips batches without reading them, and no row is lost or doubled.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from .keyed_random import keyed_draws
from .readers.records import ReadOptions, Split
from .readers.repeated_pictures import RepeatedPictures
from .readers.rows import RowMaker
from .row_schema import DatasetFormatError, open_image_value, validate_example


logger = logging.getLogger("sam_ft.run")

WINDOW = (
    8  # groups of rows that are shuffled together, and held: a shuffle over more would read every file for every batch
)


class LazyRows(Sequence):
    """
    Rows of `example.py` by index, their image decoded.

    Args:
        make (`Callable[[int], dict]`): a row by its place in the source; raises `DatasetFormatError` where it cannot be used.
        length (`int`): of the source.
        groups (`list[range]`, *optional*): places that are cheap to read one after another, such as those of a file; each
            place is one of its own where there are none.
        places (`list[int]`, *optional*): a part of the source; all of it where not given.
        skip (`bool`): a row that cannot be used is replaced by the next that can, and warned of once.
    """

    def __init__(
        self,
        make: Callable[[int], dict],
        length: int,
        *,
        groups: list[range] | None = None,
        places=None,
        skip: bool = False,
    ):
        self.make, self.length, self.groups, self.skip = make, length, groups, skip
        self.places = np.arange(length) if places is None else np.asarray(places)
        self.warned: set[int] = set()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        for tried in range(len(self)):
            row = self._row((index + tried) % len(self))
            if row is not None:
                return row
        raise ValueError("no row can be used; run recipes/check_data.py on the data")

    def usable(self, indices) -> list[dict]:
        """Rows by index; with `skip`, those that cannot be used are left out, not replaced."""
        return [row for row in map(self._row, indices) if row is not None]

    def _row(self, index: int) -> dict | None:
        place = int(self.places[index])
        try:
            row = self.make(place)
            try:
                return row | {"image": open_image_value(row["image"])}
            except ValueError as error:
                raise ValueError(f"example {row['example_id']!r}: {error}") from error
        except ValueError as error:
            if not self.skip:
                raise
            if place not in self.warned:
                self.warned.add(place)
                logger.warning("left out: %s", error)
            return None

    def select(self, indices) -> "LazyRows":
        """The same rows in another number or order, as `datasets.Dataset.select`."""
        places = self.places[np.asarray(list(indices), dtype=np.int64)]
        return LazyRows(self.make, self.length, groups=self.groups, places=places, skip=self.skip)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """
        Indices of an epoch, shuffled: groups are, and within each `WINDOW` of them, rows are.

        Returns:
            `np.ndarray` of shape `(len(self),)`, int64.
        """
        draws = keyed_draws(seed, epoch, "", "order")
        if self.groups is None:
            return draws.permutation(len(self))
        group_of = np.repeat(np.arange(len(self.groups)), [len(group) for group in self.groups])[self.places]
        rank = draws.permutation(len(self.groups))[group_of] // WINDOW
        return np.lexsort((draws.random(len(self)), rank))


class RecordRows:
    """
    Rows made of a reader's records.

    Args:
        split (`Split`): The records.
        options (`ReadOptions`): How they become rows.

    Raises:
        `DatasetFormatError`: Where two records of one picture contradict each other, unless `on_bad_rows` is `skip`.
    """

    def __init__(self, split: Split, options: ReadOptions):
        self.maker, self.records = RowMaker(split, options), split.records
        self._contradictions = self._find_contradictions(RowMaker(split, options))
        if self._contradictions and options.on_bad_rows != "skip":
            raise next(iter(self._contradictions.values()))

    def __call__(self, place: int) -> dict:
        if place in self._contradictions:
            raise self._contradictions[place]
        return self._row(place, self.maker)

    def _row(self, place: int, maker: RowMaker) -> dict:
        record = self.records[place]
        row = maker.row(record, maker.measure(record))
        validate_example(row, maker.split.source)
        return row

    def _find_contradictions(self, maker: RowMaker) -> dict[int, DatasetFormatError]:
        """Place -> error, of records that list a picture again with other labels; no other rows are made."""
        repeated, errors = RepeatedPictures(self.records, maker.split.source), {}
        for place, record in enumerate(self.records):
            if repeated.is_repeated(record):
                with contextlib.suppress(
                    DatasetFormatError
                ):  # a row that cannot be used is reported when it is needed
                    row = self._row(place, maker)
                    try:
                        repeated.check(record, row)
                    except DatasetFormatError as error:
                        errors[place] = error
        return errors


class MixedRows(Sequence):
    """
    Several sources as one; each epoch draws from them by weight.

    Args:
        sources (`list`): of rows, `LazyRows` or `datasets.Dataset`.
        weights (`list[float]`): chance of each source at every draw. The first source's rows are all seen once an epoch; the
            others' come round again, reshuffled, or wait for the next epoch, as their weight says.
    """

    def __init__(self, sources: list, weights: list[float]):
        if len(sources) != len(weights) or not all(weight > 0 for weight in weights):
            raise ValueError(f"a weight above 0 is needed for each of {len(sources)} data sets, found {weights}")
        self.sources, self.weights = sources, np.asarray(weights, dtype=np.float64) / sum(weights)
        self.begins = np.cumsum([0, *(len(source) for source in sources)])
        # rounded up: of a data set with any weight something is drawn
        self.length = math.ceil(len(sources[0]) / self.weights[0] - 1e-9)
        if self.length < len(sources):
            raise ValueError(f"{len(sources[0])} training images are too few to mix with other data sets")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        number = int(np.searchsorted(self.begins, index, side="right")) - 1
        row = self.sources[number][index - int(self.begins[number])]
        return row if number == 0 else row | {"example_id": f"{number}/{row['example_id']}"}

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """As [`LazyRows.order`], over all sources one after another."""
        counts = self._counts(seed, epoch)
        begins = sum((self._counts(seed, before) for before in range(epoch)), np.zeros_like(counts))
        parts = [
            self._draw(n, int(begin), int(begin + count), seed)
            for n, (begin, count) in enumerate(zip(begins, counts, strict=True))
        ]
        # each source is spread evenly, so that every batch has its share
        draws = keyed_draws(seed, epoch, "", "mixture")
        times = np.concatenate([(np.arange(count) + draws.random(count)) / max(count, 1) for count in counts])
        numbers = np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]
        order = np.empty(self.length, dtype=np.int64)
        for number, part in enumerate(parts):
            order[numbers == number] = part + self.begins[number]
        return order

    def _counts(self, seed: int, epoch: int) -> np.ndarray:
        """Rows of each source in an epoch: whole shares, and what rounding leaves by lot, so that a small weight is not rounded away."""
        left = self.length - len(self.sources[0])
        exact = left * self.weights[1:] / (self.weights[1:].sum() or 1.0)
        counts = np.floor(exact + 1e-9).astype(np.int64)
        rest = left - int(counts.sum()) if len(counts) else 0
        if rest:
            chances = (exact - counts).clip(0)
            counts += keyed_draws(seed, epoch, "", "shares").multinomial(rest, chances / chances.sum())
        return np.concatenate([[len(self.sources[0])], counts])

    def _draw(self, number: int, begin: int, end: int, seed: int) -> np.ndarray:
        """Rows `begin` to `end` of a source, going round it as often as need be: what one epoch leaves the next one takes."""
        size = len(self.sources[number])
        rounds = range(begin // size, (end - 1) // size + 1) if end > begin else ()
        shuffled = [order_of(self.sources[number], seed + number, turn) for turn in rounds]
        return np.concatenate(shuffled)[begin % size :][: end - begin] if shuffled else np.empty(0, dtype=np.int64)


def order_of(rows, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of an epoch, the rows' own where they have one."""
    return (
        rows.order(seed, epoch)
        if hasattr(rows, "order")
        else keyed_draws(seed, epoch, "", "order").permutation(len(rows))
    )
