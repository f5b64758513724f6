"""Reader of the tables of detections that a prediction writes; `detection_tables.py` describes their columns."""

import contextlib
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...options.data import ReadOptions
from ...utils.text import list_some, short_repr
from ..detection_tables import TABLES, VERSION, TableInfo, parse_table_info
from ..image_entries import ImageEntry
from ..row_schema import DatasetFormatError
from .image_roots import ImageRoots
from .images import ImageError
from .records import Record, Shape, Split


FORM = "detections/*.parquet and images/*.parquet (the folder `parquet` of a prediction)"
_REMEDY = "Copy the whole folder `parquet` of the prediction again, or repeat the prediction"
_PARQUET_ERRORS = (OSError, ValueError, pa.ArrowException)
_ROWS_PER_BATCH = 1_000  # of the images that are converted together
_SHAPE_COLUMNS = ["image_id", "phrase", "bbox", "area", "segmentation", "height", "width"]


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads the tables of a folder; `None` for another layout."""
    first_files = [file for name in TABLES for file in _list_files(folder / name)[:1]]
    return {"train": partial(_read, folder)} if any(map(_is_table, first_files)) else None


def _list_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))


def _is_table(file: Path) -> bool:
    try:
        return parse_table_info(pq.read_schema(file)) is not None
    except _PARQUET_ERRORS:
        return False


def _read(folder: Path, options: ReadOptions) -> Split:
    infos: list[TableInfo] = []
    images = _read_table(folder, "images", TABLES["images"].names, infos)
    detections = _Detections(_read_table(folder, "detections", _SHAPE_COLUMNS, infos), infos[0].phrases)
    if len({info.phrases for info in infos}) > 1:
        raise DatasetFormatError(
            f"the files belong to predictions with different phrases. {_REMEDY}", file=str(folder)
        )
    detections.check_images(folder, images["image_id"].to_pylist())
    _refuse_outside_images(folder, images["file"].to_pylist(), options)
    split = Split(str(folder), [], detections.labels, has_final_phrases=True)
    for batch in images.to_batches(_ROWS_PER_BATCH):
        split.records += [_record(row, folder, detections) for row in batch.to_pylist()]
    return split


def _read_table(folder: Path, name: str, columns: list[str], infos: list[TableInfo]) -> pa.Table:
    """
    Read the files of one table.

    Args:
        folder (`Path`): Folder of the tables.
        name (`str`): Name of the table.
        columns (`list[str]`): Columns that are read.
        infos (`list[TableInfo]`): List that the descriptions of the files are appended to.

    Returns:
        `pyarrow.Table`: The rows of all files, in the order of their names.

    Raises:
        `DatasetFormatError`: If there is no file, a file is damaged or not of this table, or a required value is
            missing.
    """
    files = _list_files(folder / name)
    if not files:
        raise DatasetFormatError(f"the folder contains no table `{name}/*.parquet`. {_REMEDY}", file=str(folder))
    tables = []
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                infos.append(_check_file(parquet.schema_arrow, name, file))
                tables.append(parquet.read(columns))
        except DatasetFormatError:
            raise
        except _PARQUET_ERRORS as error:
            raise DatasetFormatError(
                f"the file cannot be read as parquet ({error}). {_REMEDY}", file=str(file)
            ) from error
        for column in columns:
            if tables[-1][column].null_count and not TABLES[name].field(column).nullable:
                raise DatasetFormatError(f"`{column}` is null in a row; every row needs a value", file=str(file))
    return pa.concat_tables(tables)


def _check_file(schema: pa.Schema, name: str, file: Path) -> TableInfo:
    info = parse_table_info(schema)
    if info is None or info.table != name:
        raise DatasetFormatError(
            f"the file is no part of the table `{name}` of a prediction. Move it out of the folder", file=str(file)
        )
    if info.version != VERSION:
        raise DatasetFormatError(
            f"the table has version {info.version}, but version {VERSION} is read. Repeat the prediction with this "
            "version of sam-ft",
            file=str(file),
        )
    fields = {field.name: field.type for field in schema}
    different = [field.name for field in TABLES[name] if fields.get(field.name) != field.type]
    if different:
        raise DatasetFormatError(
            f"the columns {list_some(different)} are missing or have another type. {_REMEDY}", file=str(file)
        )
    return info


def _refuse_outside_images(folder: Path, files: list[str], options: ReadOptions) -> None:
    """Refuse tables with a URL, or whose first image lies outside the folder; `RowMaker` checks each image."""
    if options.allow_outside_images or not files:
        return
    outside = next((file for file in files if "://" in file), None)
    if outside is None:
        try:
            ImageRoots([folder]).check(folder / files[0])
            return
        except ImageError:
            outside = files[0]
    raise DatasetFormatError(
        f"the images that were predicted lie outside this folder, such as {outside!r}. Set `allow_outside_images: "
        "true` if you trust the table",
        file=str(folder),
    )


def _record(row: dict, folder: Path, detections: "_Detections") -> Record:
    """Convert one row of the table of images."""
    where = f"image {short_repr(row['image'])}"
    try:
        labels = detections.labels_of(tuple(row["phrases"]))
    except KeyError as error:
        raise DatasetFormatError(
            f"`phrases` contains {short_repr(error.args[0])}, which is no phrase of the prediction. {_REMEDY}",
            file=str(folder),
            record=where,
        ) from error
    record = Record(
        row["image"],
        where,
        _find_image(row, folder),
        detections.take(row["image_id"]),
        (row["width"], row["height"]),
        absent=labels,  # those with a detection are not absent
    )
    if not row["presence"]:  # SAM 2 predicts the objects that were pointed at, among others of their label
        record.absent, record.not_exhaustive = [], frozenset(labels)
    return record


def _find_image(row: dict, folder: Path) -> Path | ImageEntry | ImageError:
    if row["column"] is not None:
        return ImageError(
            f"the image is in a row of {row['file']}, and only image files and members of tar files are read. Save "
            "the images as files, and predict these"
        )
    if row["member"] is not None:
        file = row["file"] if "://" in row["file"] else str(folder / row["file"])
        return ImageEntry(row["image"], file, row["member"], tuple(row["position"] or ()))
    file = folder / row["file"]
    with contextlib.suppress(OSError):  # a name that the file system does not allow is a missing file
        if file.is_file():
            return file
    return ImageError(
        f"the image {str(file)!r} is missing. Put it there, or set `on_bad_rows: skip` to leave such rows out"
    )


class _Detections:
    """
    Table of detections, by image.

    Args:
        table (`pyarrow.Table`): The rows.
        phrases (`tuple[str, ...]`): All phrases of the prediction.

    Attributes:
        labels (`dict[int, str]`): Phrase of each number.
        label_of (`dict[str, int]`): Number of each phrase.
    """

    def __init__(self, table: pa.Table, phrases: tuple[str, ...]):
        ids = table["image_id"].to_numpy()
        if (np.diff(ids) < 0).any():
            order = np.argsort(ids, kind="stable")
            table, ids = table.take(order), ids[order]
        self.table, self.labels, self._prompted = table, dict(enumerate(phrases, 1)), {}
        self.label_of = {phrase: number for number, phrase in self.labels.items()}
        values, begins = np.unique(ids, return_index=True)
        limits = [*begins.tolist(), len(ids)]
        self._ranges = {image_id: (limits[i], limits[i + 1]) for i, image_id in enumerate(values.tolist())}

    def take(self, image_id: int) -> partial:
        """Return a function that returns the shapes of an image."""
        return partial(self._shapes, *self._ranges.get(image_id, (0, 0)))

    def labels_of(self, phrases: tuple[str, ...]) -> list[int]:
        """Return the numbers of the phrases of an image, one list for all images with the same phrases."""
        if phrases not in self._prompted:
            self._prompted[phrases] = [self.label_of[phrase] for phrase in phrases]
        return self._prompted[phrases]

    def check_images(self, folder: Path, image_ids: list[int]) -> None:
        """Refuse an `image_id` of several images, and detections of images that are not listed."""
        unique_ids = set(image_ids)
        if len(unique_ids) < len(image_ids):
            raise DatasetFormatError(
                f"{len(image_ids)} rows of `images` have {len(unique_ids)} different `image_id`; they must be unique. "
                f"{_REMEDY}",
                file=str(folder),
            )
        orphans = sorted(self._ranges.keys() - unique_ids)
        if orphans:
            raise DatasetFormatError(
                f"`detections` refers to {len(orphans)} images that `images` does not list, the first with `image_id` "
                f"{orphans[0]}. {_REMEDY}",
                file=str(folder),
            )

    def _shapes(self, begin: int, end: int) -> list[Shape]:
        return list(map(self._shape, range(end - begin), self.table.slice(begin, end - begin).to_pylist()))

    def _shape(self, number: int, row: dict) -> Shape:
        shape = Shape(f"detection {number}", self.label_of.get(row["phrase"], row["phrase"]))
        if row["segmentation"] is not None:
            shape.rle = {"size": [row["height"], row["width"]], "counts": row["segmentation"]}
        if row["segmentation"] is None or not row["area"]:
            shape.box = row["bbox"]  # the box is predicted apart from the mask, so both may differ
        return shape
