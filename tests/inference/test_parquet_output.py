"""Parquet output: the rows of both tables, files of bounded size, and files that are not replaced."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from sam_ft.data.detection_tables import TABLES, TableInfo, parse_table_info
from sam_ft.data.image_entries import ImageEntry
from sam_ft.inference import parquet_output
from sam_ft.inference.parquet_output import ParquetOutput
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.metrics.postprocess import prompted_detection
from sam_ft.ops.masks import encode_mask
from sam_ft.utils.owned_files import OwnedFiles


PHRASES = ["dog", "café cup", "object"]
HEIGHT, WIDTH = 6, 8


def detection(left: int, score: float) -> dict:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[1:4, left : left + 2] = True
    rle = {"size": [HEIGHT, WIDTH], "counts": encode_mask(mask)}
    return {"score": score, "bbox": [left + 0.25, 1.0, 2.0, 3.0], "segmentation": rle}


def predict(name: str, presence: dict[str, float], **detections: list[dict]) -> ImagePrediction:
    return ImagePrediction(name, HEIGHT, WIDTH, detections, presence)


def examples() -> list[tuple[ImageEntry, ImagePrediction]]:
    """Return images with masks, without a detection, with a box alone, and with a prediction of SAM 2."""
    cup, presence = PHRASES[1], {PHRASES[1]: 0.75, "dog": 0.5}  # in another order than the phrases
    box = {"score": 0.625, "bbox": [0.5, 1.0, 4.0, 2.5]}
    prompted = prompted_detection(np.eye(HEIGHT, WIDTH, dtype=bool), 0.5)
    return [
        (ImageEntry("a", "/photos/a.jpg"), predict("a", presence, **{cup: [detection(1, 0.9), detection(4, 0.7)]})),
        (ImageEntry("b", "/photos/b.jpg"), predict("b", presence, **{cup: [], "dog": []})),
        (ImageEntry("c", "/t.tar", "c.jpg", (512, 9)), predict("c", presence, **{cup: [], "dog": [box]})),
        (
            ImageEntry("d", "hf://rows.parquet", "row 3", (1, 2), "image"),
            predict("d", {}, object=[prompted], dog=[detection(2, 0.8)]),
        ),
    ]


def write(folder, images=None, phrases=PHRASES):
    with ParquetOutput(OwnedFiles(folder, "prediction"), phrases) as output:
        for entry, prediction in examples() if images is None else images:
            output.add(entry, prediction)


def table_files(folder) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.parent != folder)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def rows_of(folder, table: str) -> list[dict]:
    files = sorted((folder / "parquet" / table).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_one_row_for_each_detection(tmp_path):
    write(tmp_path)
    rows = rows_of(tmp_path, "detections")
    assert [(row["image"], row["image_id"], row["phrase"], row["phrase_id"]) for row in rows] == [
        ("a", 1, "café cup", 2),
        ("a", 1, "café cup", 2),
        ("c", 3, "dog", 1),
        ("d", 4, "object", 3),
        ("d", 4, "dog", 1),
    ]
    assert [row["score"] for row in rows] == [0.9, 0.7, 0.625, 0.75, 0.8]
    assert [row["predicted_iou"] for row in rows] == [None, None, None, 0.5, None]
    assert [row["area"] for row in rows] == [6, 6, 10, 6, 6]
    assert rows[0]["bbox"] == [1.25, 1.0, 2.0, 3.0]
    assert rows[0]["segmentation"] == detection(1, 0.9)["segmentation"]["counts"]
    assert rows[2]["segmentation"] is None
    assert {(row["height"], row["width"]) for row in rows} == {(HEIGHT, WIDTH)}


def test_one_row_for_each_image(tmp_path):
    write(tmp_path)
    rows = rows_of(tmp_path, "images")
    assert [(row["image"], row["image_id"], row["file"], row["member"], row["position"]) for row in rows] == [
        ("a", 1, "/photos/a.jpg", None, None),
        ("b", 2, "/photos/b.jpg", None, None),
        ("c", 3, "/t.tar", "c.jpg", [512, 9]),
        ("d", 4, "hf://rows.parquet", "row 3", [1, 2]),
    ]
    assert [row["column"] for row in rows] == [None, None, None, "image"]
    assert [row["phrases"] for row in rows] == [["dog", "café cup"]] * 3 + [["dog", "object"]]
    assert [row["presence"] for row in rows] == [[0.5, 0.75]] * 3 + [[]]


def test_every_file_describes_its_table(tmp_path):
    write(tmp_path, [])  # a table without rows is one file
    for table, columns in TABLES.items():
        (file,) = (tmp_path / "parquet" / table).iterdir()
        schema = pq.read_schema(file)
        assert schema.equals(columns)
        assert parse_table_info(schema) == TableInfo(table, tuple(PHRASES))


def test_files_and_row_groups_have_a_maximum_size(tmp_path, monkeypatch):
    write(tmp_path / "single")
    monkeypatch.setattr(parquet_output, "ROWS_PER_FILE", 2)
    monkeypatch.setattr(parquet_output, "ROWS_PER_GROUP", {"detections": 1, "images": 2})
    write(tmp_path / "several")
    assert sorted(table_files(tmp_path / "several")) == [
        "parquet/detections/00000.parquet",
        "parquet/detections/00001.parquet",  # the detections of an image are in one file
        "parquet/images/00000.parquet",
        "parquet/images/00001.parquet",
    ]
    assert pq.ParquetFile(tmp_path / "several/parquet/detections/00001.parquet").num_row_groups == 3
    for table in TABLES:
        assert rows_of(tmp_path / "several", table) == rows_of(tmp_path / "single", table)


def test_a_repeated_prediction_replaces_and_removes_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_output, "ROWS_PER_FILE", 1)
    write(tmp_path / "a")
    draft = tmp_path / "a/parquet/images/.00000.parquet.0123456789ab.part.parquet"
    draft.write_text("of a killed process")
    write(tmp_path / "a", examples()[:2])
    write(tmp_path / "b", examples()[:2])
    assert table_files(tmp_path / "a") == table_files(tmp_path / "b")
    assert OwnedFiles(tmp_path / "a", "prediction").names == sorted(table_files(tmp_path / "a"))


def test_an_error_leaves_the_earlier_files(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_output, "ROWS_PER_FILE", 1)
    write(tmp_path, examples()[:2])
    before = table_files(tmp_path)
    with pytest.raises(KeyError):
        write(tmp_path, [*examples()[1:], (ImageEntry("e", "e.jpg"), predict("e", {}, unknown=[detection(1, 0.9)]))])
    assert table_files(tmp_path) == before
    with pytest.raises(ValueError, match=r"`images`: the file name /\\udcff.jpg is not valid UTF-8"):
        write(tmp_path, [(ImageEntry("e", "/\udcff.jpg"), predict("e", {}))])
    assert table_files(tmp_path) == before


@pytest.mark.parametrize("name", ["parquet/images/00000.parquet", "parquet/detections/mine.parquet"])
def test_files_of_the_user_are_not_replaced(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).write_text("mine")
    before = table_files(tmp_path)
    with pytest.raises(ValueError, match=f"`predictions_dir`: .* already contains {name}, which this command did not"):
        write(tmp_path)
    assert table_files(tmp_path) == before


def test_datasets_reads_the_tables(tmp_path):
    write(tmp_path)
    for table in TABLES:
        files = str(tmp_path / "parquet" / table / "*.parquet")
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert rows.to_list() == rows_of(tmp_path, table)
