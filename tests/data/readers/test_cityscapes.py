"""Tests of the reader of Cityscapes polygons."""

import numpy as np
import pytest

from sam_ft.data.readers.layouts import find_splits
from sam_ft.ops.masks import decode_mask

from .test_layouts import read
from .trees import HEIGHT, WIDTH, picture, write_json


def square(x: int, y: int, side: int = 9) -> list[list[int]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def entry(label: str, x: int, y: int, side: int = 9, **more) -> dict:
    return {"label": label, "polygon": square(x, y, side)} | more


def write(folder, *objects, name="a", split="train"):
    place = folder / "leftImg8bit" / split / "town"
    place.mkdir(parents=True, exist_ok=True)
    picture(0).save(place / f"{name}_leftImg8bit.png")
    content = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": list(objects)}
    return write_json(folder / "gtFine" / split / "town" / f"{name}_gtFine_polygons.json", content)


def masks(folder) -> dict[str, list[np.ndarray]]:
    row = read(folder)[0][0]
    decoded = [decode_mask(i["segmentation"], HEIGHT, WIDTH) for i in row["instances"]]
    return {phrase["text"]: [decoded[i] for i in phrase["instances"]] for phrase in row["phrases"]}


def test_later_polygons_cover_earlier_ones(tmp_path):
    """Stuff and void cover objects too; `license plate` and deleted objects are not painted."""
    write(
        tmp_path,
        entry("car", 0, 0),
        entry("person", 5, 0),
        entry("static", 0, 5, 4),
        entry("pole", 12, 0, 3),
        entry("license plate", 0, 0, 3),
        entry("bus", 0, 0, 20, deleted=1),
    )
    car, person = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    car[:10, :5] = True
    car[5:10, :5] = False
    person[:10, 5:15] = True
    person[:4, 12:15] = False
    received = masks(tmp_path)
    assert list(received) == ["car", "person"]
    assert np.array_equal(received["car"][0], car)
    assert np.array_equal(received["person"][0], person)


def test_groups_are_regions_to_ignore(tmp_path):
    write(tmp_path, entry("cargroup", 0, 0), entry("car", 20, 10), entry("polegroup", 10, 0))
    rows, report = read(tmp_path)
    assert [instance["is_crowd"] for instance in rows[0]["instances"]] == [True, False]
    assert list(report.positives) == ["car"]


def test_stuff_and_void_are_no_phrases(tmp_path):
    write(tmp_path, entry("road", 0, 0), entry("out of roi", 9, 9), entry("car", 20, 10), entry("pothole", 5, 15))
    report = read(tmp_path)[1]
    assert set(report.positives) == {"car", "pothole"}
    assert "stuff has no objects, so 1 classes are left out: road" in report.notes


def test_the_classes_are_a_closed_vocabulary(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    write(tmp_path, entry("person", 0, 0), name="b")
    rows, _ = read(tmp_path)
    absent = [[phrase["text"] for phrase in row["phrases"] if not phrase["instances"]] for row in rows]
    assert absent == [["person"], ["car"]]


def test_no_class_is_absent_in_an_image_with_void_labels_only(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    write(tmp_path, entry("ego vehicle", 0, 0), name="b")
    rows, report = read(tmp_path)
    assert rows[1]["phrases"] == []
    assert report.remark_counts["image without labels"] == 1


def test_a_split_whose_polygons_are_not_public_is_left_out(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    write(tmp_path, entry("out of roi", 0, 0), split="test")
    assert set(find_splits(tmp_path)[1]) == {"train"}
    assert "the split 'test' has void labels only and is left out" in read(tmp_path)[1].notes


def test_a_split_of_images_without_objects_is_read(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    write(tmp_path, split="val")
    assert set(find_splits(tmp_path)[1]) == {"train", "validation"}


def test_images_without_polygons_are_noted(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    picture(1).save(tmp_path / "leftImg8bit" / "train" / "town" / "b_leftImg8bit.png")
    assert any("1 images have no polygons and are left out" in note for note in read(tmp_path)[1].notes)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (["x"], r"objects\[0\]: `label` is missing in 'x'"),
        ([{"label": "car", "polygon": [[0, 0], [1, 1]]}], "`polygon` has 2 points, it needs at least 3"),
        ([{"label": "road", "polygon": [[0, 0]]}], "`polygon` has 1 points, it needs at least 2"),
        ([{"label": "car", "polygon": [[0, 0], [1, "x"], [2, 2]]}], r"expected \[\[x, y\], …\]"),
        ([{"label": "car", "polygon": [[0, 0], [1e9, 0], [2, 2]]}], "its numbers must be finite, in px"),
    ],
)
def test_an_object_that_cannot_be_read_is_refused(tmp_path, objects, message):
    write(tmp_path, entry("car", 20, 10, name="kept"))
    write(tmp_path, *objects, name="b")
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"imgWidth": None}, "expected whole numbers"), ({"imgWidth": 99}, "99×30, but"), ({"objects": 1}, "`objects`")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, change, message):
    file = write(tmp_path, entry("car", 0, 0))
    content = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": [entry("car", 0, 0)]}
    write_json(file, content | change)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_missing_image_is_refused(tmp_path):
    write(tmp_path, entry("car", 0, 0))
    (tmp_path / "leftImg8bit" / "train" / "town" / "a_leftImg8bit.png").unlink()
    with pytest.raises(ValueError, match=r"the image 'a_leftImg8bit.png' is missing"):
        read(tmp_path)
