"""Tests of the reader of Datumaro files."""

import json

import pytest

from sam_ft.data.readers.layouts import find_splits
from sam_ft.ops.masks import decode_mask, polygons_to_counts

from .test_layouts import read
from .trees import HEIGHT, WIDTH, save_pictures, write_json


SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]


def polygon(label_id: int = 0, points=SQUARE, **more) -> dict:
    return {"type": "polygon", "label_id": label_id, "points": points, "group": 0, "attributes": {}} | more


def write(folder, *annotations, subset="train", **item):
    save_pictures(folder / "images" / subset)
    item = {"id": "first", "annotations": list(annotations), "image": {"path": "first.png"}} | item
    labels = [{"name": name} for name in ("apple", "pear")]
    content = {"infos": {}, "categories": {"label": {"labels": labels}}, "items": [item]}
    return write_json(folder / "annotations" / f"{subset}.json", content)


def instances(folder) -> list[tuple[float, list[float]]]:
    row = read(folder)[0][0]
    assert (row["width"], row["height"]) == (WIDTH, HEIGHT)
    return [(instance["area"], instance["bbox"]) for instance in row["instances"]]


def test_annotations_of_one_group_and_class_are_one_object(tmp_path):
    box = polygon(type="bbox", bbox=[2, 2, 28, 10], group=1)
    parts = [polygon(group=1), polygon(points=[20, 2, 30, 2, 30, 12, 20, 12], group=1)]
    write(tmp_path, box, *parts, polygon(1, group=1), polygon(group=2))
    assert sorted(instances(tmp_path)) == [(100, [2, 2, 10, 10]), (100, [2, 2, 10, 10]), (200, [2, 2, 28, 10])]


def test_masks_in_one_group_are_refused(tmp_path):
    rle = {"counts": polygons_to_counts([SQUARE], HEIGHT, WIDTH), "size": [HEIGHT, WIDTH]}
    write(tmp_path, polygon(type="mask", rle=rle, group=1), polygon(group=1))
    with pytest.raises(ValueError, match=r"its group has 2 masks and polygons.*`merge_instance_segments`"):
        read(tmp_path)


def test_boxes_and_ellipses(tmp_path):
    write(tmp_path, polygon(type="bbox", bbox=[2, 2, 10, 5]), polygon(type="ellipse", points=[20, 4, 36, 20]))
    box, (area, ellipse_box) = instances(tmp_path)
    assert box == (50, [2, 2, 10, 5])
    assert ellipse_box == [20, 4, 16, 16]
    assert area == pytest.approx(3.14159 * 64, rel=0.05)


def test_points_and_lines_have_no_area(tmp_path):
    write(tmp_path, polygon(), polygon(1, type="points"), polygon(1, type="polyline"))
    rows, report = read(tmp_path)
    assert [phrase["text"] for phrase in rows[0]["phrases"]] == ["apple"]
    assert report.remark_counts["annotation without an area"] == 2


def test_a_class_that_an_image_is_tagged_with_is_not_absent(tmp_path):
    write(tmp_path, polygon(0), {"type": "label", "label_id": 1, "group": 0})
    rows, report = read(tmp_path)
    assert [phrase["text"] for phrase in rows[0]["phrases"]] == ["apple"]
    assert any("'label' are about a whole image" in note for note in report.notes)


def test_attributes_and_crowds(tmp_path):
    write(tmp_path, polygon(attributes={"is_crowd": True}), polygon(points=[20, 2, 30, 2, 30, 12]))
    assert [instance["is_crowd"] for instance in read(tmp_path)[0][0]["instances"]] == [True, False]


def test_the_size_of_an_item_is_height_and_width(tmp_path):
    write(tmp_path, polygon(), image={"path": "first.png", "size": [HEIGHT, WIDTH]})
    assert len(instances(tmp_path)) == 1
    write(tmp_path, polygon(), image={"path": "first.png", "size": [WIDTH, HEIGHT]})
    with pytest.raises(ValueError, match=f"{HEIGHT}×{WIDTH}, but the upright image"):
        read(tmp_path)


@pytest.mark.parametrize("image", [{"path": ""}, {"path": "train/first.png"}, {"path": "/home/me/first.png"}])
def test_images_are_found_by_path_name_or_id(tmp_path, image):
    write(tmp_path, polygon(), image=image)
    assert len(instances(tmp_path)) == 1


def test_subsets_are_splits(tmp_path):
    write(tmp_path, polygon(), subset="default")
    write(tmp_path, polygon(), subset="val")
    assert set(find_splits(tmp_path)[1]) == {"train", "validation"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_id": 2}, "`label_id` is 2; expected the number of one of 2 labels, from 0"),
        ({"label_id": None}, "`label_id` is None"),
        ({"type": "cuboid_3d"}, "its `type` is 'cuboid_3d'; expected polygon, mask, bbox or ellipse"),
        ({"type": "bbox", "bbox": [1, 2, 3, 4], "attributes": {"rotation": 30.0}}, "rotated by 30.0 degrees"),
        ({"type": "mask", "rle": [1]}, "`rle` is no object"),
        ({"points": [0, 0, "x"]}, "could not convert"),
        ({"points": None}, "cannot be read"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_refused(tmp_path, change, message):
    write(tmp_path, polygon() | change)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("items", {}, "`items` is {}; a Datumaro file contains a list"),
        ("categories", {"label": {"labels": []}}, "`categories.label.labels`"),
        ("categories", {"mask": {}}, "`categories.label.labels` is None"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, key, value, message):
    file = write(tmp_path, polygon())
    write_json(file, json.loads(file.read_text()) | {key: value})
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_mask_is_read_in_its_size(tmp_path):
    rle = {"counts": polygons_to_counts([SQUARE], HEIGHT, WIDTH), "size": [HEIGHT, WIDTH]}
    write(tmp_path, polygon(type="mask", rle=rle))
    mask = decode_mask(read(tmp_path)[0][0]["instances"][0]["segmentation"], HEIGHT, WIDTH)
    assert mask[2:12, 2:12].all()
    assert mask.sum() == 100
