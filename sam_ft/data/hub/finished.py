"""Finished rows, as `convert_data.py` writes them: verified like the rows of every other source."""

from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Image

from ..phrases.vocabulary import PhraseMap
from ..readers.image_roots import ImageRoots
from ..readers.images import ImageError, upright_size
from ..readers.records import ReadOptions, Split
from ..readers.repeated_pictures import picture_key, refuse_contradiction
from ..readers.rows import RowMaker
from ..reading_report import DataReport
from ..row_schema import FEATURES, DatasetFormatError, validate_example
from .parquet import ParquetRows
from .source import HubSource, image_roots


CHUNK = 64  # rows whose images are in memory at a time


def are_finished(rows: Dataset | ParquetRows, source: HubSource) -> bool:
    """Return whether a data set has the columns of finished rows, and no `column_mapping` that says otherwise."""
    return set(FEATURES) <= set(rows.column_names) and not source.column_mapping


def read_finished(rows: Dataset, source: HubSource, name: str, options: ReadOptions) -> tuple[Dataset, DataReport]:
    """
    Verify all finished rows of a split.

    Args:
        rows (`datasets.Dataset`): With the columns of `FEATURES`.
        source (`HubSource`): Where they are from.
        name (`str`): Of the data set and split, for messages.
        options (`ReadOptions`): `verify_images` decodes every image; otherwise its size alone is read.

    Returns:
        `tuple[datasets.Dataset, DataReport]`: The rows, without those that cannot be used where `on_bad_rows` is
            `skip`.

    Raises:
        `ValueError`: Where keys are set that only a conversion can follow.
        `DatasetFormatError`: Names the row: see [`validate_example`]; also where its image cannot be decoded, lies
            elsewhere, or is another row's with other labels, and where an `example_id` stands twice.
    """
    _refuse_unused_keys(name, options)
    rows = rows.select_columns(list(FEATURES)).cast(FEATURES)
    maker, kept = RowMaker(Split(name, [], {}), options), []
    verify = RowVerifier(name, options, roots_of(source, options))
    for place, problem in verify.problems(rows):
        if problem is None:
            kept.append(place)
        elif options.on_bad_rows != "skip":
            raise problem
        else:
            maker.report.skipped.append(str(problem))
    rows = rows if len(kept) == len(rows) else rows.select(kept)
    light = list(rows.remove_columns("image"))
    for row in light:
        maker.report.count(row)
    maker.check_positives(light)
    return rows, maker.report


def roots_of(source: HubSource, options: ReadOptions) -> ImageRoots:
    """Return the folders that images of a source may lie in; all where `allow_outside_images` is set."""
    return ImageRoots([] if options.allow_outside_images else image_roots(source))


def _refuse_unused_keys(name: str, options: ReadOptions) -> None:
    if options.attributes is not None or options.phrase_map != PhraseMap():
        raise ValueError(
            f"{name} holds finished rows: `phrase_map` and `attribute_templates` have no effect on them. Give these keys "
            "to convert_data.py"
        )


@dataclass
class RowVerifier:
    """
    Verification of finished rows, one split at a time.

    Attributes:
        source (`str`): Name of the data set and split, for messages.
        options (`ReadOptions`): Whether images are decoded.
        roots (`ImageRoots`): Folders that images may lie in.
    """

    source: str
    options: ReadOptions
    roots: ImageRoots
    _ids: dict[str, int] = field(default_factory=dict)  # example_id -> place
    _pictures: dict[Hashable, list[int]] = field(default_factory=dict)  # picture -> places

    def problems(self, rows: Dataset) -> Iterator[tuple[int, DatasetFormatError | None]]:
        """
        Verify rows in their order; images are decoded in threads.

        Args:
            rows (`datasets.Dataset`): With `FEATURES`.

        Yields:
            `tuple[int, DatasetFormatError | None]`: Place of a row, and why it cannot be used.
        """
        undecoded, light = rows.cast_column("image", Image(decode=False)), rows.select_columns("phrases")
        with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow decodes outside the interpreter's lock
            for begin in range(0, len(undecoded), CHUNK):
                chunk = list(undecoded.select(range(begin, min(begin + CHUNK, len(undecoded)))))
                for place, (row, measured) in enumerate(zip(chunk, pool.map(self.measure, chunk), strict=True), begin):
                    yield place, self._problem(row, measured, place, light)

    def measure(self, row: dict) -> tuple[int, int] | ImageError:
        """Return width and height of a row's upright image in px, or why it cannot be used."""
        image = _content(row)
        if isinstance(image, ImageError):
            return image
        try:
            if isinstance(image, Path):
                self.roots.check(image)
            return upright_size(image, decode=self.options.verify_images)[:2]
        except ImageError as error:
            return error

    def check(self, row: dict, measured: tuple[int, int] | ImageError, place: int) -> None:
        """
        Verify one row by itself.

        Args:
            row (`dict`): With `FEATURES`, its image not decoded.
            measured (`tuple[int, int]` or `ImageError`): Of [`measure`].
            place (`int`): Index of the row, for messages.

        Raises:
            `DatasetFormatError`: Names the row.
        """
        where = f"row {place} (example {row['example_id']!r:.120})"
        if isinstance(measured, ImageError):
            raise DatasetFormatError(str(measured), file=self.source, record=where)
        validate_example(row, self.source, record=where, image_size=measured)

    def _problem(
        self, row: dict, measured: tuple[int, int] | ImageError, place: int, light: Dataset
    ) -> DatasetFormatError | None:
        try:
            self.check(row, measured, place)
            self._compare(row, place, light)
        except DatasetFormatError as error:
            return error
        return None

    def _compare(self, row: dict, place: int, light: Dataset) -> None:
        """Refuse a row with the `example_id` of another, or with its image and labels that contradict it."""
        if self._ids.setdefault(row["example_id"], place) != place:
            raise DatasetFormatError(
                f"row {place} has the `example_id` of another, row {self._ids[row['example_id']]}; ids are unique",
                file=self.source,
                record=repr(row["example_id"]),
            )
        key = picture_key(_content(row))
        if key is None:
            return
        for other in self._pictures.get(key, ()):
            names = f"row {other}", f"row {place}"
            refuse_contradiction(light[other]["phrases"], row["phrases"], *names, self.source)
        self._pictures.setdefault(key, []).append(place)


def _content(row: dict) -> Path | bytes | ImageError:
    """The image file of a row, or its content."""
    value = row["image"]
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        return ImageError("the row has no image. Remove it, or set `on_bad_rows: skip` to leave it out")
    return value["bytes"] or Path(value["path"])


@dataclass
class FinishedRows:
    """
    Finished rows by index, each verified when it is requested; its image is decoded by [`LazyRows`].

    Attributes:
        rows (`datasets.Dataset` or `ParquetRows`): Undecoded.
        verifier (`RowVerifier`): Of the split.
    """

    rows: Dataset | ParquetRows
    verifier: RowVerifier

    def __call__(self, place: int) -> dict:
        row = self.rows[place]
        row = {name: row[name] for name in FEATURES}
        self.verifier.check(row, self.verifier.measure(row), place)
        return row
