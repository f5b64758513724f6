"""Layout `detections`: masks, phrases and absences of a prediction as training data, and tables that are refused."""

import io
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_ft.data.image_entries import ImageEntry
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.readers.layouts import find_splits
from sam_ft.data.row_schema import DatasetFormatError
from sam_ft.data.sources import find_sources, read_splits
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.metrics.postprocess import prompted_detection
from sam_ft.ops.masks import encode_mask, mask_box_xywh
from sam_ft.options.data import DatasetOptions, HubSource, ReadOptions

from .readers.detection_trees import predictions_of_pictures, write_tables
from .readers.trees import HEIGHT, PICTURES, WIDTH, picture, save_pictures


PHRASES = ["t-shirt (red)", "cat", "dog"]
OUTSIDE = ReadOptions(allow_outside_images=True)


@pytest.fixture
def tables(tmp_path):
    """Write the tables of the pictures of `trees.py`, which lie in another folder."""
    pictures = save_pictures(tmp_path / "pictures")
    entries = [ImageEntry(name, str(pictures / f"{name}.png")) for name in PICTURES]
    return write_tables(tmp_path / "predictions", entries, predictions_of_pictures())


def read(folder, options=OUTSIDE, *, streaming=False):
    splits = find_sources(str(folder), None, HubSource(), [])
    return read_splits(splits, options, lazy=("train",) if streaming else ())["train"]


def random_detection(seed: int) -> dict:
    counts = encode_mask(np.random.default_rng(seed).random((HEIGHT, WIDTH)) > 0.7)
    box = [left + 0.5 for left in mask_box_xywh(counts, HEIGHT, WIDTH)]  # predicted apart from the mask
    return {"score": 0.9, "bbox": box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}}


def contents(rows) -> dict[str, dict]:
    """Return the instances of each phrase, and whether they are exhaustive, by image."""
    return {
        row["example_id"]: {
            phrase["text"]: ([row["instances"][i] for i in phrase["instances"]], phrase["exhaustive"])
            for phrase in row["phrases"]
        }
        for row in rows
    }


def test_masks_phrases_and_absences_are_those_of_the_prediction(tmp_path):
    found = {PHRASES[0]: [random_detection(1), random_detection(2)], "cat": [], "dog": [random_detection(3)]}
    box_only = {"score": 0.6, "bbox": [3.5, 4.0, 50.0, 10.0]}
    presence = dict.fromkeys(PHRASES, 0.5)
    predictions = [
        ImagePrediction("first", HEIGHT, WIDTH, found, presence),
        ImagePrediction("sub/none", HEIGHT, WIDTH, {"cat": [], "dog": []}, {"cat": 0.1, "dog": 0.2}),
        ImagePrediction("box", HEIGHT, WIDTH, {"cat": [box_only]}, {"cat": 0.7}),
        ImagePrediction("sam2", HEIGHT, WIDTH, {"dog": [prompted_detection(np.eye(HEIGHT, WIDTH) > 0, 0.9)]}),
    ]
    entries = []
    for seed, prediction in enumerate(predictions):
        picture(seed).save(tmp_path / f"{seed}.png")
        entries.append(ImageEntry(prediction.name, str(tmp_path / f"{seed}.png")))
    folder = write_tables(tmp_path / "predictions", entries, predictions, PHRASES)
    data = load_phrase_dataset(DatasetOptions(str(folder), eval_split="train"), OUTSIDE)
    received = contents(data.train)
    assert {name: {t: (len(i), e) for t, (i, e) in phrases.items()} for name, phrases in received.items()} == {
        "first": {PHRASES[0]: (2, True), "cat": (0, True), "dog": (1, True)},
        "sub/none": {"cat": (0, True), "dog": (0, True)},
        "box": {"cat": (1, True)},
        "sam2": {"dog": (1, False)},  # other dogs may be without a prompt
    }
    for phrase, detections in found.items():
        masks = [instance["segmentation"] for instance in received["first"][phrase][0]]
        assert masks == [detection["segmentation"]["counts"] for detection in detections]
    (instance,), _ = received["box"]["cat"]
    assert instance["segmentation"] is None
    assert instance["bbox"] == [3.5, 4.0, WIDTH - 3.5, 10.0]
    assert data.category_ids == {PHRASES[0]: 1, "cat": 2, "dog": 3}
    for seed, row in enumerate(data.train):
        assert np.array_equal(np.asarray(row["image"]), np.asarray(picture(seed)))


def test_the_order_of_the_rows_of_detections_does_not_matter(tables):
    file = tables / "detections" / "00000.parquet"
    table = pq.read_table(file)
    half = len(table) // 2
    pq.write_table(table.slice(half), file)
    pq.write_table(table.slice(0, half), tables / "detections" / "00001.parquet")
    assert {name: {t: len(i) for t, (i, _) in p.items()} for name, p in contents(read(tables)[0]).items()} == {
        "first": {"apple": 2, "pear": 1},
        "second": {"apple": 0, "pear": 0},
    }


def test_members_of_tar_files_are_read(tmp_path):
    entries, file = [], tmp_path / "shard.tar"
    with tarfile.open(file, "w") as tar:
        for seed, name in enumerate(PICTURES):
            buffer = io.BytesIO()
            picture(seed).save(buffer, "PNG")
            member = tarfile.TarInfo(f"images/{name}.png")
            member.size = buffer.tell()
            tar.addfile(member, io.BytesIO(buffer.getvalue()))
    with tarfile.open(file) as tar:
        for member, name in zip(tar, PICTURES, strict=True):
            entries.append(ImageEntry(name, str(file), member.name, (member.offset_data, member.size)))
    folder = write_tables(tmp_path / "predictions", entries, predictions_of_pictures())
    for streaming in (False, True):
        rows = list(read(folder, streaming=streaming)[0])
        assert [len(row["instances"]) for row in rows] == [3, 0]
        for seed, row in enumerate(rows):
            assert np.array_equal(np.asarray(row["image"]), np.asarray(picture(seed)))
    with pytest.raises(DatasetFormatError, match="lie outside this folder, such as '.*shard.tar'"):
        read(folder, ReadOptions())
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(DatasetFormatError, match=r"image 'first': .*shard.tar: images/first.png cannot be read \(the"):
        read(folder)
    file.unlink()
    with pytest.raises(DatasetFormatError, match="image 'first': .* cannot be read .* Put the file there"):
        read(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ImageEntry("first", "/rows.parquet", "row 1", (0, 1), "image"), "image 'first': .* a row of /rows.parquet"),
        (ImageEntry("first", "/missing/first.png"), "image 'first': the image '/missing/first.png' is missing"),
    ],
)
def test_images_that_cannot_be_read_are_refused_or_left_out(tmp_path, entry, message):
    picture(1).save(tmp_path / "second.png")
    first, second = predictions_of_pictures()
    second.detections["apple"] = [random_detection(1)]
    folder = write_tables(tmp_path, [entry, ImageEntry("second", str(tmp_path / "second.png"))], [first, second])
    with pytest.raises(DatasetFormatError, match=message):
        read(folder)
    rows, report = read(folder, ReadOptions(allow_outside_images=True, on_bad_rows="skip"))
    assert [row["example_id"] for row in rows] == ["second"]
    assert len(report.skipped) == 1


@pytest.mark.parametrize("file", [None, "hf://datasets/owner/name/a.tar"])
def test_images_outside_the_folder_need_permission(tmp_path, monkeypatch, tables, file):
    if file is not None:
        change_rows(tables, "images", lambda row: row | {"file": file, "member": "a.jpg", "position": [0, 1]})
    monkeypatch.chdir(tables)
    with pytest.raises(DatasetFormatError, match="such as '.*'. Set `allow_outside_images: true` if you trust the"):
        read(tables, ReadOptions())


def change_rows(tables, name: str, change) -> None:
    """Replace the rows of a table by those that `change` returns."""
    file = tables / name / "00000.parquet"
    table = pq.read_table(file)
    rows = [changed for row in table.to_pylist() if (changed := change(row)) is not None]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)


def change_schema(tables, name: str, change) -> None:
    file = tables / name / "00000.parquet"
    pq.write_table(change(pq.read_table(file)), file)


def set_version(table: pa.Table) -> pa.Table:
    entry = table.schema.metadata[b"sam_ft"].replace(b'"version": 1', b'"version": 2')
    return table.replace_schema_metadata({b"sam_ft": entry})


def set_phrases(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({b"sam_ft": table.schema.metadata[b"sam_ft"].replace(b"pear", b"plum")})


def set_null(table: pa.Table, name: str) -> pa.Table:
    column = pa.nulls(len(table), table.schema.field(name).type)
    return table.set_column(table.schema.get_field_index(name), pa.field(name, column.type), column)


DAMAGES = {
    "no images": (lambda t: shutil.rmtree(t / "images"), r"parquet: the folder contains no table `images/\*.parquet`"),
    "no detections": (lambda t: shutil.rmtree(t / "detections"), "contains no table `detections/"),
    "foreign": (
        lambda t: change_schema(t, "detections", lambda table: table.replace_schema_metadata({})),
        "detections/00000.parquet: the file is no part of the table `detections` of a prediction. Move it out",
    ),
    "exchanged": (
        lambda t: shutil.copy(t / "images/00000.parquet", t / "detections/00001.parquet"),
        "detections/00001.parquet: the file is no part of the table `detections`",
    ),
    "damaged": (
        lambda t: (t / "images/00000.parquet").write_bytes((t / "images/00000.parquet").read_bytes()[:-9]),
        "images/00000.parquet: the file cannot be read as parquet .*repeat the prediction",
    ),
    "version": (lambda t: change_schema(t, "images", set_version), "the table has version 2, but version 1 is read"),
    "phrases": (lambda t: change_schema(t, "images", set_phrases), "the files belong to predictions with different"),
    "column": (
        lambda t: change_schema(t, "detections", lambda table: table.drop_columns(["bbox", "score"])),
        "the columns score, bbox are missing or have another type",
    ),
    "other images": (
        lambda t: change_rows(t, "images", lambda row: row if row["image"] == "second" else None),
        "`detections` refers to 1 images that `images` does not list, the first with `image_id` 1",
    ),
    "twice": (
        lambda t: change_rows(t, "images", lambda row: row | {"image_id": 1}),
        "2 rows of `images` have 1 different `image_id`",
    ),
    "prompt": (
        lambda t: change_rows(t, "images", lambda row: row | {"phrases": ["fig"]}),
        "image 'first': `phrases` contains 'fig', which is no phrase of the prediction",
    ),
    "phrase": (
        lambda t: change_rows(t, "detections", lambda row: row | {"phrase": "fig"}),
        "image 'first', detection 0: the class 'fig' is not among the classes of the data set",
    ),
    "no rows": (
        lambda t: change_rows(t, "detections", lambda row: None),
        "no phrase has a single instance, so there is nothing to train on",
    ),
    "null": (
        lambda t: change_schema(t, "detections", lambda table: set_null(table, "phrase")),
        "detections/00000.parquet: `phrase` is null in a row; every row needs a value",
    ),
    "mask": (
        lambda t: change_rows(t, "detections", lambda row: row | {"segmentation": "abc"}),
        "image 'first', detection 0: .*RLE",
    ),
    "size": (
        lambda t: change_rows(t, "images", lambda row: row | {"height": 7}),
        f"image 'first': `width`×`height` is {WIDTH}×7, but the upright image .* is {WIDTH}×{HEIGHT}",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_tables_are_refused_with_their_file(tables, name):
    damage, message = DAMAGES[name]
    damage(tables)
    with pytest.raises(DatasetFormatError, match=message):
        read(tables)


def test_parquet_files_of_others_are_not_this_layout(tables):
    for name in ("detections", "images"):
        change_schema(tables, name, lambda table: table.replace_schema_metadata({b"sam_ft": b'{"format": "other"}'}))
    with pytest.raises(ValueError, match="which is of none of"):
        find_splits(tables)
