"""Conversion of the rows of a Hub data set to the schema of `row_schema.py`, cached under a fingerprint."""

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from datasets import Dataset, Features, List, Value, config
from datasets.fingerprint import Hasher

from ... import __version__
from ...options.data import HubSource, ReadOptions
from ..lazy_rows import LazyRows
from ..readers.images import ImageError
from ..readers.records import Record, Split
from ..readers.rows import RowMaker
from ..reading_report import DataReport, Remark
from ..row_schema import FEATURES, DatasetFormatError, validate_example
from .columns import Columns, find_columns
from .finished import FinishedRows, RowVerifier, allowed_roots, are_finished, read_finished
from .groups import ranges_of, rows_of_images, rows_of_paths, without_contradictions
from .label_names import label_names, phrase_of
from .parquet import ParquetRows
from .schemas import SCHEMAS, Context, Schema, find_schema
from .source import image_roots


_CONVERTED = Features(
    {
        **FEATURES,
        "problem": Value("string"),
        "dropped": List(Value("string")),  # messages of annotations that were left out
        "remarks": List({f.name: Value("string") for f in fields(Remark)}),
        "picture": Value("string"),  # digest of an image's bytes
    }
)
_FORMAT = 4  # Raise it when the result of a conversion changes, so that cached rows are converted again.
_UNUSABLE = {"example_id": "", "image": None, "width": 0, "height": 0, "instances": [], "phrases": []}


def convert(
    rows: Dataset | ParquetRows, source: HubSource, split: str, options: ReadOptions, num_proc: int | None = None
) -> tuple[Dataset, DataReport]:
    """
    Convert all rows of one split.

    Args:
        rows (`datasets.Dataset` or `ParquetRows`): Result of [`open_splits`].
        source (`HubSource`): The data set.
        split (`str`): Name of the split, for messages.
        options (`ReadOptions`): Options of the conversion.
        num_proc (`int`, *optional*): Number of processes that verify finished rows, see [`mapped_chunks`].

    Returns:
        `tuple[datasets.Dataset, DataReport]`: Rows in the schema of `row_schema.py`, and the report.

    Raises:
        `ValueError`: If no column contains images or masks, or if classes have no names.
        `DatasetFormatError`: If a row cannot be used and `on_bad_rows` is `error` (contains the row), or if no phrase
            has an instance.
    """
    name = f"{source.name} ({split})"
    rows = rows.to_dataset() if isinstance(rows, ParquetRows) else rows
    if are_finished(rows, source):
        return read_finished(rows, source, name, options, num_proc)
    converter, schema = build_converter(rows, source, name, options)
    columns = converter.columns
    indices = rows_of_images(rows, columns) if schema.one_phrase_a_row else [[i] for i in range(len(rows))]
    groups = Dataset.from_dict({"indices": indices}, features=Features({"indices": List(Value("int64"))}))
    files = [file["filename"] for file in rows.cache_files]  # Equal fingerprints of local folders may differ in these.
    inputs = [rows._fingerprint, files, converter.schema, columns.roles, converter.labels, options]
    converted = _map_cached(groups, converter, inputs, f"reading {name}")
    maker = replace(converter).maker  # The report of the converter's maker is replaced for each row.
    maker.report.notes.update(_schema_notes(schema, columns))
    maker.report.remark(*(Remark(**remark) for remarks in converted["remarks"] for remark in remarks))
    if options.attributes is not None:
        note = "`attribute_templates` have no effect: rows of Hub data sets have classes, but no attributes"
        maker.report.notes[note] += 1
    problems = [problem for problem in converted["problem"] if problem is not None]
    if problems and options.on_bad_rows != "skip":
        raise DatasetFormatError(problems[0].removeprefix(f"{name}, "), file=name)
    maker.report.skipped += problems
    maker.report.dropped += [message for messages in converted["dropped"] for message in messages]
    if problems:
        converted = converted.filter(lambda problem: problem is None, input_columns=["problem"])
    converted, contradictions = without_contradictions(converted, name)
    if contradictions and options.on_bad_rows != "skip":
        raise contradictions[0]
    maker.report.skipped += map(str, contradictions)
    converted = converted.remove_columns(["problem", "dropped", "remarks", "picture"])
    _count(converted, maker)
    return converted, maker.report


def _map_cached(groups: Dataset, converter, inputs: list, description: str) -> Dataset:
    """Convert groups of rows, or read the result of an earlier conversion of the same inputs."""
    digest = Hasher.hash([__version__, _FORMAT, _CONVERTED, *inputs])
    cache = Path(config.HF_DATASETS_CACHE) / "sam-ft"
    cache.mkdir(parents=True, exist_ok=True)
    return groups.map(
        converter,
        features=_CONVERTED,
        remove_columns=["indices"],
        cache_file_name=str(cache / f"{digest}.arrow"),
        new_fingerprint=digest,
        desc=description,
    )


def _count(rows: Dataset, maker: RowMaker) -> None:
    for row in rows.remove_columns("image"):
        maker.report.count(row)
    maker.check_positives()


def convert_lazily(
    rows: Dataset | ParquetRows, source: HubSource, split: str, options: ReadOptions
) -> tuple[LazyRows, DataReport]:
    """
    Convert the rows of one split when they are requested; arguments as in [`convert`].

    Returns:
        `tuple[LazyRows, DataReport]`: The rows, and a report without counts.

    Raises:
        `ValueError`: As [`convert`]; errors of a row are raised when it is requested.
    """
    name = f"{source.name} ({split})"
    groups = rows.groups if isinstance(rows, ParquetRows) else None
    if are_finished(rows, source):
        # The image is decoded when its row is requested, so the check of its header is sufficient.
        verifier = RowVerifier(name, replace(options, verify_images=False), allowed_roots(source, options))
        make = FinishedRows(rows, verifier)
        return LazyRows(make, len(rows), groups=groups, skip=options.on_bad_rows == "skip"), DataReport(name)
    converter, schema = build_converter(rows, source, name, options)
    maker = converter.maker
    maker.report.notes.update(_schema_notes(schema, converter.columns))
    skip = options.on_bad_rows == "skip"
    if schema.one_phrase_a_row:
        group_rows = rows_of_paths if isinstance(rows, ParquetRows) else rows_of_images
        images = group_rows(rows, converter.columns)
        if images is not None:
            groups = ranges_of(images, groups) if groups is not None else None
            make = GatheredRows(converter, images)
            return LazyRows(make, len(images), groups=groups, skip=skip, report=maker.report), maker.report
        note = (
            "streamed: images have no names, or their rows are far apart, so each phrase of an image is a separate row"
        )
        maker.report.notes[note] += 1
    return LazyRows(converter.row, len(rows), groups=groups, skip=skip, report=maker.report), maker.report


@dataclass
class GatheredRows:
    """
    Rows by index, each joined from all source rows of an image.

    Attributes:
        converter (`Converter`): Conversion of source rows.
        images (`list[list[int]]`): Indices of the source rows of each image.
    """

    converter: "Converter"
    images: list[list[int]]

    def __call__(self, index: int) -> dict:
        return self.converter.row(*self.images[index])


def _schema_notes(schema: Schema, columns: Columns) -> list[str]:
    roles = ", ".join(f"{role}: {column}" for role, column in columns.roles.items())
    note = f"detected schema: {schema.description} ({roles}); set `column_mapping` if this is wrong"
    return [note, *filter(None, [schema.note])]


def build_converter(
    rows: Dataset | ParquetRows, source: HubSource, name: str, options: ReadOptions
) -> tuple["Converter", Schema]:
    """
    Build the converter of a split, with its columns, schema and classes.

    Args:
        rows (`datasets.Dataset` or `ParquetRows`): Source rows.
        source (`HubSource`): The data set.
        name (`str`): Name of the data set and split, for messages.
        options (`ReadOptions`): Options of the conversion.

    Returns:
        `tuple[Converter, Schema]`: The converter and the detected schema.

    Raises:
        `ValueError`: If no column contains images or masks, or if classes have no names.
    """
    columns = find_columns(rows.features, source.column_mapping)
    schema = find_schema(columns)
    labels = label_names(rows, columns, schema, source, options)
    converter = Converter(rows, name, columns, SCHEMAS.index(schema), labels, options, image_roots(source))
    return converter, schema


@dataclass
class Converter:
    """
    Conversion of all source rows of an image to one row.

    Attributes:
        rows (`datasets.Dataset`): Source rows with undecoded images.
        source (`str`): Name of the data set and split.
        columns (`Columns`): Columns by role.
        schema (`int`): Index in `SCHEMAS`.
        labels (`dict`): Class name of each label.
        options (`ReadOptions`): Options of the conversion.
        roots (`list[Path]`): Folders that image files may lie in.
    """

    rows: Dataset
    source: str
    columns: Columns
    schema: int
    labels: dict
    options: ReadOptions
    roots: list[Path] = field(default_factory=list)

    def __call__(self, group: dict) -> dict:
        """
        Convert one image to a row of the cache.

        Args:
            group (`dict`): `indices` of the source rows of one image.

        Returns:
            `dict`: The row with `problem` (`None`), `dropped`, `remarks` and `picture` (digest of its image); if it
                cannot be used, an empty row with the reason in `problem`.
        """
        self.maker.report = DataReport(self.source)
        try:
            row = self.row(*group["indices"])
        except DatasetFormatError as error:
            return _UNUSABLE | {"problem": str(error), "dropped": [], "remarks": [], "picture": None}
        content = row["image"]["bytes"] if isinstance(row["image"], dict) else None
        return row | {
            "problem": None,
            "dropped": self.maker.report.dropped,
            "remarks": [asdict(remark) for remark in self.maker.report.remarks],
            "picture": hashlib.blake2b(content, digest_size=16).hexdigest() if content else None,
        }

    def row(self, *indices: int) -> dict:
        """
        Convert one image.

        Args:
            *indices (`int`): Indices of its source rows.

        Returns:
            `dict`: The row, in the schema of `row_schema.py`.

        Raises:
            `DatasetFormatError`: If the row cannot be used.
        """
        where, rows = f"row {indices[0]}", [self.rows[i] for i in indices]
        self._refuse_other_images(rows, indices)
        try:
            record = self._record(rows, where, str(indices[0]))
        except ValueError as error:
            raise DatasetFormatError(str(error), file=self.source, record=where) from error
        row = self.maker.row(record, self.maker.measure(record))
        validate_example(row, self.source)
        return row

    def _refuse_other_images(self, rows: list[dict], indices: tuple[int, ...]) -> None:
        contents = [(self.columns.take(row, "image") or {}).get("bytes") for row in rows]
        for index, content in zip(indices, contents, strict=True):
            if content != contents[0]:
                raise DatasetFormatError(
                    f"its image has the same name as that of row {indices[0]}, but other bytes; set `streaming: "
                    "false`",
                    file=self.source,
                    record=f"row {index}",
                )

    @cached_property
    def maker(self) -> RowMaker:
        """Conversion of records to rows, with its report."""
        options = self.options
        if SCHEMAS[self.schema].one_phrase_a_row and options.noun_phrases == "open":
            options = replace(options, phrase_source="noun_phrase")  # A phrase is unknown for images without its row.
        return RowMaker(Split(self.source, [], self.labels, roots=self.roots), options)

    def _record(self, rows: list[dict], where: str, example_id: str) -> Record:
        """Build the record of one image; raise `ValueError` if a column cannot be read."""
        schema = SCHEMAS[self.schema]
        context = Context(self.columns, self.options, self.labels, self.maker.roots)
        shapes = [shape for row in rows for shape in schema.shapes(row, context)]
        record = Record(example_id, where, _image(self.columns.take(rows[0], "image")), shapes)
        if schema.one_phrase_a_row:
            record.absent = [phrase_of(row, self.columns) for row in rows]
        return record


def _image(value) -> Path | bytes | ImageError:
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        return ImageError("the row has no image. Remove it, or set `on_bad_rows: skip` to leave it out")
    return value["bytes"] or Path(value["path"])
