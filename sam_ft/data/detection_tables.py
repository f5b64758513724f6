"""
Tables of detections: parquet files that a prediction writes, and that the layout `detections` reads.

`detections/*.parquet` has one row a detection, in the order of the images:

| column | type | content |
|---|---|---|
| `image`, `image_id` | string, int64 | name of the image, and its number from 1, as in `coco.json` |
| `phrase`, `phrase_id` | string, int32 | phrase, and its number from 1, as in `coco.json` |
| `score` | float64 | score, in `[0, 1]` |
| `predicted_iou` | float64 | predicted IoU of SAM 2; null for SAM 3 |
| `bbox` | list of 4 float64 | `x`, `y`, `w`, `h`, px |
| `area` | float64 | pixels of the mask; of the box without a mask |
| `segmentation` | string | `counts` of the COCO RLE of size `[height, width]`; null without a mask |
| `height`, `width` | int32 | size of the image, px |

`images/*.parquet` has one row an image, also for an image without a detection:

| column | type | content |
|---|---|---|
| `image`, `image_id` | string, int64 | as above |
| `file` | string | absolute path of the image file; path or URL of the tar or parquet file that contains the image |
| `member` | string | name of the image in the tar or parquet file; null for an image file |
| `position` | list of 2 int64 | offset and size in the tar file, bytes, or row group and row; null for an image file |
| `column` | string | image column of the parquet file; null for another file |
| `height`, `width` | int32 | size of the upright image, px |
| `phrases` | list of string | phrases that the image was prompted with |
| `presence` | list of float64 | probability that each of `phrases` is present; empty for SAM 2, which predicts none |

The schema of each file has the metadata of [`TableInfo`].
"""

import json
from dataclasses import dataclass

import pyarrow as pa


_KEY, _FORMAT, VERSION = b"sam_ft", "detections", 1


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


# The columns of each table, by the name of its folder.
TABLES = {
    "detections": pa.schema(
        [
            _required("image", pa.string()),
            _required("image_id", pa.int64()),
            _required("phrase", pa.string()),
            _required("phrase_id", pa.int32()),
            _required("score", pa.float64()),
            pa.field("predicted_iou", pa.float64()),
            _required("bbox", pa.list_(pa.float64(), 4)),
            _required("area", pa.float64()),
            pa.field("segmentation", pa.string()),
            _required("height", pa.int32()),
            _required("width", pa.int32()),
        ]
    ),
    "images": pa.schema(
        [
            _required("image", pa.string()),
            _required("image_id", pa.int64()),
            _required("file", pa.string()),
            pa.field("member", pa.string()),
            pa.field("position", pa.list_(pa.int64())),
            pa.field("column", pa.string()),
            _required("height", pa.int32()),
            _required("width", pa.int32()),
            _required("phrases", pa.list_(pa.string())),
            _required("presence", pa.list_(pa.float64())),
        ]
    ),
}


@dataclass(frozen=True)
class TableInfo:
    """
    Description of a table in the metadata of its files.

    Attributes:
        table (`str`): Name of the table, a key of `TABLES`.
        phrases (`tuple[str, ...]`): All phrases of the prediction, in the order of their numbers.
        version (`int`): Version of the columns.
    """

    table: str
    phrases: tuple[str, ...]
    version: int = VERSION

    def to_schema(self) -> pa.Schema:
        """Return the columns of the table, with this description as metadata."""
        entry = {"format": _FORMAT, "version": self.version, "table": self.table, "phrases": self.phrases}
        return TABLES[self.table].with_metadata({_KEY: json.dumps(entry, ensure_ascii=False)})


def parse_table_info(schema: pa.Schema) -> TableInfo | None:
    """
    Parse the metadata of a parquet file.

    Args:
        schema (`pyarrow.Schema`): Schema of the file.

    Returns:
        `TableInfo` or `None`: `None` if no prediction wrote the file.
    """
    try:
        entry = json.loads((schema.metadata or {})[_KEY])
        if entry["format"] != _FORMAT:
            return None
        table, phrases, version = entry["table"], entry["phrases"], entry["version"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    is_valid = isinstance(table, str) and isinstance(version, int) and isinstance(phrases, list)
    return TableInfo(table, tuple(map(str, phrases)), version) if is_valid else None
