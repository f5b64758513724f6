"""
Parquet output of a prediction: `parquet/detections/` with one row a detection, `parquet/images/` with one an image.

`data/detection_tables.py` describes the columns. Rows are written in row groups while predictions are added, so that
memory does not grow with their number, and equal predictions result in equal bytes.
"""

import contextlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.detection_tables import TABLES, TableInfo
from ..data.image_entries import ImageEntry
from ..data.safe_text import is_valid_utf8, to_printable
from ..utils.files import find_drafts
from ..utils.owned_files import OwnedFiles
from .nms import compute_area
from .predictor import ImagePrediction


FOLDER = "parquet"
ROWS_PER_GROUP = {"detections": 10_000, "images": 1_000}
ROWS_PER_FILE = 1_000_000  # exceeded by the detections of one image, which are not divided
_REPEATED_COLUMNS = ["image", "phrase", "file", "column", "phrases.list.element"]  # texts that occur in many rows
_ARGUMENT = "predictions_dir"


class ParquetOutput:
    """
    Writer of the tables of a prediction, a context manager.

    The files get their names when the context ends without an error; files that an earlier call wrote are replaced,
    and removed if there are fewer files now. After an error, the earlier files remain.

    Args:
        owned (`OwnedFiles`): Files of the predictions' folder. No other process may write its tables.
        phrases (`list[str]`): Class names, in the order of their numbers.

    Raises:
        `ValueError`: If a folder of the tables contains parquet files that are not owned.

    Examples:
        >>> with ParquetOutput(owned, phrases) as output:
        ...     output.add(entry, prediction)
    """

    def __init__(self, owned: OwnedFiles, phrases: list[str]):
        self.owned, self._num_images = owned, 0
        self._ids = {phrase: number for number, phrase in enumerate(phrases, 1)}
        self._drafts = contextlib.ExitStack()
        self._tables = {name: _TableWriter(owned, TableInfo(name, tuple(phrases)), self._drafts) for name in TABLES}

    def __enter__(self) -> "ParquetOutput":
        self.owned.check_free(find_table_files(self.owned.folder), _ARGUMENT)
        return self

    def __exit__(self, *error) -> None:
        if error[0] is not None:
            self._drafts.__exit__(*error)
            return
        with self._drafts:
            for table in self._tables.values():
                table.close()
        written = {name for table in self._tables.values() for name in table.names}
        folders = tuple(f"{FOLDER}/{name}/" for name in TABLES)
        self.owned.remove(name for name in self.owned.names if name.startswith(folders) and name not in written)

    def add(self, entry: ImageEntry, prediction: ImagePrediction) -> None:
        """
        Add the prediction of the next image.

        Args:
            entry (`ImageEntry`): The image.
            prediction (`ImagePrediction`): Its prediction.

        Raises:
            `ValueError`: If a file name is not valid UTF-8, or the tables cannot be written.
        """
        self._num_images += 1
        common = {
            "image": prediction.name,
            "image_id": self._num_images,
            "height": prediction.height,
            "width": prediction.width,
        }
        self._tables["images"].add([common | _describe_source(entry) | self._describe_prompts(prediction)])
        self._tables["detections"].add(
            [
                common | describe_detection(phrase, self._ids[phrase], detection)
                for phrase, detections in prediction.detections.items()
                for detection in detections
            ]
        )

    def _describe_prompts(self, prediction: ImagePrediction) -> dict:
        phrases = sorted({*prediction.presence, *prediction.detections}, key=self._ids.__getitem__)
        presence = [prediction.presence.get(phrase) for phrase in phrases] if prediction.presence else []
        return {"phrases": phrases, "presence": presence}


def describe_detection(phrase: str, phrase_id: int, detection: dict) -> dict:
    """
    Return the columns of a detection that do not describe its image.

    Args:
        phrase (`str`): Its phrase.
        phrase_id (`int`): Number of the phrase, from 1.
        detection (`dict`): The detection; see [`ImagePrediction`].
    """
    return {
        "phrase": phrase,
        "phrase_id": phrase_id,
        "score": detection["score"],
        "predicted_iou": detection.get("predicted_iou"),
        "bbox": detection["bbox"],
        "area": compute_area(detection),
        "segmentation": detection.get("segmentation", {}).get("counts"),
    }


def _describe_source(entry: ImageEntry) -> dict:
    """Return the columns that locate an image."""
    if not is_valid_utf8(str(entry)):
        raise ValueError(
            f"`images`: the file name {to_printable(str(entry))} is not valid UTF-8, which a parquet file cannot "
            "contain. Rename the file"
        )
    file = entry.location if "://" in entry.file else os.path.abspath(entry.file)
    if entry.is_file:
        return {"file": file, "member": None, "position": None, "column": None}
    return {"file": file, "member": entry.member, "position": list(entry.position), "column": entry.column or None}


def find_table_files(folder: Path) -> list[str]:
    """
    Find the parquet files of the tables in a folder of predictions.

    Args:
        folder (`Path`): Folder of predictions; need not exist.

    Returns:
        `list[str]`: Names relative to the folder, sorted.
    """
    files = (file for name in TABLES for file in (folder / FOLDER / name).glob("*.parquet"))
    return sorted(file.relative_to(folder).as_posix() for file in files if not file.name.startswith("."))


class _TableWriter:
    """
    Writer of one table as files of about `ROWS_PER_FILE` rows; a table without rows is one file.

    Args:
        owned (`OwnedFiles`): Files of the predictions' folder.
        info (`TableInfo`): The table.
        drafts (`contextlib.ExitStack`): Context that names the files when it ends.
    """

    def __init__(self, owned: OwnedFiles, info: TableInfo, drafts: contextlib.ExitStack):
        self.owned, self.info, self.drafts, self.names = owned, info, drafts, []
        self._schema, self._group = info.to_schema(), ROWS_PER_GROUP[info.table]
        self._writer: pq.ParquetWriter | None = None
        self._rows, self._num_rows = [], 0  # waiting rows; rows of the file

    def add(self, rows: list[dict]) -> None:
        if self._num_rows >= ROWS_PER_FILE:
            self._close_file()
        self._rows += rows
        self._num_rows += len(rows)
        while len(self._rows) >= self._group:
            self._write_group()

    def close(self) -> None:
        if self._num_rows or not self.names:
            self._close_file()

    def _close_file(self) -> None:
        self._write_group()
        self._writer.close()
        self._writer, self._num_rows = None, 0

    def _write_group(self) -> None:
        if self._writer is None:
            self._writer = self._open_file()
        rows, self._rows = self._rows[: self._group], self._rows[self._group :]
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def _open_file(self) -> pq.ParquetWriter:
        name = f"{FOLDER}/{self.info.table}/{len(self.names):05d}.parquet"
        for draft in find_drafts(self.owned.folder / name):  # of a killed process
            draft.unlink()
        draft = self.drafts.enter_context(self.owned.draft(name, _ARGUMENT))
        self.names.append(name)
        writer = pq.ParquetWriter(draft, self._schema, compression="zstd", use_dictionary=_REPEATED_COLUMNS)
        self.drafts.callback(writer.close)
        return writer
