"""A Hub data set's rows to rows of `example.py`, once: `datasets` keeps what was converted under a fingerprint."""

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from datasets import Dataset, Features, List, Value, config
from datasets.fingerprint import Hasher

from ... import __version__
from ..lazy_rows import LazyRows
from ..phrases.vocabulary import normalize_phrase
from ..readers.images import ImageError
from ..readers.records import ReadOptions, Record, Split
from ..readers.rows import RowMaker
from ..reading_report import DataReport, Remark
from ..row_schema import FEATURES, DatasetFormatError, validate_example
from .columns import Columns, find_columns
from .finished import FinishedRows, RowVerifier, are_finished, read_finished, roots_of
from .groups import ranges_of, rows_of_images, rows_of_paths, without_contradictions
from .parquet import ParquetRows
from .schemas import SCHEMAS, Context, Schema, find_schema, label_names
from .source import HubSource, class_names, image_roots, names_in_row


_CONVERTED = Features(
    {
        **FEATURES,
        "problem": Value("string"),
        "remarks": List({f.name: Value("string") for f in fields(Remark)}),
        "picture": Value("string"),  # digest of an image's bytes
    }
)
_FORMAT = 3  # another number converts anew what is cached: raise it when a conversion's result changes
_UNUSABLE = {"example_id": "", "image": None, "width": 0, "height": 0, "instances": [], "phrases": []}


def convert(
    rows: Dataset | ParquetRows, source: HubSource, split: str, options: ReadOptions
) -> tuple[Dataset, DataReport]:
    """
    All rows of one split.

    Args:
        rows (`datasets.Dataset` or `ParquetRows`): of [`open_splits`].
        source (`HubSource`), split (`str`), options (`ReadOptions`).

    Returns:
        `tuple[datasets.Dataset, DataReport]`: rows of `example.py`, and what was understood.

    Raises:
        `ValueError`: where no column holds images or masks, or classes have no names.
        `DatasetFormatError`: naming the row, where one cannot be used and `on_bad_rows` is `error`; where no phrase has an
            instance.
    """
    name = f"{source.name} ({split})"
    rows = rows.whole() if isinstance(rows, ParquetRows) else rows
    if are_finished(rows, source):
        return read_finished(rows, source, name, options)
    converter, schema = make_converter(rows, source, name, options)
    columns = converter.columns
    indices = rows_of_images(rows, columns) if schema.one_phrase_a_row else [[i] for i in range(len(rows))]
    groups = Dataset.from_dict({"indices": indices}, features=Features({"indices": List(Value("int64"))}))
    digest = Hasher.hash(
        [
            __version__,
            _FORMAT,
            _CONVERTED,
            rows._fingerprint,
            converter.schema,
            columns.roles,
            converter.labels,
            options,
        ]
    )
    cache = Path(config.HF_DATASETS_CACHE) / "sam-ft"
    cache.mkdir(parents=True, exist_ok=True)
    converted = groups.map(
        converter,
        features=_CONVERTED,
        remove_columns=["indices"],
        cache_file_name=str(cache / f"{digest}.arrow"),
        new_fingerprint=digest,
        desc=f"reading {name}",
    )
    maker = replace(converter).maker  # the converter's own notes of one row at a time
    maker.report.notes.update(_understood(schema, columns))
    maker.report.remark(*(Remark(**remark) for remarks in converted["remarks"] for remark in remarks))
    if options.attributes is not None:
        maker.report.notes["`attribute_templates` say nothing here: rows of the Hub have classes, not attributes"] += 1
    problems = [problem for problem in converted["problem"] if problem is not None]
    if problems and options.on_bad_rows != "skip":
        raise DatasetFormatError(problems[0].removeprefix(f"{name}, "), file=name)
    maker.report.skipped += problems
    if problems:
        converted = converted.filter(lambda problem: problem is None, input_columns=["problem"])
    converted, contradictions = without_contradictions(converted, name)
    if contradictions and options.on_bad_rows != "skip":
        raise contradictions[0]
    maker.report.skipped += map(str, contradictions)
    converted = converted.remove_columns(["problem", "remarks", "picture"])
    _count(converted, maker)
    return converted, maker.report


def _count(rows: Dataset, maker: RowMaker) -> None:
    light = list(rows.remove_columns("image"))
    for row in light:
        maker.report.count(row)
    maker.check_positives(light)


def lazily(
    rows: Dataset | ParquetRows, source: HubSource, split: str, options: ReadOptions
) -> tuple[LazyRows, DataReport]:
    """
    As [`convert`], but rows are made when they are asked for.

    Raises:
        `ValueError`: as [`convert`], up to the first row; a row raises when it is asked for.
    """
    name = f"{source.name} ({split})"
    groups = rows.groups if isinstance(rows, ParquetRows) else None
    if are_finished(rows, source):
        # an image is decoded when its row is requested: here its header is enough
        verifier = RowVerifier(name, replace(options, verify_images=False), roots_of(source, options))
        make = FinishedRows(rows, verifier)
        return LazyRows(make, len(rows), groups=groups, skip=options.on_bad_rows == "skip"), DataReport(name)
    converter, schema = make_converter(rows, source, name, options)
    maker = converter.maker
    maker.report.notes.update(_understood(schema, converter.columns))
    skip = options.on_bad_rows == "skip"
    if schema.one_phrase_a_row:
        find = rows_of_paths if isinstance(rows, ParquetRows) else rows_of_images
        images = find(rows, converter.columns)
        if images is not None:
            groups = ranges_of(images, groups) if groups is not None else None
            return LazyRows(GatheredRows(converter, images), len(images), groups=groups, skip=skip), maker.report
        note = "streamed: images have no names, or their rows lie far from each other: phrases of one image are asked apart"
        maker.report.notes[note] += 1
    return LazyRows(converter.row, len(rows), groups=groups, skip=skip), maker.report


@dataclass
class GatheredRows:
    """Makes a row of all source rows of an image; `images`: their indices."""

    converter: "Converter"
    images: list[list[int]]

    def __call__(self, place: int) -> dict:
        return self.converter.row(*self.images[place])


def _understood(schema: Schema, columns: Columns) -> list[str]:
    roles = ", ".join(f"{role}: {column}" for role, column in columns.roles.items())
    return [f"understood as {schema.says} ({roles}); `column_mapping` overrides", *filter(None, [schema.note])]


def make_converter(
    rows: Dataset | ParquetRows, source: HubSource, name: str, options: ReadOptions
) -> tuple["Converter", Schema]:
    """
    Raises:
        `ValueError`: where no column holds images or masks, or classes have no names.
    """
    columns = find_columns(rows.features, source.column_mapping)
    schema = find_schema(columns)
    labels = _labels(rows, columns, schema, source, options)
    converter = Converter(rows, name, columns, SCHEMAS.index(schema), labels, options, image_roots(source))
    return converter, schema


@dataclass
class Converter:
    """
    Makes one row of all source rows of an image; `datasets` calls it, and takes its fields for the fingerprint.

    Attributes:
        rows (`datasets.Dataset`): the source's, undecoded. source (`str`): its name and split.
        columns (`Columns`), schema (`int`): place in `SCHEMAS`. labels (`dict`): label -> class.
        options (`ReadOptions`). roots (`list[Path]`): folders that image files may lie in.
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
        Make a row for the conversion's cache.

        Args:
            group (`dict`): `indices` of the source rows of one image.

        Returns:
            `dict`: The row, `problem: None`, what is odd about it and its image's digest; where it cannot be used, an
                empty row and why.
        """
        self.maker.report = DataReport(self.source)
        try:
            row = self.row(*group["indices"])
        except DatasetFormatError as error:
            return _UNUSABLE | {"problem": str(error), "remarks": [], "picture": None}
        content = row["image"]["bytes"] if isinstance(row["image"], dict) else None
        return row | {
            "problem": None,
            "remarks": [asdict(remark) for remark in self.maker.report.remarks],
            "picture": hashlib.blake2b(content, digest_size=16).hexdigest() if content else None,
        }

    def row(self, *indices: int) -> dict:
        """
        The row of one image.

        Raises:
            `DatasetFormatError`: where it cannot be used.
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
                    f"its image has the name of row {indices[0]}'s and is another; read the data without `streaming`",
                    file=self.source,
                    record=f"row {index}",
                )

    @cached_property
    def maker(self) -> RowMaker:
        options = self.options
        if SCHEMAS[self.schema].one_phrase_a_row and options.noun_phrases == "open":
            options = replace(options, phrase_source="noun_phrase")  # each row's phrase is of its image alone
        return RowMaker(Split(self.source, [], self.labels, roots=self.roots), options)

    def _record(self, rows: list[dict], where: str, example_id: str) -> Record:
        """Of one image; raises `ValueError` where a column cannot be read."""
        schema = SCHEMAS[self.schema]
        context = Context(self.columns, self.options, self.labels, self.maker.roots)
        shapes = [shape for row in rows for shape in schema.shapes(row, context)]
        record = Record(example_id, where, _image(self.columns.take(rows[0], "image")), shapes)
        if schema.one_phrase_a_row:
            record.absent = [phrase_of(row, self.columns) for row in rows]
        return record


def phrase_of(row: dict, columns: Columns) -> str:
    """The normalised phrase of a row."""
    text = columns.take(row, "phrase")
    return normalize_phrase(text) if isinstance(text, str) else ""


def _image(value) -> Path | bytes | ImageError:
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        return ImageError("the row has no image. Remove it, or set `on_bad_rows: skip` to leave it out")
    return value["bytes"] or Path(value["path"])


def _labels(rows: Dataset, columns: Columns, schema: Schema, source: HubSource, options: ReadOptions) -> dict:
    """
    Label -> class.

    Raises:
        `ValueError`: where classes are numbers without names; says how to give them.
    """
    if schema.one_phrase_a_row:
        texts = rows.select_columns(columns.roles["phrase"].partition(".")[0])
        return {text: text for text in sorted({phrase_of(row, columns) for row in texts} - {""})}
    if schema.needs_mask_values and options.mask_values is None:
        raise ValueError(
            f"each row of {source.name!r} has one mask image. Say what its numbers are: `mask_values: instances` (one object each), "
            "`classes` (all of a class at once) or `components` (classes, whose connected parts are objects)"
        )
    if schema.needs_class_name and not options.class_name:
        raise ValueError(
            f"the masks of {source.name!r} ({schema.says}) have no names, and SAM 3 asks for names. Where they all show one thing, say "
            "`class_name`"
        )
    if "class_ids" in columns:
        return names_in_row(columns.take(rows[0], "class_ids"))
    declared = label_names(columns)
    if declared is not None:
        return dict(enumerate(declared))
    if "masks" in columns and "labels" not in columns and "segments" not in columns and "segmentation" not in columns:
        return _labels_of_masks(source, options)
    found = _found_labels(rows, columns, options)
    if all(isinstance(label, str) for label in found):
        return {label: label for label in sorted(found)}
    names = class_names(source, options.class_names)
    lacking = sorted(label for label in found if label not in names)
    if lacking:
        raise ValueError(
            f"`dataset_name`: the classes of {source.name!r} are numbers ({_shown(found)}), and {_shown(lacking)} have no "
            'names. Give a file `class_names: names.json` with {"0": "name", …}'
        )
    return names


def _labels_of_masks(source: HubSource, options: ReadOptions) -> dict:
    names = class_names(source, options.class_names) if options.mask_values != "instances" else {}
    if not names and not options.class_name:
        raise ValueError(
            f'the masks of {source.name!r} have no names. Give a file `class_names: names.json` with {{"0": "name", …}}, or '
            "`class_name` where all show one thing"
        )
    return names or {options.class_name: options.class_name}


def _found_labels(rows: Dataset, columns: Columns, options: ReadOptions) -> set:
    found = set()
    role = "segments" if "segments" in columns else "labels"
    if role not in columns:
        return {options.class_name} if options.class_name else found
    for row in rows.select_columns(columns.roles[role].partition(".")[0]):
        value = columns.take(row, role)
        if role == "segments":
            value = (
                value.get("category_id")
                if isinstance(value, dict)
                else [segment.get("category_id") for segment in value or []]
            )
        found |= {label for label in (value if isinstance(value, list) else [value]) if label is not None}
    return found


def _shown(labels) -> str:
    names = sorted(map(str, labels))
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
