"""Tests of the schemas of Hub data sets, in folders of parquet files, imagefolder and WebDataset."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from datasets import ClassLabel, Features, Image, List, Value

from sam_ft.data.lazy_rows import LazyRows
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.data.writers.conversion import write_rows
from sam_ft.options.data import DatasetOptions, HubSource, ReadOptions

from ..readers.test_layouts import content
from ..readers.trees import DRAWN_OBJECTS, HEIGHT, NAMES, PICTURES, WIDTH
from ..test_lazy import plain
from .made import BOXES, CLOSED, IMAGES, MADE, POLYGONS, objects, save


@pytest.fixture(autouse=True)
def _isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def read(folder, hub=None, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder), hub=hub or HubSource()))
    return next(iter(read_splits(splits, ReadOptions(**options)).values()))


def expected(name: str) -> dict:
    """Return the result of [`content`] for the two pictures in a schema."""
    if name == "web_dataset":  # SA-1B has no classes, and other objects may be unlabelled.
        return {
            ("first", "apple"): (sorted(t.mask.tobytes() for t in DRAWN_OBJECTS), False),
            ("second", "apple"): ([], True),
        }
    if name == "class_maps":  # Each connected part is an object.
        parts = [(t.label, replace(t, parts=[part]).mask.tobytes()) for t in DRAWN_OBJECTS for part in t.parts]
        return CLOSED | {("first", n): (sorted(m for label, m in parts if label == n), True) for n in NAMES}
    if (
        name == "panoptic"
    ):  # Stuff of the first picture is neither present nor absent there; it is absent in the second.
        return CLOSED | {("second", "table"): ([], True)}
    return CLOSED


@pytest.mark.parametrize("name", MADE)
def test_a_schema_is_detected_and_its_masks_are_read(tmp_path, name):
    options = MADE[name](tmp_path / "data")
    rows, report = read(tmp_path / "data", **options)
    assert content(rows) == expected(name)
    assert any(note.startswith("detected schema: ") for note in report.notes)
    for row, image in zip(rows, IMAGES, strict=True):
        assert np.array_equal(np.asarray(row["image"].convert("RGB")), np.asarray(image))


@pytest.mark.parametrize("name", MADE)
def test_a_stream_equals_the_complete_conversion(tmp_path, name):
    options = MADE[name](tmp_path / "data")
    whole, _ = read(tmp_path / "data", **options)
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path / "data"), hub=HubSource(streaming=True)))
    stream, _ = read_splits(splits, ReadOptions(**options), lazy=("train",))["train"]
    assert isinstance(stream, LazyRows)
    assert [plain(row) for row in whole] == [plain(row) for row in stream]


def test_the_report_contains_the_detected_schema(tmp_path):
    MADE["polygons"](tmp_path)
    _, report = read(tmp_path)
    assert any("objects with polygons or RLE" in note and "objects.category" in note for note in report.notes)


def stream_of(folder):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder), hub=HubSource(streaming=True)))
    return read_splits(splits, ReadOptions(), lazy=("train",))["train"]


def test_rows_with_equal_image_names_and_different_images_are_refused(tmp_path):
    """A stream groups the rows of an image by its name, without fetching its bytes."""
    MADE["phrase_rows"](tmp_path, ("same", "same"), row_group=4)
    stream, _ = stream_of(tmp_path)
    with pytest.raises(ValueError, match=r"row 2: its image has the same name as that of row 0, but other bytes"):
        stream[0]


def test_rows_that_are_far_apart_are_not_grouped(tmp_path):
    """Grouping would fetch the row groups repeatedly."""
    MADE["phrase_rows"](tmp_path, ("same", "same"), row_group=1)
    stream, report = stream_of(tmp_path)
    assert len(stream) == 4
    assert any("each phrase of an image is a separate row" in note for note in report.notes)


def test_open_noun_phrases_are_not_exhaustive(tmp_path):
    MADE["phrase_rows"](tmp_path)
    rows, _ = read(tmp_path, noun_phrases="open")
    assert not any(phrase["exhaustive"] for row in rows for phrase in row["phrases"] if phrase["instances"])


def test_classes_that_are_numbers_need_names(tmp_path):
    folder = save(tmp_path / "data", {"image": IMAGES, "objects": objects(lambda t: NAMES.index(t.label))})
    with pytest.raises(ValueError, match=r"the classes of .* are numbers \(0, 1\).*`class_names"):
        read(folder)
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    assert content(read(folder)[0]) == CLOSED
    other = tmp_path / "names.txt"
    other.write_text("fig\ndate\n")
    assert ("first", "fig") in content(read(folder, class_names=str(other))[0])


def test_class_maps_need_mask_values(tmp_path):
    MADE["class_maps"](tmp_path / "data")
    with pytest.raises(ValueError, match=r"`mask_values: instances`.*`components`"):
        read(tmp_path / "data")
    masks = content(read(tmp_path / "data", mask_values="classes")[0])
    assert len(masks["first", "apple"][0]) == 1
    assert masks["second", "apple"] == ([], True)


def test_class_names_of_maps_of_objects(tmp_path):
    MADE["class_maps"](tmp_path / "data")
    names = tmp_path / "names.txt"
    names.write_text("background\napple\n")
    masks = content(read(tmp_path / "data", mask_values="instances", class_names=str(names))[0])
    assert {key: len(found) for key, (found, _) in masks.items()} == {("first", "apple"): 2, ("second", "apple"): 0}
    names.write_text("apple\npear\n")
    with pytest.raises(ValueError, match="`class_names` contains 2 classes, but with `mask_values: instances`"):
        read(tmp_path / "data", mask_values="instances", class_names=str(names))
    with pytest.raises(ValueError, match="the mask images have no class names"):
        read(tmp_path / "data", mask_values="instances")


def test_background_of_class_maps_is_no_phrase(tmp_path):
    MADE["class_maps"](tmp_path)
    (tmp_path / "id2label.json").write_text(json.dumps({"0": "background"} | dict(enumerate(NAMES, 1))))
    assert content(read(tmp_path, mask_values="components")[0]).keys() == {
        (picture, name) for picture in ("first", "second") for name in NAMES
    }


def test_finished_rows_are_read_as_they_were_written(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"segmentation": POLYGONS, "category": List(ClassLabel(names=NAMES))}}
    )
    boxless = [{k: v for k, v in row.items() if k != "bbox"} for row in objects(lambda t: NAMES.index(t.label))]
    rows, _ = read(save(tmp_path / "data", {"image": IMAGES, "objects": boxless}, features))
    write_rows({"train": rows}, tmp_path / "written", "a test")
    again, _ = read(tmp_path / "written")
    assert content(again) == content(rows)
    card = (tmp_path / "written" / "README.md").read_text()
    assert "| train | 2 | 3 | 2 | 2 |" in card


def test_invalid_finished_rows_are_left_out(tmp_path):
    MADE["polygons"](tmp_path / "data")
    rows, _ = read(tmp_path / "data")
    twice = rows.select([0, 1, 0])
    write_rows({"train": twice}, tmp_path / "written", "a test")
    with pytest.raises(ValueError, match="row 2 has the `example_id` of another"):
        read(tmp_path / "written")
    again, report = read(tmp_path / "written", on_bad_rows="skip")
    assert content(again) == content(rows)
    assert len(report.skipped) == 1


def test_column_mapping_sets_the_columns(tmp_path):
    masks = [[t.mask.astype(np.uint8) * 255 for t in drawn_objects] for drawn_objects in PICTURES.values()]
    labels = [[t.label for t in drawn_objects] for drawn_objects in PICTURES.values()]
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


def test_data_with_only_boxes_are_refused(tmp_path):
    features = Features({"image": Image(), "objects": {"bbox": BOXES, "category": List(ClassLabel(names=NAMES))}})
    boxes = [{k: v for k, v in row.items() if k != "segmentation"} for row in objects(lambda t: NAMES.index(t.label))]
    with pytest.raises(ValueError, match="boxes only, but training needs masks"):
        read(save(tmp_path / "data", {"image": IMAGES, "objects": boxes}, features))


def test_a_script_is_refused(tmp_path):
    folder = tmp_path / "pcb"
    folder.mkdir()
    (folder / "pcb.py").write_text("import datasets\n")
    (folder / "x.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a script|cannot be read"):
        read(folder)


def test_an_invalid_annotation_is_reported_or_left_out(tmp_path):
    column = objects(lambda t: t.label)
    column[0]["segmentation"][1] = [[1.0, 2.0, 3.0]]
    folder = save(
        tmp_path / "data",
        {"image": [*IMAGES, IMAGES[0]], "objects": [*column, objects(lambda t: t.label)[0]]},
    )
    with pytest.raises(ValueError, match=r"row 0, object 1: polygon part 0 has an odd number"):
        read(folder)
    for _ in range(2):  # The second result is read from the cache.
        rows, report = read(folder, on_bad_rows="skip")
        assert [len(row["instances"]) for row in rows] == [2, 0, 3]
        assert [phrase["exhaustive"] for phrase in rows[0]["phrases"]] == [False, True]
        assert len(report.dropped) == 1


def test_converted_rows_are_cached(tmp_path, monkeypatch):
    folder = save(tmp_path / "data", {"image": IMAGES, "objects": objects(lambda t: t.label)})
    first = content(read(folder)[0])

    def refuse(self, *indices):
        raise AssertionError("the row is in the cache")

    monkeypatch.setattr("sam_ft.data.hub.convert.Converter.row", refuse)
    assert content(read(folder)[0]) == first
    with pytest.raises(AssertionError, match="in the cache"):
        read(folder, class_name="thing")  # Other options convert the rows again.


def test_validation_rows_of_a_stream_are_converted(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))}}
    )
    save(tmp_path, {"image": IMAGES, "objects": objects(lambda t: t.label)}, features)
    streamed, _ = read(tmp_path, HubSource(streaming=True))
    assert content(streamed) == CLOSED


def test_a_caption_is_not_the_phrase_of_labelled_objects(tmp_path):
    features = Features(
        {
            "image": Image(),
            "caption": Value("string"),
            "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))},
        }
    )
    rows = objects(lambda t: t.label)
    save(tmp_path, {"image": IMAGES, "caption": ["a table"] * len(IMAGES), "objects": rows}, features)
    assert content(read(tmp_path)[0]) == CLOSED
    unset = HubSource(column_mapping={"labels": None, "phrase": "caption"})
    assert {phrase for _, phrase in content(read(tmp_path, unset)[0])} == {"a table"}


def test_columns_of_different_lengths_are_refused(tmp_path):
    features = Features(
        {"image": Image(), "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(Value("string"))}}
    )
    rows = objects(lambda t: t.label)
    rows[0]["segmentation"] = rows[0]["segmentation"][:1]
    save(tmp_path, {"image": IMAGES, "objects": rows}, features)
    with pytest.raises(ValueError, match="row 0: the columns differ in length: segmentation 1, boxes"):
        read(tmp_path)


def test_mask_values_are_required(tmp_path):
    features = Features({"image": Image(), "mask": Image(), "labels": List(ClassLabel(names=["apple", "pear"]))})
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in IMAGES]
    save(tmp_path, {"image": IMAGES, "mask": masks, "labels": [[0]] * len(IMAGES)}, features)
    with pytest.raises(ValueError, match="Set the meaning of its pixel values: `mask_values: instances`"):
        read(tmp_path)


def test_a_mask_can_have_any_color(tmp_path):
    """A mask in green on black is thresholded at half of its maximum."""
    features = Features({"image": Image(), "phrase": Value("string"), "mask": Image()})
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn[4:10, 4:12, 1], drawn[4:10, 12, 1] = 255, 60
    save(tmp_path, {"image": IMAGES[:1], "phrase": ["apple"], "mask": [drawn]}, features)
    (row,) = read(tmp_path)[0]
    assert row["instances"][0]["bbox"] == [4, 4, 8, 6]
    assert row["instances"][0]["area"] == 48


def test_shards_with_dots_in_names_are_refused(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.1.json", "a.2.json"):
            (tmp_path / "one").write_text("{}")
            tar.add(tmp_path / "one", name)
    with pytest.raises(ValueError, match="a.1.json and a.2.json are one sample to WebDataset"):
        read(tmp_path)
    (tmp_path / "0.tar").write_bytes(b"damaged" * 200)
    with pytest.raises(ValueError, match="0.tar cannot be read"):
        read(tmp_path)
