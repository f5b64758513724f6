"""Tests of the reader of Label Studio exports and of its brush encoding."""

import numpy as np
import pytest

from sam_ft.data.readers.brush_rle import decode_brush_rle, encode_brush_rle
from sam_ft.data.readers.layouts import find_splits
from sam_ft.ops.masks import decode_mask

from .dataset_trees import label_studio
from .test_layouts import read
from .trees import HEIGHT, WIDTH, picture, save_pictures, write_json


SQUARE = [[10, 10], [50, 10], [50, 50], [10, 50]]  # percent


def polygon(label="apple", **more) -> dict:
    result = {"type": "polygonlabels", "value": {"points": SQUARE, "polygonlabels": [label]}, "to_name": "image"}
    return result | {"original_width": WIDTH, "original_height": HEIGHT} | more


def task(*results, image="first.png", **more) -> dict:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results)}]} | more


def write(folder, *tasks):
    save_pictures(folder)
    return write_json(folder / "export.json", list(tasks))


def read_single(folder, *results, **options):
    """Read an export of one task, and return its row and the report."""
    write(folder, task(*results))
    rows, report = read(folder, **options)
    return rows[0], report


def test_masks_of_the_brush_encoding():
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = rng.random((13, 9)) < share
        assert np.array_equal(decode_brush_rle(encode_brush_rle(mask), 9, 13), mask)


def test_the_brush_encoding_of_label_studio():
    """The bytes are those of `encode_rle` of label-studio-sdk 2.1.2, with lengths of each kind, one above 65,536."""
    mask = np.zeros((90, 200), dtype=bool)
    mask[0, 1] = mask[0, 4:7] = mask[1, :30] = mask[89, 198] = True
    encoded = [0, 1, 25, 64, 57, 27, 252, 96, 17, 255, 206, 1, 111, 255, 129, 129, 128, 103, 127, 255, 255, 254]
    encoded += [1, 197, 103, 192, 35, 255, 140, 0]
    assert encode_brush_rle(mask) == encoded
    assert np.array_equal(decode_brush_rle(encoded, 200, 90), mask)


def test_blocks_of_listed_values_in_the_brush_encoding():
    """A block whose first bit is 0 lists its values; only the alpha channel, the last of four, is the mask."""
    header = f"{8:032b}{7:05b}" + f"{2:04b}" * 4
    values = [9, 0, 0, 0, 0, 0, 0, 7]
    bits = header + "000" + f"{7:03b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    encoded = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert decode_brush_rle(encoded, 2, 1).tolist() == [[False, True]]
    with pytest.raises(ValueError, match="ends after 0 of its 8 values"):
        decode_brush_rle(encoded[:10], 2, 1)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [([1, 2], "fewer than its header"), ([256], "expected a list of bytes"), ("text", "expected a list of bytes")],
)
def test_a_damaged_brush_is_refused(encoded, message):
    with pytest.raises(ValueError, match=message):
        decode_brush_rle(encoded, 2, 1)


def test_the_number_of_values_of_a_brush_is_checked_before_memory_is_reserved():
    encoded = [255] * 4 + encode_brush_rle(np.ones((2, 2), dtype=bool))[4:]
    with pytest.raises(ValueError, match="`rle` has 4294967295 values, its image of 2×2 px needs 16"):
        decode_brush_rle(encoded, 2, 2)


@pytest.mark.parametrize(("rotation", "expected"), [(0, [20, 15, 8, 3]), (90, [17, 15, 3, 8]), (180, [12, 12, 8, 3])])
def test_a_rectangle_is_rotated_clockwise_about_its_upper_left_corner(tmp_path, rotation, expected):
    value = {"x": 50, "y": 50, "width": 20, "height": 10, "rotation": rotation, "rectanglelabels": ["apple"]}
    row, _ = read_single(tmp_path, polygon(type="rectanglelabels", value=value))
    assert row["instances"][0]["bbox"] == pytest.approx(expected)


def test_an_ellipse_is_a_polygon(tmp_path):
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "ellipselabels": ["apple"]}
    row, _ = read_single(tmp_path, polygon(type="ellipselabels", value=value))
    assert row["instances"][0]["bbox"] == [12, 12, 16, 6]


def test_keypoints_have_no_area(tmp_path):
    value = {"x": 50, "y": 50, "width": 1, "keypointlabels": ["pear"]}
    row, report = read_single(tmp_path, polygon(), polygon(type="keypointlabels", value=value))
    assert [phrase["text"] for phrase in row["phrases"]] == ["apple"]
    assert report.remark_counts["annotation without an area"] == 1


def test_results_of_one_id_are_one_region(tmp_path):
    """The tags `Polygon` and `Labels` write a result each; a choice about the region is an attribute."""
    choice = {"id": "a", "type": "choices", "from_name": "ripeness", "value": {"points": SQUARE, "choices": ["ripe"]}}
    outline = polygon(id="a", type="polygon", value={"points": SQUARE})
    labels = {"id": "a", "type": "labels", "to_name": "image", "value": {"points": SQUARE, "labels": ["apple"]}}
    row, report = read_single(tmp_path, choice, outline, labels)
    assert [(phrase["text"], phrase["instances"]) for phrase in row["phrases"]] == [("apple", [0])]
    assert not report.notes


def test_outlines_that_share_an_id_are_different_regions(tmp_path):
    row, _ = read_single(tmp_path, polygon(id="a"), polygon("pear", id="a"))
    assert [phrase["text"] for phrase in row["phrases"]] == ["apple", "pear"]


def test_a_region_with_two_labels_is_an_object_of_both_classes(tmp_path):
    row, _ = read_single(tmp_path, polygon(value={"points": SQUARE, "polygonlabels": ["apple", "fruit"]}))
    assert [(phrase["text"], phrase["instances"]) for phrase in row["phrases"]] == [("apple", [0]), ("fruit", [1])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_rotation": 90}, "rotated by 90 degrees"),
        ({"type": "bitmasklabels"}, "its type is 'bitmasklabels'; expected one of polygon, rectangle, brush"),
        ({"value": {"points": SQUARE}}, "it has no label"),
        ({"value": {"points": SQUARE, "closed": False, "polygonlabels": ["apple"]}}, "is not closed"),
        ({"value": {"points": [[640, 2], [1, 1], [2, 2]], "polygonlabels": ["apple"]}}, "percent of the image"),
        ({"original_width": 80}, "another region of the task has"),
        ({"type": "brushlabels", "value": {"points": [1, 2], "brushlabels": ["apple"]}}, "a brush without `rle`"),
    ],
)
def test_a_region_that_cannot_be_read_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_single(tmp_path, polygon(), polygon(**change))


def test_an_annotation_of_a_task_is_chosen(tmp_path):
    def annotation(label, date, **more):
        return {"result": [polygon(label)], "updated_at": f"2026-01-0{date}T00:00:00Z"} | more

    def labels(*annotations):
        write(tmp_path, task(annotations=list(annotations)))
        _, report = read(tmp_path)
        return list(report.positives), "; ".join(report.notes)

    older, newer = annotation("apple", 1), annotation("pear", 2)
    assert labels(newer, older)[0] == ["pear"]
    assert "several annotations" in labels(older, newer)[1]
    assert labels(newer, annotation("plum", 1, ground_truth=True))[0] == ["plum"]
    kept, notes = labels(older, annotation("pear", 2, was_cancelled=True))
    assert kept == ["apple"]
    assert "cancelled" in notes


def test_tasks_without_a_completed_annotation_are_left_out(tmp_path):
    write(tmp_path, task(polygon()), task(id=2, image="second.png", annotations=[], predictions=[{"result": []}]))
    rows, report = read(tmp_path)
    assert [row["example_id"] for row in rows] == ["first.png"]
    assert "1 tasks have no completed annotation and are left out" in report.notes


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("/data/upload/7/1234abcd-a%20b.png", "images/a b.png"),
        ("/data/upload/7/1234abcd-a.png", "images/1234abcd-a.png"),
        ("/data/local-files/?d=set/images/a%20b.png", "images/a b.png"),
        ("https://host/bucket/set/a.png?token=1", "set/a.png"),
        ("s3://bucket/deep/a.png", "a.png"),
        ("C:\\set\\a.png", "a.png"),
    ],
)
def test_images_are_found_by_the_end_of_their_path(tmp_path, reference, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    picture(0).save(tmp_path / place)
    write_json(tmp_path / "export.json", [task(polygon(), image=reference)])
    assert len(read(tmp_path)[0]) == 1


def test_uploads_that_differ_only_in_their_hash_are_not_confused(tmp_path):
    tasks = [
        task(polygon(), id=i, image=f"/data/upload/1/{prefix}-first.png")
        for i, prefix in enumerate(("1234abcd", "5678abcd"))
    ]
    write(tmp_path, *tasks)
    with pytest.raises(ValueError, match=r"all 2 listed images are missing"):
        read(tmp_path, on_bad_rows="skip")


def test_an_image_outside_the_folder_is_refused(tmp_path):
    picture(0).save(tmp_path / "secret.png")
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "first.png").symlink_to(tmp_path / "secret.png")
    write_json(tmp_path / "data" / "export.json", [task(polygon())])
    with pytest.raises(ValueError, match="lies outside the data set"):
        read(tmp_path / "data")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"before": "first.png", "after": "second.png"}, "needs one image in `data`, found several, before, after"),
        ({"text": "a"}, "needs one image in `data`, found none"),
    ],
)
def test_a_task_without_a_single_image_is_refused(tmp_path, data, message):
    write(tmp_path, task(polygon(), data=data))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_regions_of_several_images_are_refused(tmp_path):
    write(tmp_path, task(polygon(), polygon(to_name="other")))
    with pytest.raises(ValueError, match="its regions belong to several images, 'image', 'other'"):
        read(tmp_path)


def test_a_task_in_two_exports_is_refused(tmp_path):
    write(tmp_path, task(polygon()))
    write_json(tmp_path / "newer.json", [task(polygon("pear"))])
    with pytest.raises(ValueError, match=r"the task is also in .*export.json; keep the newest export"):
        read(tmp_path)


def test_the_export_without_annotations_names_the_right_one(tmp_path):
    entry = {"image": "/data/upload/1/a.png", "id": 1, "annotation_id": 2, "annotator": 1, "lead_time": 1.0}
    write_json(tmp_path / "export.json", [entry])
    with pytest.raises(ValueError, match="`JSON-MIN`.*export the project again as `JSON`"):
        find_splits(tmp_path)


def test_exports_are_splits_by_their_names(tmp_path):
    label_studio(tmp_path)
    (tmp_path / "project-4-at-2026-01-02.json").rename(tmp_path / "val.json")
    assert set(find_splits(tmp_path)[1]) == {"validation"}


def test_the_mask_of_a_brush_in_a_row(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[3:9, 5:20] = mask[20, 30] = True
    row, _ = read_single(
        tmp_path, polygon(type="brushlabels", value={"rle": encode_brush_rle(mask), "brushlabels": ["apple"]})
    )
    assert np.array_equal(decode_mask(row["instances"][0]["segmentation"], HEIGHT, WIDTH), mask)


def test_the_coco_export_is_found(tmp_path):
    save_pictures(tmp_path / "images")
    content = {
        "images": [{"width": WIDTH, "height": HEIGHT, "id": 0, "file_name": "images/first.png"}],
        "categories": [{"id": 0, "name": "apple"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 0,
                "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
                "bbox": [2, 2, 10, 10],
                "ignore": 0,
                "iscrowd": 0,
                "area": 100,
            }
        ],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"},
    }
    write_json(tmp_path / "result.json", content)
    assert find_splits(tmp_path)[0] == "coco"
    assert read(tmp_path)[1].positives == {"apple": 1}


def test_results_that_are_not_read_are_noted(tmp_path):
    choices = {"type": "choices", "value": {"choices": ["ripe"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "a"}
    _, report = read_single(tmp_path, polygon(id="a"), choices, relation)
    notes = " ".join(report.notes)
    assert "results of the type 'choices' of whole images are not read" in notes
    assert "results of the type 'relation' of regions are not read" in notes
