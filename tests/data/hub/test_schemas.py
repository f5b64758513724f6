"""Schemas of the Hub, from parquet folders as `datasets` and others write them, to rows."""

import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from sam_ft.data.hub.source import HubSource
from sam_ft.data.load import DatasetOptions, find_phrase_splits
from sam_ft.data.readers.records import ReadOptions
from sam_ft.data.sources import read_splits
from sam_ft.data.writers import write_rows
from sam_ft.ops.masks import polygons_to_counts

from ..readers.test_layouts import content
from ..readers.trees import HEIGHT, NAMES, PICTURES, THINGS, WIDTH, picture


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


IMAGES = [picture(seed) for seed in range(len(PICTURES))]
CLOSED = {("first", name): (sorted(t.mask.tobytes() for t in THINGS if t.label == name), True) for name in NAMES}
CLOSED |= {("second", name): ([], True) for name in NAMES}


def read(folder, hub=None, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder), hub=hub or HubSource()))
    return next(iter(read_splits(splits, ReadOptions(**options)).values()))


def save(folder, columns: dict, features: Features | None = None):
    (folder / "data").mkdir(parents=True)
    Dataset.from_dict(columns, features=features).to_parquet(folder / "data" / "train-00000.parquet")
    return folder


def objects(labels, **more) -> dict:
    return {
        "bbox": [[[1, 1, 5, 5] for _ in things] for things in PICTURES.values()],
        "segmentation": [[t.parts for t in things] for things in PICTURES.values()],
        "category": [[labels(t) for t in things] for things in PICTURES.values()],
    } | more


def as_rows(columns: dict) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


POLYGONS = List(List(List(Value("float32"))))
BOXES = List(List(Value("float32"), length=4))


def test_objects_with_polygons(tmp_path):
    features = Features(
        {
            "image": Image(),
            "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(ClassLabel(names=NAMES))},
        }
    )
    columns = {"image": IMAGES, "objects": as_rows(objects(lambda t: NAMES.index(t.label)))}
    rows, report = read(save(tmp_path / "data", columns, features))
    assert content(rows) == CLOSED
    assert any("objects with polygons or RLE" in note and "objects.category" in note for note in report.notes)


def test_objects_as_a_list_of_structs(tmp_path):
    listed = [as_rows(o) for o in as_rows(objects(lambda t: t.label))]
    assert content(read(save(tmp_path / "data", {"image": IMAGES, "objects": listed}))[0]) == CLOSED


def test_classes_that_are_numbers_need_names(tmp_path):
    folder = save(tmp_path / "data", {"image": IMAGES, "objects": as_rows(objects(lambda t: NAMES.index(t.label)))})
    with pytest.raises(ValueError, match=r"the classes of .* are numbers \(0, 1\).*`class_names"):
        read(folder)
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    assert content(read(folder)[0]) == CLOSED
    other = tmp_path / "names.txt"
    other.write_text("fig\ndate\n")
    assert ("first", "fig") in content(read(folder, class_names=str(other))[0])


def test_one_row_a_phrase_is_gathered_by_image(tmp_path):
    rows = [
        {
            "image": IMAGES[i],
            "caption": text,
            "mask": [t.mask.astype(np.uint8) * 255 for t in things if t.label == text],
        }
        for i, things in enumerate(PICTURES.values())
        for text in (*NAMES, "plum")
    ]
    features = Features({"image": Image(), "caption": Value("string"), "mask": List(Image())})
    found = content(read(save(tmp_path / "data", {k: [row[k] for row in rows] for k in features}, features))[0])
    assert found == CLOSED | {("first", "plum"): ([], True), ("second", "plum"): ([], True)}


def test_rle_columns(tmp_path):
    rles = [
        [{"size": [HEIGHT, WIDTH], "counts": polygons_to_counts(t.parts, HEIGHT, WIDTH)} for t in things]
        for things in PICTURES.values()
    ]
    labels = [[t.label for t in things] for things in PICTURES.values()]
    features = Features(
        {
            "image": Image(),
            "rles": List({"size": List(Value("int64")), "counts": Value("string")}),
            "labels": List(Value("string")),
        }
    )
    assert (
        content(read(save(tmp_path / "data", {"image": IMAGES, "rles": rles, "labels": labels}, features))[0])
        == CLOSED
    )


def test_lists_of_mask_images(tmp_path):
    masks = [[t.mask.astype(np.uint8) * 255 for t in things] for things in PICTURES.values()]
    labels = [[t.label for t in things] for things in PICTURES.values()]
    features = Features({"image": Image(), "masks": List(Image()), "labels": List(Value("string"))})
    assert (
        content(read(save(tmp_path / "data", {"image": IMAGES, "masks": masks, "labels": labels}, features))[0])
        == CLOSED
    )


def numbers(value, channels: int = 1) -> list[np.ndarray]:
    maps = []
    for things in PICTURES.values():
        values = np.zeros((HEIGHT, WIDTH, channels), dtype=np.uint8)
        for i, t in enumerate(things, 1):
            values[t.mask] = value(i, t)
        maps.append(values if channels > 1 else values[..., 0])
    return maps


def test_class_in_red_and_object_in_green(tmp_path):
    maps = numbers(lambda i, t: (1 + NAMES.index(t.label), i, 0), 3)
    ids = [{"background": 0, **{name: 1 + i for i, name in enumerate(NAMES)}}] * 2
    features = Features(
        {
            "image": Image(),
            "annotation": Image(),
            "semantic_class_to_id": {n: Value("int64") for n in ("background", *NAMES)},
        }
    )
    columns = {"image": IMAGES, "annotation": maps, "semantic_class_to_id": ids}
    assert content(read(save(tmp_path / "data", columns, features))[0]) == CLOSED


def test_panoptic_segments(tmp_path):
    maps = numbers(lambda i, t: (7, i, 0), 3)
    segments = [
        [{"id": 7 + 256 * i, "category_id": NAMES.index(t.label)} for i, t in enumerate(things, 1)]
        for things in PICTURES.values()
    ]
    features = Features(
        {
            "image": Image(),
            "label": Image(),
            "segments_info": List({"id": Value("int64"), "category_id": Value("int64")}),
        }
    )
    folder = save(tmp_path / "data", {"image": IMAGES, "label": maps, "segments_info": segments}, features)
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    assert content(read(folder)[0]) == CLOSED


def test_class_maps_need_the_users_word(tmp_path):
    features = Features({"pixel_values": Image(), "label": Image()})
    maps = numbers(lambda i, t: 1 + NAMES.index(t.label))
    folder = save(tmp_path / "data", {"pixel_values": IMAGES, "label": maps}, features)
    (folder / "id2label.json").write_text(json.dumps({str(i): name for i, name in enumerate(NAMES, 1)}))
    with pytest.raises(ValueError, match=r"`mask_values: instances`.*`components`"):
        read(folder)
    found = content(read(folder, mask_values="classes")[0])
    assert len(found["first", "apple"][0]) == 1
    assert found["second", "apple"] == ([], True)
    parts = content(read(folder, mask_values="components")[0])
    assert len(parts["first", "apple"][0]) == 3  # the second apple is drawn in two parts


def test_parquet_that_datasets_has_not_written(tmp_path):
    import io

    def content_of(image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    (tmp_path / "data").mkdir()
    table = pa.table(
        {
            "image": [content_of(image) for image in IMAGES],
            "label_names": [[t.label for t in things] for things in PICTURES.values()],
            "segmentation": [[t.parts for t in things] for things in PICTURES.values()],
        }
    )
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    assert content(read(tmp_path / "data")[0]) == CLOSED


def test_own_rows_come_back_as_they_were_written(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"segmentation": POLYGONS, "category": List(ClassLabel(names=NAMES))}}
    )
    listed = objects(lambda t: NAMES.index(t.label))
    del listed["bbox"]
    rows, _ = read(save(tmp_path / "data", {"image": IMAGES, "objects": as_rows(listed)}, features))
    write_rows({"train": rows}, tmp_path / "written", "a test")
    again, _ = read(tmp_path / "written")
    assert content(again) == content(rows)
    card = (tmp_path / "written" / "README.md").read_text()
    assert "| train | 2 | 3 | 2 | 2 |" in card


def test_columns_can_be_told(tmp_path):
    masks = [[t.mask.astype(np.uint8) * 255 for t in things] for things in PICTURES.values()]
    labels = [[t.label for t in things] for things in PICTURES.values()]
    features = Features({"foto": Image(), "shadows": List(Image()), "words": List(Value("string"))})
    folder = save(tmp_path / "data", {"foto": IMAGES, "shadows": masks, "words": labels}, features)
    with pytest.raises(ValueError, match=r"no masks.*column_mapping"):
        read(folder)
    mapping = {"masks": "shadows", "labels": "words"}
    assert content(read(folder, HubSource(column_mapping=mapping))[0]) == CLOSED
    with pytest.raises(ValueError, match="names the column 'shadow'"):
        read(folder, HubSource(column_mapping={"masks": "shadow"}))
    with pytest.raises(ValueError, match="names the role 'mask'"):
        read(folder, HubSource(column_mapping={"mask": "shadows"}))


def test_boxes_alone_are_refused(tmp_path):
    features = Features({"image": Image(), "objects": {"bbox": BOXES, "category": List(ClassLabel(names=NAMES))}})
    listed = objects(lambda t: NAMES.index(t.label))
    del listed["segmentation"]
    with pytest.raises(ValueError, match="boxes only, and masks are what is trained"):
        read(save(tmp_path / "data", {"image": IMAGES, "objects": as_rows(listed)}, features))


def test_a_script_is_refused_with_the_way_out(tmp_path):
    folder = tmp_path / "pcb"
    folder.mkdir()
    (folder / "pcb.py").write_text("import datasets\n")
    (folder / "x.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a script|cannot be read"):
        read(folder)


def test_a_bad_row_is_named_or_left_out(tmp_path):
    listed = as_rows(objects(lambda t: t.label))
    listed[0]["segmentation"][1] = [[1.0, 2.0, 3.0]]
    folder = save(
        tmp_path / "data",
        {"image": [*IMAGES, IMAGES[0]], "objects": [*listed, as_rows(objects(lambda t: t.label))[0]]},
    )
    with pytest.raises(ValueError, match=r"row 0, object 1: polygon part 0 has an odd number"):
        read(folder)
    rows, report = read(folder, on_bad_rows="skip")
    assert len(rows) == 2
    assert len(report.skipped) == 1


def test_what_was_converted_is_not_converted_again(tmp_path, monkeypatch):
    folder = save(tmp_path / "data", {"image": IMAGES, "objects": as_rows(objects(lambda t: t.label))})
    first = content(read(folder)[0])

    def refuse(self, *indices):
        raise AssertionError("the row was made once already")

    monkeypatch.setattr("sam_ft.data.hub.convert.Converter.row", refuse)
    assert content(read(folder)[0]) == first
    with pytest.raises(AssertionError, match="made once already"):
        read(folder, class_name="thing")  # other settings, other rows


def test_an_evaluation_beside_a_stream_is_read_whole(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))}}
    )
    save(tmp_path, {"image": IMAGES, "objects": as_rows(objects(lambda t: t.label))}, features)
    streamed, _ = read(tmp_path, HubSource(streaming=True))
    assert content(streamed) == CLOSED


def test_a_caption_beside_objects_is_not_their_phrase(tmp_path):
    features = Features(
        {
            "image": Image(),
            "caption": Value("string"),
            "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))},
        }
    )
    rows = as_rows(objects(lambda t: t.label))
    save(tmp_path, {"image": IMAGES, "caption": ["a table"] * len(IMAGES), "objects": rows}, features)
    assert content(read(tmp_path)[0]) == CLOSED
    unset = HubSource(column_mapping={"labels": None, "phrase": "caption"})
    assert {phrase for _, phrase in content(read(tmp_path, unset)[0])} == {"a table"}


def test_columns_of_other_lengths_are_refused(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))}}
    )
    rows = as_rows(objects(lambda t: t.label))
    rows[0]["segmentation"] = rows[0]["segmentation"][:1]
    save(tmp_path, {"image": IMAGES, "objects": rows}, features)
    with pytest.raises(ValueError, match="row 0: the columns differ in length: segmentation 1, boxes"):
        read(tmp_path)


def test_numbers_in_masks_are_never_guessed(tmp_path):
    features = Features({"image": Image(), "mask": Image(), "labels": List(ClassLabel(names=["apple", "pear"]))})
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in IMAGES]
    save(tmp_path, {"image": IMAGES, "mask": masks, "labels": [[0]] * len(IMAGES)}, features)
    with pytest.raises(ValueError, match="Say what its numbers are: `mask_values: instances`"):
        read(tmp_path)


def test_a_mask_may_be_drawn_in_any_colour(tmp_path):
    """Green on black, as label tools draw it; its soft edge is cut at half."""
    features = Features({"image": Image(), "phrase": Value("string"), "mask": Image()})
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn[4:10, 4:12, 1], drawn[4:10, 12, 1] = 255, 60
    save(tmp_path, {"image": IMAGES[:1], "phrase": ["apple"], "mask": [drawn]}, features)
    (row,) = read(tmp_path)[0]
    assert row["instances"][0]["bbox"] == [4, 4, 8, 6]
    assert row["instances"][0]["area"] == 48


def test_shards_whose_names_hold_dots(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.1.json", "a.2.json"):
            (tmp_path / "one").write_text("{}")
            tar.add(tmp_path / "one", name)
    with pytest.raises(ValueError, match="a.1.json and a.2.json are one sample to WebDataset"):
        read(tmp_path)
    (tmp_path / "0.tar").write_bytes(b"damaged" * 200)
    with pytest.raises(ValueError, match="0.tar cannot be read"):
        read(tmp_path)
