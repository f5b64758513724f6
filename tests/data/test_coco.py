"""Tests of the COCO reader: accepted variants, and error messages for data that cannot be used."""

import json

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.readers.coco import read_json_split
from sam_ft.data.readers.coco_tree import CocoFiles, find_coco_splits
from sam_ft.data.readers.split_rows import make_rows
from sam_ft.data.row_schema import DatasetFormatError
from sam_ft.ops.masks import decode_mask, encode_mask
from sam_ft.options.data import ReadOptions
from sam_ft.options.phrases import PhraseMap

from ..conftest import square


def read(file, **options):
    return read_files(CocoFiles(file, [file.parent.parent / "train"]), ReadOptions(**options))


def read_files(files, options):
    return make_rows(read_json_split(files, options), options)


def test_masks_boxes_and_areas_come_from_the_segmentation(coco):
    two_parts = [[2, 2, 8, 2, 8, 8, 2, 8], [20, 10, 26, 10, 26, 16, 20, 16]]
    rows, report = read(coco([square(segmentation=two_parts, bbox=[0, 0, 1, 1], area=1)]))
    (instance,) = rows[0]["instances"]
    assert instance["area"] == 72
    assert instance["bbox"] == [2, 2, 24, 14]
    assert decode_mask(instance["segmentation"], 30, 40).sum() == 72
    assert report.num_instances == 1


def test_compressed_and_uncompressed_rle_and_crowds(coco):
    mask = np.zeros((30, 40), dtype=bool)
    mask[3:9, 4:10] = True
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    file = coco(
        [
            square(segmentation={"size": [30, 40], "counts": encode_mask(mask)}),
            square(annotation_id=2, segmentation={"size": [30, 40], "counts": runs}, iscrowd=1),
        ]
    )
    rows, report = read(file)
    assert rows[0]["instances"][0]["segmentation"] == rows[0]["instances"][1]["segmentation"]
    assert [i["is_crowd"] for i in rows[0]["instances"]] == [False, True]
    assert rows[0]["phrases"] == [{"text": "cat", "instances": [0, 1], "exhaustive": True}]
    assert report.num_crowds == 1


def test_annotations_with_only_a_box_are_clipped(coco):
    rows, report = read(coco([square(segmentation=[], bbox=[-5, 10, 20, 50])]))
    assert rows[0]["instances"][0] == {"bbox": [0, 10, 15, 20], "segmentation": None, "area": 300, "is_crowd": False}
    assert report.num_box_only == 1


def test_images_without_annotations_and_ids_from_zero_with_gaps(coco):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (0, 7)]
    categories = [{"id": 0, "name": "cat"}, {"id": 90, "name": "dog"}]
    rows, report = read(coco([square(image_id=0, annotation_id=0, category_id=90)], images, categories))
    assert [row["example_id"] for row in rows] == ["0", "7"]
    assert [p["text"] for p in rows[0]["phrases"] if p["instances"]] == ["dog"]
    assert [p["instances"] for p in rows[1]["phrases"]] == [[], []]  # Both are absent: the vocabulary is closed.
    assert report.category_ids == {"cat": 0, "dog": 90}


def test_placeholder_and_duplicate_categories_are_one_phrase(coco):
    categories = [
        {"id": 0, "name": "pothole", "supercategory": "none"},
        {"id": 1, "name": "pothole", "supercategory": "pothole"},
        {"id": 2, "name": " Pothole", "supercategory": "pothole"},
    ]
    rows, report = read(
        coco([square(category_id=1), square(annotation_id=2, category_id=2, x=20)], categories=categories)
    )
    assert rows[0]["phrases"] == [{"text": "pothole", "instances": [0, 1], "exhaustive": True}]
    assert any("placeholder" in note for note in report.notes)
    assert any("merged" in note for note in report.notes)


def test_names_are_normalized_and_the_phrase_map_overrides_them(coco):
    names = ["traffic_light", "bat_(animal)", "bat_(sports)", "loc", "junk"]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    options = {"phrase_map": PhraseMap({"loc": "pothole", "junk": None})}
    rows, report = read(coco([square(), square(annotation_id=2, category_id=5)], categories=categories), **options)
    assert [p["text"] for p in rows[0]["phrases"]] == ["traffic light", "bat animal", "bat sports", "pothole"]
    assert len(rows[0]["instances"]) == 1  # The annotation of a dropped class is dropped too.
    assert "category 'traffic_light' is used as the phrase 'traffic light'" in report.notes


@pytest.mark.parametrize(
    ("source", "guarantee", "expected"),
    [
        ("category", "exhaustive", {"cat": True}),
        ("noun_phrase", "exhaustive", {"red cat": True}),
        ("noun_phrase", "open", {"red cat": False}),
        ("both", "open", {"cat": True, "red cat": False}),
        ("both", "closed", {"cat": True, "red cat": True, "old cat": True}),
    ],
)
def test_phrase_sources(coco, source, guarantee, expected):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco([square(noun_phrase="red_cat"), square(2, 2, noun_phrase="old cat")], images)
    rows, _ = read(file, phrase_source=source, noun_phrases=guarantee)
    assert {p["text"]: p["exhaustive"] for p in rows[0]["phrases"]} == expected
    if guarantee == "closed":
        assert [p["instances"] for p in rows[0]["phrases"] if p["text"] == "old cat"] == [[]]


def test_normalized_boxes_are_scaled_to_pixels(coco):
    rows, report = read(coco([square(segmentation=None, bbox=[0.25, 0.5, 0.5, 0.25])]))
    assert rows[0]["instances"][0]["bbox"] == [10, 15, 20, 7.5]
    assert any("normalised" in note for note in report.notes)


def test_missing_iscrowd_is_read_as_zero_with_a_note(coco):
    annotation = square()
    del annotation["iscrowd"]
    rows, report = read(coco([annotation]))
    assert not rows[0]["instances"][0]["is_crowd"]
    assert "1 annotations have no `iscrowd`; read as 0" in report.notes


def test_all_crowd_is_read_as_instances_with_a_note(coco):
    rows, report = read(coco([square(iscrowd=1)]))
    assert not rows[0]["instances"][0]["is_crowd"]
    assert any("CVAT" in note and "iscrowd: 0" in note for note in report.notes)


def test_exif_rotated_image_is_measured_upright(coco, tmp_path):
    file = coco([square()], [{"id": 1, "file_name": "a.jpg", "width": 30, "height": 40}], draw=False)
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "train" / "a.jpg", exif=exif)
    rows, _ = read(file)
    assert (rows[0]["width"], rows[0]["height"]) == (30, 40)


def bad(name, message, **more):
    return pytest.param(more, message, id=name)


POLYGON = r"annotations/instances_train.json, image id 1 \(a.png\), annotation id 1: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        bad("nan", POLYGON + "polygon part 0 contains NaN", segmentation=[[1, 1, float("nan"), 5, 5, 5]]),
        bad(
            "infinity",
            POLYGON + "polygon part 0 contains NaN or infinity",
            segmentation=[[1, 1, float("inf"), 5, 5, 5]],
        ),
        bad("1e9", POLYGON + ".*farther than.*redraw", segmentation=[[1, 1, 1e9, 5, 5, 5]]),
        bad("two points", POLYGON + r".*2 point\(s\), a polygon needs at least 3", segmentation=[[1, 1, 5, 5]]),
        bad("odd", POLYGON + ".*odd number of values", segmentation=[[1, 1, 5, 5, 7, 7, 3]]),
        bad("rle size", POLYGON + r".*\[10, 10\].*\[30, 40\].*EXIF", segmentation={"size": [10, 10], "counts": [100]}),
        bad("rle without size", POLYGON + ".*needs `counts` and `size`", segmentation={"counts": [1200]}),
        bad("text", POLYGON + ".*`segmentation` is a str", segmentation="abc"),
        bad("category", POLYGON + r"`category_id` 5 is not among `categories` \(known ids: 1\)", category_id=5),
        bad("no mask, no box", POLYGON + ".*no mask and `bbox` is None", segmentation=None, bbox=None),
        bad("box outside", POLYGON + ".*no area inside the 40×30 image", segmentation=None, bbox=[90, 90, 5, 5]),
        bad("infinite box", POLYGON + ".*must be finite", segmentation=None, bbox=[float("inf"), 0, 5, 5]),
    ],
)
def test_invalid_annotations_are_reported_and_can_be_skipped(coco, change, message):
    images = [{"id": i, "file_name": f"{'ab'[i - 1]}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco([square(**change), square(2, 2)], images)
    with pytest.raises(DatasetFormatError, match=message):
        read(file)
    rows, report = read(file, on_bad_rows="skip")
    assert [len(row["instances"]) for row in rows] == [0, 1]
    assert rows[0]["phrases"] == []  # The phrase is neither present nor absent.
    assert len(report.dropped) == 1
    assert not report.skipped
    assert "1 annotation left out; their phrases" in "\n".join(report.lines())


CAT_AND_DOG = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.mark.parametrize(
    ("change", "cat_is_exhaustive", "dog_is_absent"),
    [({"segmentation": [[1, 1, 5, 5]]}, False, True), ({"category_id": 3}, False, False)],
)
def test_an_invalid_annotation_costs_its_phrase_and_not_its_image(coco, change, cat_is_exhaustive, dog_is_absent):
    """An annotation of an unknown category may show any phrase, so none of them is exhaustive in its image."""
    annotations = [square(annotation_id=i, x=2 + 12 * i) for i in range(3)] + [square(annotation_id=3, **change)]
    rows, report = read(coco(annotations, categories=CAT_AND_DOG), on_bad_rows="skip")
    phrases = {phrase["text"]: phrase for phrase in rows[0]["phrases"]}
    assert phrases["cat"]["instances"] == [0, 1, 2]
    assert phrases["cat"]["exhaustive"] is cat_is_exhaustive
    assert ("dog" in phrases) is dog_is_absent
    (message,) = report.dropped
    assert "annotation id 3" in message


def test_an_image_that_cannot_be_used_costs_its_row(coco, tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3, 4)]
    file = coco([square(i, i) for i in (1, 2, 3, 4)], images)
    (tmp_path / "train" / "1.png").unlink()
    (tmp_path / "train" / "2.png").write_bytes(b"no image")
    Image.new("RGB", (30, 40)).save(tmp_path / "train" / "3.png")
    rows, report = read(file, on_bad_rows="skip")
    assert [row["example_id"] for row in rows] == ["4"]
    assert [name in message for name, message in zip(("1.png", "2.png", "3.png"), report.skipped, strict=True)] == [
        True
    ] * 3
    assert [path.name for path in report.skipped_images] == ["2.png", "3.png"]
    assert not report.dropped


@pytest.mark.parametrize("image_id", [1, "1"])
def test_image_ids_as_text_and_as_numbers_are_matched(coco, image_id):
    other = str(image_id) if isinstance(image_id, int) else int(image_id)
    images = [{"id": image_id, "file_name": "a.png", "width": 40, "height": 30}]
    rows, report = read(coco([square(other), square(image_id, 2, x=20)], images))
    assert len(rows[0]["instances"]) == 2
    assert any(f"such as {other!r} and {image_id!r}; matched" in note for note in report.notes)


def test_image_ids_that_are_not_listed_are_refused(coco):
    with pytest.raises(DatasetFormatError, match="image_id 01: annotations refer to 1 image ids"):
        read(coco([square("01")]))


def test_missing_image_is_reported(coco, tmp_path):
    file = coco([square()])
    (tmp_path / "train" / "a.png").unlink()
    with pytest.raises(DatasetFormatError, match=r"'a.png' is missing \(searched .*train\).*on_bad_rows: skip"):
        read(file)


def test_truncated_image_is_reported(coco, tmp_path):
    file = coco([square()], [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 300}])
    whole = (tmp_path / "train" / "a.jpg").read_bytes()
    (tmp_path / "train" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetFormatError, match=r"a.jpg cannot be read \(image file is truncated.*Copy it again"):
        read(file)


def test_size_that_differs_from_the_image_is_reported(coco, tmp_path):
    file = coco([square()])
    Image.new("RGB", (80, 60)).save(tmp_path / "train" / "a.png")
    with pytest.raises(DatasetFormatError, match=r"`width`×`height` is 40×30, but the upright image .* is 80×60"):
        read(file)
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "train" / "a.png", exif=exif)
    with pytest.raises(DatasetFormatError, match=r"is 30×40 \(its EXIF orientation swaps the sides\)"):
        read(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("{", "this is not JSON"),
        ("[]", "`images` is missing, found list"),
        ('{"images": []}', "`annotations` is missing, found 'images'"),
        ('{"images": [], "annotations": []}', "`images` is empty"),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\]: `file_name` is missing"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{}]}', r"annotations\[0\]: `image_id` is missing"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 9}]}', "image_id 9.*does not list"),
    ],
)
def test_files_that_are_not_coco_files_are_refused(tmp_path, text, message):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_text(text)
    with pytest.raises(DatasetFormatError, match=message):
        read(file)


def test_duplicate_ids_are_refused(coco):
    images = [{"id": 1, "file_name": f"{n}.png", "width": 40, "height": 30} for n in "ab"]
    with pytest.raises(DatasetFormatError, match="image id 1: 1 image ids occur more than once"):
        read(coco([square()], images))
    with pytest.raises(DatasetFormatError, match="annotation id 1: 1 annotation ids occur more than once"):
        read(coco([square(), square(x=20)]))


def test_data_without_instances_are_refused(coco):
    with pytest.raises(DatasetFormatError, match="no phrase has a single instance"):
        read(coco([]))


def test_folder_structures_of_coco_files(tmp_path):
    for name, file, folder in [
        ("coco", "annotations/instances_train2017.json", "train2017"),
        ("plain", "annotations/train_coco.json", "train_images"),
        ("roboflow", "train/_annotations.coco.json", "train"),
        ("roboflow2", "valid/_annotations.coco.json", "valid/images"),
    ]:
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name / folder / "x_jpg.rf.0.png")
        content = {
            "images": [{"id": 1, "file_name": "x_jpg.rf.0.png", "width": 40, "height": 30}],
            "annotations": [square()],
            "categories": [{"id": 1, "name": "cat"}],
        }
        path.write_text(json.dumps(content))
        splits = find_coco_splits(tmp_path / name)
        assert list(splits) == ["validation" if "valid" in file else "train"]
        rows, _ = read_files(next(iter(splits.values())), ReadOptions())
        assert rows.with_format("arrow")[0]["image"][0]["path"].as_py().endswith("x_jpg.rf.0.png")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "category id 1: 1 category ids occur more than once"),
        ([{"id": 1, "name": "_"}], "a number `id` and a text `name`"),
        (["cat"], "`categories` must be a list"),
        ([{"id": [1], "name": "cat"}], "a number `id` and a text `name`"),
    ],
)
def test_invalid_categories_are_refused(coco, categories, message):
    with pytest.raises(DatasetFormatError, match=message):
        read(coco([square()], categories=categories))


def test_polygons_in_fractions_of_the_image_are_refused(coco):
    polygon = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5, 0.1, 0.5]]
    with pytest.raises(
        DatasetFormatError, match="`segmentation` covers the box .*pixels of this image.*not in fractions"
    ):
        read(coco([square(segmentation=polygon, bbox=[0.1, 0.1, 0.8, 0.8])]))


@pytest.mark.parametrize(
    ("polygon", "box"),
    [
        ([12, 4, 22, 4, 22, 14, 12, 14], [4, 15, 10, 10]),  # x and y swapped
        ([20, 16, 39, 16, 39, 29, 20, 29], [10, 8, 9.5, 8]),  # of an image of twice the size
        ([2, 2, 4, 2, 4, 4, 2, 4], [0, 0, 30, 25]),  # less than 1 % of the box
        ([0, 0, 40, 0, 40, 30, 0, 30], [10, 10, 9, 9]),  # less than 10 % of the mask is in the box
    ],
)
def test_a_mask_that_does_not_match_its_box_is_refused(coco, polygon, box):
    with pytest.raises(DatasetFormatError, match="they do not match"):
        read(coco([square(segmentation=[polygon], bbox=box)]))


def test_crowd_flags_written_as_text(coco):
    rows, _ = read(coco([square(iscrowd="0"), square(annotation_id=2, iscrowd="1", x=20)]))
    assert [i["is_crowd"] for i in rows[0]["instances"]] == [False, True]


def test_string_and_integer_ids_differ(coco):
    with pytest.raises(DatasetFormatError, match=r"`category_id` '1' is not among .*known ids: 1\).*1 and '1' differ"):
        read(coco([square(category_id="1")]))


def test_files_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_bytes('{"images": []}'.encode("utf-16"))
    with pytest.raises(DatasetFormatError, match="cannot be read as UTF-8 text"):
        read(file)


def test_images_with_equal_names_in_different_folders_are_not_confused(coco, tmp_path):
    """`y/a.png` is missing; the image of the same name without folders belongs to another record."""
    images = [
        {"id": i, "file_name": f"{folder}/a.png", "width": 40, "height": 30} for i, folder in ((1, "x"), (2, "y"))
    ]
    file = coco([square()], images, draw=False)
    (tmp_path / "train" / "x").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "x" / "a.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "a.png")
    with pytest.raises(DatasetFormatError, match=r"image id 2 .*'y/a.png' is missing"):
        read(file)


def test_attributes_are_texts_and_numbers(coco):
    attributes = {"color": "red", "parts": 2, "size": 1.5, "note": " ", "list": ["x"], "nothing": None}
    file = coco([square(attributes=attributes), square(annotation_id=2, x=20)])
    split = read_json_split(CocoFiles(file, [file.parent.parent / "train"]), ReadOptions())
    with_attributes, without = split.records[0].load_shapes()
    assert with_attributes.attributes == {"color": "red", "parts": "2", "size": "1.5"}
    assert without.attributes == {}
