"""Reader of finished rows, as written by `convert_data.py`, with the same checks as other sources."""

import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Image

from ...options.data import HubSource, ReadOptions
from ...options.phrases import PhraseMap
from ...utils.parallel import mapped_chunks
from ..readers.image_roots import ImageRoots
from ..readers.images import ImageError, upright_size
from ..readers.records import Split
from ..readers.repeated_pictures import picture_key, refuse_contradiction
from ..readers.rows import RowMaker
from ..reading_report import DataReport
from ..row_schema import FEATURES, DatasetFormatError, validate_example
from .parquet import ParquetRows
from .source import image_roots


def are_finished(rows: Dataset | ParquetRows, source: HubSource) -> bool:
    """Return whether a data set has the columns of finished rows and `column_mapping` is not set."""
    return set(FEATURES) <= set(rows.column_names) and not source.column_mapping


def read_finished(
    rows: Dataset, source: HubSource, name: str, options: ReadOptions, num_proc: int | None = None
) -> tuple[Dataset, DataReport]:
    """
    Verify all finished rows of a split.

    Args:
        rows (`datasets.Dataset`): Rows with the columns of `FEATURES`.
        source (`HubSource`): The data set.
        name (`str`): Name of the data set and split, for messages.
        options (`ReadOptions`): Options; with `verify_images` every image is decoded, otherwise only its header.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `tuple[datasets.Dataset, DataReport]`: The rows, without those that cannot be used if `on_bad_rows` is `skip`,
            and the report.

    Raises:
        `ValueError`: If keys are set that only a conversion uses.
        `DatasetFormatError`: If a row is not valid (see [`validate_example`]), its image cannot be decoded or lies
            outside the data set, another row has its image and contradicting labels, or an `example_id` occurs twice.
            The message contains the row.
    """
    _refuse_unused_keys(name, options)
    rows = rows.select_columns(list(FEATURES)).cast(FEATURES)
    maker, usable = RowMaker(Split(name, [], {}), options), []
    verifier = RowVerifier(name, options, allowed_roots(source, options))
    for index, problem in verifier.problems(rows, num_proc):
        if problem is None:
            usable.append(index)
        elif options.on_bad_rows != "skip":
            raise problem
        else:
            maker.report.skipped.append(str(problem))
    rows = rows if len(usable) == len(rows) else rows.select(usable)
    for row in rows.remove_columns("image"):
        maker.report.count(row)
    maker.check_positives()
    return rows, maker.report


def allowed_roots(source: HubSource, options: ReadOptions) -> ImageRoots:
    """Return the folders that images of a source may lie in; any folder if `allow_outside_images` is set."""
    return ImageRoots([] if options.allow_outside_images else image_roots(source))


def _refuse_unused_keys(name: str, options: ReadOptions) -> None:
    if options.attributes is not None or options.phrase_map != PhraseMap():
        raise ValueError(
            f"{name} contains finished rows: `phrase_map` and `attribute_templates` have no effect on them. Pass "
            "these keys to convert_data.py"
        )


@dataclass
class RowVerifier:
    """
    Verification of the finished rows of one split.

    Attributes:
        source (`str`): Name of the data set and split, for messages.
        options (`ReadOptions`): Options; `verify_images` selects whether images are decoded.
        roots (`ImageRoots`): Folders that images may lie in.
    """

    source: str
    options: ReadOptions
    roots: ImageRoots
    _ids: dict[str, int] = field(default_factory=dict)  # example_id -> index
    _pictures: dict[Hashable, list[int]] = field(default_factory=dict)  # picture -> indices

    def problems(self, rows: Dataset, num_proc: int | None = None) -> Iterator[tuple[int, DatasetFormatError | None]]:
        """
        Verify rows in their order.

        Args:
            rows (`datasets.Dataset`): Rows with the columns of `FEATURES`.
            num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

        Yields:
            `tuple[int, DatasetFormatError | None]`: Index of a row, and the reason if it cannot be used.
        """
        undecoded, phrases = rows.cast_column("image", Image(decode=False)), rows.select_columns("phrases")

        def verify(indices: range) -> list[tuple[int, str, Hashable | None, DatasetFormatError | None]]:
            verified = []
            for index, row in zip(indices, undecoded.select(indices), strict=True):
                problem = self._problem(row, index)
                key = picture_key(_content(row)) if problem is None else None
                verified.append((index, row["example_id"], key, problem))
            return verified

        with mapped_chunks(verify, len(rows), num_proc) as chunks:
            for index, example_id, key, problem in itertools.chain.from_iterable(chunks):
                yield index, problem or self._contradiction(index, example_id, key, phrases)

    def measure(self, row: dict) -> tuple[int, int] | ImageError:
        """Return width and height of a row's upright image, px, or the reason why it cannot be used."""
        image = _content(row)
        if isinstance(image, ImageError):
            return image
        try:
            if isinstance(image, Path):
                self.roots.check(image)
            return upright_size(image, decode=self.options.verify_images)[:2]
        except ImageError as error:
            return error

    def check(self, row: dict, measured: tuple[int, int] | ImageError, index: int) -> None:
        """
        Verify one row by itself.

        Args:
            row (`dict`): Row with the columns of `FEATURES`, its image not decoded.
            measured (`tuple[int, int]` or `ImageError`): Result of [`measure`].
            index (`int`): Index of the row, for messages.

        Raises:
            `DatasetFormatError`: If the row cannot be used; contains its index and `example_id`.
        """
        where = f"row {index} (example {row['example_id']!r:.120})"
        if isinstance(measured, ImageError):
            raise DatasetFormatError(str(measured), file=self.source, record=where)
        validate_example(row, self.source, record=where, image_size=measured)

    def _problem(self, row: dict, index: int) -> DatasetFormatError | None:
        try:
            self.check(row, self.measure(row), index)
        except DatasetFormatError as error:
            return error
        return None

    def _contradiction(
        self, index: int, example_id: str, key: Hashable | None, phrases: Dataset
    ) -> DatasetFormatError | None:
        """Return why a row contradicts an earlier one: an equal `example_id`, or an equal image with other labels."""
        try:
            self._compare(index, example_id, key, phrases)
        except DatasetFormatError as error:
            return error
        return None

    def _compare(self, index: int, example_id: str, key: Hashable | None, phrases: Dataset) -> None:
        if self._ids.setdefault(example_id, index) != index:
            raise DatasetFormatError(
                f"row {index} has the `example_id` of another, row {self._ids[example_id]}; ids must be unique",
                file=self.source,
                record=repr(example_id),
            )
        if key is None:
            return
        for other in self._pictures.get(key, ()):
            names = f"row {other}", f"row {index}"
            refuse_contradiction(phrases[other]["phrases"], phrases[index]["phrases"], *names, self.source)
        self._pictures.setdefault(key, []).append(index)


def _content(row: dict) -> Path | bytes | ImageError:
    """Return the image file of a row, its content, or an error if the row has no image."""
    value = row["image"]
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        return ImageError("the row has no image. Remove it, or set `on_bad_rows: skip` to leave it out")
    return value["bytes"] or Path(value["path"])


@dataclass
class FinishedRows:
    """
    Finished rows by index, each verified when it is requested; [`LazyRows`] decodes its image.

    Attributes:
        rows (`datasets.Dataset` or `ParquetRows`): Rows with undecoded images.
        verifier (`RowVerifier`): Verifier of the split.
    """

    rows: Dataset | ParquetRows
    verifier: RowVerifier

    def __call__(self, index: int) -> dict:
        row = self.rows[index]
        row = {name: row[name] for name in FEATURES}
        self.verifier.check(row, self.verifier.measure(row), index)
        return row
