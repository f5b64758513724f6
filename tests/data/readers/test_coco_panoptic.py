"""Tests of the reader of COCO panoptic files."""

import json

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.readers.layouts import find_splits

from .dataset_trees import coco_panoptic
from .test_layouts import read
from .trees import HEIGHT, WIDTH, picture, write_json


FILE = "annotations/panoptic_train2017.json"
PNG = "annotations/panoptic_train2017/first.png"


@pytest.fixture
def change(tmp_path):
    """Write the two pictures, and return a function that changes the content of the panoptic file."""
    coco_panoptic(tmp_path)

    def change_content(edit):
        content = json.loads((tmp_path / FILE).read_text())
        edit(content)
        write_json(tmp_path / FILE, content)
        return tmp_path

    return change_content


def segments(content) -> list[dict]:
    return content["annotations"][0]["segments_info"]


def test_stuff_is_left_out_with_a_note(change):
    _, report = read(change(lambda content: None))
    assert set(report.positives) == {"apple", "pear"}
    assert "stuff has no objects, so 1 classes are left out: sky" in report.notes


def test_a_crowd_is_a_region_to_ignore(change):
    rows, report = read(change(lambda content: segments(content)[1].update(iscrowd=1)))
    assert report.num_crowds == 1
    assert [instance["is_crowd"] for instance in rows[0]["instances"]] == [True, False, False]


def test_splits_by_the_names_of_the_files(tmp_path):
    coco_panoptic(tmp_path)
    for path in (FILE, "annotations/panoptic_train2017", "train2017"):
        (tmp_path / path).rename(tmp_path / path.replace("train", "val"))
    coco_panoptic(tmp_path)
    layout, splits = find_splits(tmp_path)
    assert (layout, set(splits)) == ("coco_panoptic", {"train", "validation"})


def test_instance_files_come_before_panoptic_files(tmp_path):
    coco_panoptic(tmp_path)
    write_json(tmp_path / "annotations" / "instances_train2017.json", {"images": [], "annotations": []})
    assert find_splits(tmp_path)[0] == "coco"
    assert find_splits(tmp_path, "coco_panoptic")[0] == "coco_panoptic"


def test_images_without_segments_are_left_out(change):
    rows, report = read(change(lambda content: content["annotations"].pop()))
    assert [row["example_id"] for row in rows] == ["1"]
    assert "1 images have no entry in `annotations` and are left out" in report.notes


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: segments(c).pop(), r"segments that `segments_info` does not list: 210003"),
        (lambda c: segments(c)[1].update(id=5), "its `id` has no pixel in the PNG"),
        (lambda c: segments(c)[2].update(id=70_001), "its `id` is missing or occurs twice"),
        (lambda c: segments(c)[1].update(category_id=7), "`category_id` 7 is not among `categories`"),
        (lambda c: segments(c).append("x"), r"segments_info\[4\]: expected an object, found 'x'"),
        (lambda c: [k.update(isthing=0) for k in c["categories"]], "`categories` has no thing"),
        (lambda c: c["categories"].append(c["categories"][0]), "the category id 1 occurs more than once"),
        (lambda c: c["categories"][0].update(isthing="yes"), "`isthing` 0 or 1"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "`image_id` 1 occurs in several entries"),
        (lambda c: c["annotations"][0].update(image_id=9), "annotations refer to images that are not listed: 9"),
        (lambda c: c["images"][0].pop("id"), "`id` of an image is missing"),
        (lambda c: c.pop("annotations"), "`annotations` is None; a panoptic file contains a list of objects"),
        (lambda c: c["annotations"][0].pop("segments_info"), "`segments_info` is None"),
        (lambda c: c["annotations"][0].update(file_name="gone.png"), "the PNG of its segments cannot be used"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(change, edit, message):
    with pytest.raises(ValueError, match=message):
        read(change(edit))


def test_categories_without_isthing_are_things_with_a_note(change):
    folder = change(lambda content: content["categories"][0].pop("isthing"))
    assert "categories without `isthing` are read as things" in read(folder)[1].notes


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda file: picture(0).convert("L").save(file), "mode L, expected a PNG in RGB"),
        (lambda file: picture(0).save(file, "JPEG"), "it is a JPEG"),
        (lambda file: picture(0).resize((8, 6)).save(file), f"it has 8×6 px, its image {WIDTH}×{HEIGHT}"),
        (lambda file: file.write_bytes(b"x"), "cannot be read"),
    ],
)
def test_a_png_that_cannot_be_read_is_refused(change, save, message):
    folder = change(lambda content: None)
    save(folder / PNG)
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_png_files_that_are_not_unpacked_are_refused(change):
    folder = change(lambda content: None)
    (folder / "annotations" / "panoptic_train2017").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match=r"unpack panoptic_train2017.zip beside the file"):
        read(folder)


def test_a_png_outside_the_folder_is_refused(change, tmp_path_factory):
    folder = change(lambda content: None)
    place = tmp_path_factory.mktemp("outside")
    (folder / PNG).rename(place / "first.png")
    (folder / PNG).symlink_to(place / "first.png")
    with pytest.raises(ValueError, match="lies outside the data set"):
        read(folder)
    assert len(read(folder, allow_outside_images=True)[0]) == 2


def test_pixels_of_segment_zero_are_void(change):
    folder = change(lambda content: segments(content).pop(0))
    values = np.array(Image.open(folder / PNG))
    values[(values == [99, 0, 0]).all(axis=-1)] = 0
    Image.fromarray(values).save(folder / PNG)
    assert read(folder)[1].num_instances == 3
