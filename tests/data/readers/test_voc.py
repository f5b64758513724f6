"""Tests of Pascal VOC: classes of objects, void pixels, label maps, lists, boxes, and messages for contradictions."""

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.readers.layouts import find_splits
from sam_ft.data.readers.voc import join_images
from sam_ft.data.readers.voc_labels import index_values
from sam_ft.data.sources import read_splits
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import DatasetOptions, ReadOptions

from .trees import DRAWN_OBJECTS, HEIGHT, WIDTH, box_of
from .voc_trees import save_palette_image, voc, voc_boxes, voc_classes, voc_colors, voc_years


def read(folder, split="train", **options):
    reading = ReadOptions(**options)
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)), reading)
    return read_splits(splits, reading)[split]


def phrases(row) -> dict[str, tuple[int, bool]]:
    """Return the number of instances of each phrase, and whether they are exhaustive."""
    return {phrase["text"]: (len(phrase["instances"]), phrase["exhaustive"]) for phrase in row["phrases"]}


def masks(row, text: str) -> list[np.ndarray]:
    indices = next(phrase["instances"] for phrase in row["phrases"] if phrase["text"] == text)
    return [decode_mask(row["instances"][i]["segmentation"], row["height"], row["width"]) for i in indices]


def test_classes_are_those_of_voc_by_default(tmp_path):
    voc(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    rows, report = read(tmp_path)
    assert len(phrases(rows[0])) == 20
    assert {text: number for text, (number, _) in phrases(rows[0]).items() if number} == {"aeroplane": 2, "bicycle": 1}
    assert report.category_ids["tvmonitor"] == 20
    assert "the classes are the 20 of Pascal VOC; set `class_names` for others" in report.notes


def test_object_numbers_are_not_read_as_classes(tmp_path):
    voc(tmp_path)
    for kind in ("classes", "components", "instances"):
        with pytest.raises(ValueError, match=f"`mask_values` is '{kind}', but SegmentationObject separates the obj"):
            read(tmp_path, mask_values=kind)
    (tmp_path / "labelmap.txt").rename(tmp_path / "labels.txt")
    reading = ReadOptions(mask_values="classes", class_name="apple")
    _, splits = find_splits(tmp_path, "mask_values")
    with pytest.raises(ValueError, match="the values in SegmentationObject are objects"):
        splits["train"](reading)


def test_void_pixels_belong_to_no_object(tmp_path):
    voc(tmp_path)
    rows, _ = read(tmp_path)
    for text in ("apple", "pear"):
        expected = sorted(t.mask.tobytes() for t in DRAWN_OBJECTS if t.label == text)
        assert sorted(mask.tobytes() for mask in masks(rows[0], text)) == expected
    assert phrases(rows[1]) == {"apple": (0, True), "pear": (0, True)}


def test_gray_classes_without_names_are_refused(tmp_path):
    voc(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    for file in (tmp_path / "SegmentationClass").iterdir():
        Image.fromarray(np.asarray(Image.open(file))).save(file)
    with pytest.raises(ValueError, match="does not have the palette of Pascal VOC, and no file names its classes"):
        read(tmp_path)
    (tmp_path / "class_names.txt").write_text("_background_\napple\npear\n")
    rows, _ = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, True)}


def test_the_given_file_names_the_classes(tmp_path):
    voc(tmp_path / "data")
    names = tmp_path / "names.json"
    names.write_text('{"0": "background", "1": "plum", "2": "cherry"}')
    rows, report = read(tmp_path / "data", class_names=str(names))
    assert phrases(rows[0]) == {"plum": (2, True), "cherry": (1, True)}
    assert report.category_ids == {"plum": 1, "cherry": 2}
    names.write_text('["plum", "cherry"]')
    with pytest.raises(ValueError, match="number 0 is background in Pascal VOC, but is named 'plum'. Start the list"):
        read(tmp_path / "data", class_names=str(names))
    names.write_text('["background", "plum"]')
    with pytest.raises(ValueError, match="contains the value 2, which is of no class"):
        read(tmp_path / "data", class_names=str(names))


def test_the_label_file_of_labelme_starts_at_minus_one(tmp_path):
    voc(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nplum\ncherry\n")
    rows, _ = read(tmp_path)
    assert phrases(rows[0]) == {"plum": (2, True), "cherry": (1, True)}


def test_colors_of_a_label_map(tmp_path):
    """Colors that differ from VOC's palette are those of the label map, in palettes and in RGB images."""
    voc_colors(tmp_path)
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, True)}
    assert report.category_ids == {"apple": 1, "pear": 2}
    file = tmp_path / "labelmap.txt"
    text = file.read_text()
    file.write_text(text.replace("61,61,245", "61,61,246"))
    with pytest.raises(ValueError, match=r"contains the color \(61, 61, 245\), which is of no class"):
        read(tmp_path)
    for line, message in (
        ("plum:250,50,83::", "that of another class or of background"),
        ("plum:0,0,0::", "that of another class or of background"),
        ("plum:1,2::", r"expected `name:R,G,B:parts:actions`, found 'plum:1,2::'"),
        ("plum", r"expected `name:R,G,B:parts:actions`, found 'plum'"),
        ("apple:1,2,3::", "the class 'apple' occurs twice"),
    ):
        file.write_text(f"{text}\n{line}\n")
        with pytest.raises(ValueError, match=message):
            read(tmp_path)


def test_gray_values_are_positions_or_colors_of_a_label_map(tmp_path):
    voc(tmp_path)
    for file in (tmp_path / "SegmentationClass").iterdir():
        Image.fromarray(np.asarray(Image.open(file))).save(file)
    assert phrases(read(tmp_path)[0][0]) == {"apple": (2, True), "pear": (1, True)}
    file = tmp_path / "labelmap.txt"
    file.write_text("background:0,0,0::\npear:2,2,2::\napple:1,1,1::\nignored:255,255,255::\n")
    with pytest.raises(ValueError, match="can be positions in the label map or gray colors"):
        read(tmp_path)
    file.write_text("background:0,0,0::\nx:9,9,9::\npear:2,2,2::\napple:1,1,1::\n")
    with pytest.raises(ValueError, match="can be positions"):
        read(tmp_path)
    file.write_text("background:0,0,0::\npear:2,2,2::\n")
    with pytest.raises(ValueError, match=r"values \[0, 1, 2, 255\] are of no class"):
        read(tmp_path)


def names_by_split(folder) -> dict[str, list[str]]:
    _, splits = find_splits(folder)
    return {name: [record.example_id for record in read(ReadOptions()).records] for name, read in splits.items()}


def test_lists_set_the_splits(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("first\n")
    (lists / "val.txt").write_text('"second.jpg"\n\n')
    (lists / "trainval.txt").write_text("first\nsecond\n")
    assert names_by_split(tmp_path) == {"train": ["first"], "validation": ["second"]}
    for name in ("train", "val"):
        (lists / f"{name}.txt").unlink()
    assert names_by_split(tmp_path) == {"train": ["first", "second"]}
    (lists / "trainval.txt").rename(lists / "default.txt")
    assert names_by_split(tmp_path) == {"train": ["first", "second"]}


def test_folders_and_years(tmp_path):
    voc(tmp_path / "splits" / "train")
    voc(tmp_path / "splits" / "val")
    for name in ("train", "val"):
        (tmp_path / "splits" / name / "ImageSets" / "Segmentation" / "train.txt").unlink()
    names = names_by_split(tmp_path / "splits")
    assert names == {"train": ["train/first", "train/second"], "validation": ["val/first", "val/second"]}
    voc_years(tmp_path / "years")
    assert sorted(names_by_split(tmp_path / "years")["train"]) == [
        "VOCdevkit/VOC2007/first",
        "VOCdevkit/VOC2007/second",
        "VOCdevkit/VOC2012/2012_first",
        "VOCdevkit/VOC2012/2012_second",
    ]
    file = tmp_path / "years" / "VOCdevkit" / "VOC2012" / "labelmap.txt"
    file.write_text(file.read_text().replace("pear", "plum"))
    with pytest.raises(ValueError, match=r"VOC2012.labelmap.txt: its classes differ from those of .*VOC2007"):
        read(tmp_path / "years")


def test_files_that_are_left_out_are_noted(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("first\n")
    (lists / "test.txt").write_text("third\n")
    for name in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / name / "second.png").rename(tmp_path / name / "fourth.png")
    _, report = read(tmp_path)
    notes = "\n".join(report.notes)
    assert "1 listed images have neither a mask nor boxes and are left out, such as third" in notes
    assert "1 images are in no list of ImageSets and are left out, such as second" in notes
    assert "1 masks have no image and are left out, such as fourth" in notes
    (lists / "train.txt").write_text("first\nfourth\n")
    with pytest.raises(ValueError, match=r"fourth.png: the image 'fourth' is missing in .*JPEGImages"):
        read(tmp_path)


def test_classes_without_objects_are_one_mask_each(tmp_path):
    voc_classes(tmp_path)
    rows, report = read(tmp_path)
    found = phrases(rows[0])
    assert (found["aeroplane"], found["bicycle"], found["bird"]) == ((1, False), (1, False), (0, True))
    assert any("all of a class in an image is one mask" in note for note in report.notes)
    assert np.array_equal(masks(rows[0], "aeroplane")[0], np.any([t.mask for t in DRAWN_OBJECTS[:2]], axis=0))
    rows, _ = read(tmp_path, mask_values="components")
    assert phrases(rows[0])["aeroplane"] == (3, True)
    with pytest.raises(ValueError, match="`mask_values` is 'instances', but SegmentationClass contains classes"):
        read(tmp_path, mask_values="instances")


def test_class_name_makes_class_images_binary(tmp_path):
    voc_classes(tmp_path)
    rows, _ = read(tmp_path, class_name="fruit")
    assert phrases(rows[0]) == {"fruit": (1, False)}
    (tmp_path / "class_names.txt").write_text("background\napple\npear\n")
    with pytest.raises(ValueError, match=r"`class_name` is 'fruit', but .*class_names.txt names the classes"):
        read(tmp_path, class_name="fruit")


def test_boxes_of_images_without_masks(tmp_path):
    voc_boxes(tmp_path)
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, True)}
    assert phrases(rows[1]) == {"apple": (0, True), "pear": (0, True)}
    assert [instance["bbox"] for instance in rows[0]["instances"]] == [box_of(t) for t in DRAWN_OBJECTS]
    assert report.num_box_only == 3
    file = tmp_path / "Annotations" / "first.xml"
    text = file.read_text()
    file.write_text(text.replace("<difficult>0</difficult>", "<difficult>1</difficult>", 1))
    assert [instance["is_crowd"] for instance in read(tmp_path)[0][0]["instances"]] == [True, False, False]
    file.write_text(text.replace("<xmin>3</xmin>", "<xmin>2.5</xmin>"))
    assert read(tmp_path)[0][0]["instances"][0]["bbox"] == [2.5, 3.0, 7.5, 9.0]
    for damage, message in (
        (("<name>pear</name>", "<name></name>"), r"first.xml, object 2: `name` is missing"),
        (("<xmin>3</xmin>", ""), r"first.xml, object 0: `bndbox` is \['', '3', '10', '12'\]"),
        (("</annotation>", ""), r"first.xml is not XML"),
    ):
        file.write_text(text.replace(*damage))
        with pytest.raises(ValueError, match=message):
            read(tmp_path)


def test_masks_and_boxes_together(tmp_path):
    """An object that the masks do not show makes its class not exhaustive, and one without instances unknown."""
    voc(tmp_path)
    voc_boxes(tmp_path)
    assert phrases(read(tmp_path)[0][0]) == {"apple": (2, True), "pear": (1, True)}
    for picture, name in (("first", "pear"), ("second", "apple")):
        file = tmp_path / "Annotations" / f"{picture}.xml"
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        added = f"<object><name>{name}</name><difficult>1</difficult>{box}</object></annotation>"
        file.write_text(file.read_text().replace("</annotation>", added))
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, False)}
    assert phrases(rows[1]) == {"pear": (0, True)}
    assert any("first.xml lists 2 such objects, but the masks show 1" in remark.detail for remark in report.remarks)
    (tmp_path / "SegmentationClass" / "second.png").unlink()
    rows, report = read(tmp_path)
    assert [instance["is_crowd"] for instance in rows[1]["instances"]] == [True]
    assert any("have no masks; the boxes" in note for note in report.notes)


def test_images_of_classes_and_objects_must_agree(tmp_path):
    voc(tmp_path)
    file = tmp_path / "SegmentationClass" / "first.png"
    classes = np.asarray(Image.open(file)).copy()
    damaged = classes.copy()
    damaged[3, 3] = 2
    save_palette_image(damaged, file)
    with pytest.raises(ValueError, match=r"object 1: the image of classes shows apple \(79 px\), pear \(1 px\) in it"):
        read(tmp_path)
    save_palette_image(classes[:-1], file)
    with pytest.raises(ValueError, match="images of classes and objects are 40×29 and 40×30 px; both must agree"):
        read(tmp_path)
    classes[0, 30:38] = 2
    save_palette_image(classes, file)
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, False)}
    assert any("8 px of its class are in no object" in remark.detail for remark in report.remarks)


def test_mask_files_that_are_not_exact_are_refused(tmp_path):
    voc(tmp_path)
    file = tmp_path / "SegmentationObject" / "first.png"
    image = Image.open(file).convert("L")
    image.convert("F").save(file.with_suffix(".tif"))
    file.unlink()
    with pytest.raises(
        ValueError, match=r"first.tif cannot be read \(its pixel values are not exact; save the mask as"
    ):
        read(tmp_path)
    file.with_suffix(".tif").unlink()
    image.save(file.with_suffix(".jpg"))
    with pytest.raises(ValueError, match=r"first.jpg cannot be read \(its pixel values are not exact"):
        read(tmp_path)


def test_join_images_of_no_object():
    empty = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    assert join_images(empty, empty, {1: "apple"}) == []
    with pytest.raises(ValueError, match="contains 10001 numbers"):
        join_images(
            np.ones((100, 101), dtype=np.int32), np.arange(10100).reshape(100, 101).clip(0, 10000), {1: "apple"}
        )


@pytest.mark.parametrize("high", [3, 2**20])
def test_index_values_equals_unique(high):
    values = np.random.default_rng(0).integers(-1, high, (17, 13))
    expected, inverse = np.unique(values, return_inverse=True)
    unique, indices = index_values(values)
    assert np.array_equal(unique, expected)
    assert np.array_equal(indices, inverse.reshape(values.shape))
