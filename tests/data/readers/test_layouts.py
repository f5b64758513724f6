"""Tests of every layout: detection, reading, writing as COCO, and messages for data that cannot be read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.phrases.attributes import AttributeTemplates
from sam_ft.data.readers import layouts
from sam_ft.data.readers.layouts import find_splits
from sam_ft.data.sources import read_splits
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import LAYOUTS, DatasetOptions, HubSource, ReadOptions

from .dataset_trees import DATASET_TREES
from .detection_trees import DETECTION_TREES
from .export_trees import EXPORT_TREES
from .trees import DRAWN_OBJECTS, HEIGHT, NAMES, PICTURES, WIDTH
from .trees import TREES as TOOL_TREES
from .voc_trees import VOC_TREES


TREES = TOOL_TREES | EXPORT_TREES | DATASET_TREES | VOC_TREES | DETECTION_TREES
DETECTED_AS = {
    **{name: name for name in TREES},
    **{
        "voc_colors": "voc",
        "yolo_classes": "yolo",
        "labelme_inside": "labelme",
        "via2": "via",
        "class_masks": "mask_values",
        "lvis": "coco",
        "saco": "coco",
    },
}
WITHOUT_CLASSES = ("sa1b", "mask_files", "mask_values")
SINGLE_POLYGON = (
    "yolo",
    "yolo_classes",
    "via",
    "via2",
    "class_masks",
    "labelbox",
    "roboflow_masks",
    "cityscapes",
)  # layouts in which an object is one polygon


def read(folder, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    (rows, report), *_ = read_splits(splits, ReadOptions(**options)).values()
    return rows, report


def content(rows) -> dict:
    """Return the masks of the instances as bytes, and whether they are exhaustive, by image and phrase."""
    return {
        (name, phrase["text"]): (
            sorted(
                decode_mask(row["instances"][i]["segmentation"], HEIGHT, WIDTH).tobytes() for i in phrase["instances"]
            ),
            phrase["exhaustive"],
        )
        for name, row in zip(PICTURES, rows, strict=True)
        for phrase in row["phrases"]
    }


def expected(name: str) -> dict[str, list[bytes]]:
    """Return the masks of each phrase in the first picture."""
    masks = {}
    for drawn_object in DRAWN_OBJECTS:
        objects = [[part] for part in drawn_object.parts] if name in SINGLE_POLYGON else [drawn_object.parts]
        phrase = "apple" if name in WITHOUT_CLASSES else drawn_object.label
        masks.setdefault(phrase, []).extend(replace(drawn_object, parts=parts).mask.tobytes() for parts in objects)
    return {phrase: sorted(phrase_masks) for phrase, phrase_masks in masks.items()}


def test_every_reader_is_registered():
    files = Path(layouts.__file__).parent.glob("*.py")
    assert {file.stem for file in files if "\ndef find(" in file.read_text(encoding="utf-8")} == set(LAYOUTS.values())


@pytest.mark.parametrize("name", TREES)
def test_a_layout_is_detected_and_its_masks_are_read(tmp_path, name):
    options = TREES[name](tmp_path)
    layout, _ = find_splits(tmp_path)
    assert layout == DETECTED_AS[name]
    rows, _ = read(tmp_path, **options)
    received = content(rows)
    for phrase, masks in expected(name).items():
        assert received["first", phrase][0] == masks
    for row in rows:
        assert np.asarray(row["image"]).shape[:2] == (HEIGHT, WIDTH)


def test_only_verified_absences_are_absent(tmp_path):
    def absent(name):
        options = TREES[name](tmp_path / name)
        return {
            key: exhaustive
            for key, (masks, exhaustive) in content(read(tmp_path / name, **options)[0]).items()
            if not masks
        }

    closed = {("second", name): True for name in NAMES}
    closed_layouts = ("supervisely", "darwin", "labelbox", "roboflow_masks", *DATASET_TREES, *DETECTION_TREES)
    for name in ("yolo", "labelme", "via", "cvat", "polygons", "class_masks", *closed_layouts):
        assert absent(name) == closed
    assert absent("openimages") == {("second", "pear"): True}
    assert absent("lvis") == {("first", "plum"): True}
    # The pair of the second picture and "pear" is not exhaustive, so the phrase is not absent.
    assert absent("saco") == {("first", "plum"): True, ("second", "apple"): True, ("second", "plum"): True}
    assert absent("sa1b") == {("second", "apple"): True}


def test_phrases_that_are_not_exhaustive_in_the_source_are_not_exhaustive(tmp_path):
    TREES["lvis"](tmp_path / "lvis")
    phrases = content(read(tmp_path / "lvis")[0])
    assert not phrases["first", "apple"][1]
    assert phrases["first", "pear"][1]
    TREES["sa1b"](tmp_path / "sa1b")
    assert not content(read(tmp_path / "sa1b", class_name="apple")[0])["first", "apple"][1]


def test_class_masks_are_not_exhaustive(tmp_path):
    TREES["class_masks"](tmp_path)
    phrases = content(read(tmp_path, mask_values="classes")[0])
    masks, exhaustive = phrases["first", "apple"]
    assert len(masks) == 1
    assert not exhaustive
    assert phrases["second", "apple"] == ([], True)


@pytest.mark.parametrize("name", ["mask_values", "class_masks"])
def test_mask_values_are_required(tmp_path, name):
    TREES[name](tmp_path)
    with pytest.raises(ValueError, match=r"(?s)`mask_values: instances`.*`classes`.*`components`"):
        read(tmp_path)


@pytest.mark.parametrize("name", WITHOUT_CLASSES)
def test_masks_without_class_names_need_class_name(tmp_path, name):
    options = TREES[name](tmp_path) | {"class_name": None}
    with pytest.raises(ValueError, match="class_name"):
        read(tmp_path, **options)


def test_a_layout_can_be_set(tmp_path):
    TREES["labelme"](tmp_path)
    with pytest.raises(ValueError, match="not of the layout 'yolo'"):
        find_splits(tmp_path, "yolo")
    with pytest.raises(
        ValueError, match=f"`layout` must be one of {', '.join(LAYOUTS)}, got 'yollo'. Did you mean 'yolo'"
    ):
        DatasetOptions(layout="yollo")


def test_the_message_for_an_unknown_layout_lists_the_content_and_the_layouts(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        find_splits(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"is empty; the layouts"):
        find_splits(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"(?s)contains pictures/.*Roboflow.*YOLO-seg.*CVAT.*VIA.*LabelMe.*SA-1B"):
        find_splits(tmp_path)


def test_annotations_that_cannot_be_read_are_reported(tmp_path):
    TREES["yolo"](tmp_path)
    (tmp_path / "data.yaml").write_text("train: train/images\nnames: [apple, pear]\nnames: [pear, apple]\n")
    with pytest.raises(ValueError, match=r"(?s)none of.*data.yaml is not YAML: the key 'names' occurs twice"):
        find_splits(tmp_path)
    (tmp_path / "data.yaml").write_bytes("names: [Äpfel]".encode("latin-1"))
    with pytest.raises(ValueError, match=r"data.yaml is not UTF-8 text"):
        find_splits(tmp_path)


def test_yaml_merge_keys_are_read(tmp_path):
    TREES["yolo"](tmp_path)
    file = tmp_path / "data.yaml"
    file.write_text("base: &base {names: [apple, pear]}\n<<: *base\ntrain: train/images\n")
    assert find_splits(tmp_path)[0] == "yolo"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("cvat", "class_attribute", "color"),
        ("yolo", "mask_values", "classes"),
        ("labelme", "class_name", "apple"),
        ("via", "phrase_source", "both"),
    ],
)
def test_a_key_without_effect_on_the_layout_is_refused(tmp_path, name, key, value):
    options = TREES[name](tmp_path)
    with pytest.raises(ValueError, match=f"`{key}` is '{value}', but has no effect on {name} data"):
        find_phrase_splits(DatasetOptions(str(tmp_path)), ReadOptions(**options | {key: value}))


def test_hub_keys_are_refused_for_local_layouts(tmp_path):
    """The keys are refused even if the folder also contains parquet files."""
    TREES["cvat"](tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"")
    for key, hub in (("column_mapping", {"column_mapping": {"image": "x"}}), ("dataset_revision", {"revision": "v1"})):
        with pytest.raises(ValueError, match=f"`{key}` is .* a folder of the layout cvat"):
            find_phrase_splits(DatasetOptions(str(tmp_path), hub=HubSource(**hub)))


def test_classes_of_other_splits_are_absent_in_a_split(tmp_path):
    """LabelMe does not declare classes, so they are inferred from the files of all splits."""
    TREES["labelme"](tmp_path / "train")
    TREES["labelme"](tmp_path / "valid")
    file = tmp_path / "valid" / "first.json"
    labels = json.loads(file.read_text())
    file.write_text(json.dumps(labels | {"shapes": [s for s in labels["shapes"] if s["label"] == "apple"]}))
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path)))
    rows = read_splits(splits, ReadOptions())["validation"][0]
    assert content(rows)["first", "pear"] == ([], True)


def test_rotated_shapes_of_cvat(tmp_path):
    """A rotation by 90° about the center swaps the sides of a box and the semi-axes of an ellipse."""
    TREES["cvat"](tmp_path)
    shapes = (
        '<box label="apple" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<ellipse label="pear" cx="20" cy="15" rx="8" ry="4" rotation="90"/>'
        '<ellipse label="pear" cx="20" cy="15" rx="4" ry="8"/>'
    )
    image = f'<image id="0" name="first.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    rows, _ = read(tmp_path)
    box, rotated, upright = rows[0]["instances"]
    assert box["bbox"] == pytest.approx([15, 5, 10, 20])
    masks = [decode_mask(instance["segmentation"], HEIGHT, WIDTH) for instance in (rotated, upright)]
    assert np.array_equal(*masks)


def test_folders_of_splits_below_images_and_masks(tmp_path):
    options = TREES["mask_values"](tmp_path / "source")
    for split in ("train", "val"):
        for kind, folder in (("images", "PNGImages"), ("masks", "PedMasks")):
            shutil.copytree(tmp_path / "source" / folder, tmp_path / "data" / kind / split)
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path / "data")))
    assert set(splits) == {"train", "validation"}
    assert all(len(rows) == 2 for rows, _ in read_splits(splits, ReadOptions(**options)).values())


def test_an_image_is_not_confused_with_one_of_the_same_name_in_another_folder(tmp_path):
    """`c/0.png` is missing, and neither `a/0.png` nor `b/0.png` is used instead."""
    TREES["cvat"](tmp_path)
    image = (tmp_path / "images" / "first.png").read_bytes()
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).mkdir()
        (tmp_path / "images" / folder / "0.png").write_bytes(image)
    box = '<box label="apple" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    entries = [
        f'<image id="{i}" name="{n}" width="{WIDTH}" height="{HEIGHT}">{box}</image>'
        for i, n in enumerate(("a/0.png", "c/0.png"))
    ]
    (tmp_path / "annotations.xml").write_text(f"<annotations>{''.join(entries)}</annotations>")
    with pytest.raises(ValueError, match="the image 'c/0.png' is missing"):
        read(tmp_path)


def test_a_mask_with_an_alpha_channel(tmp_path):
    TREES["mask_files"](tmp_path)
    file = next(tmp_path.glob("**/masks/**/*.png"))
    before = read(tmp_path, class_name="apple")[0]
    with Image.open(file) as mask:
        opaque = Image.merge("LA", (mask.convert("L"), Image.new("L", mask.size, 255)))
    opaque.save(file)
    assert content(read(tmp_path, class_name="apple")[0]) == content(before)


def test_an_attribute_with_two_values_makes_its_phrases_not_exhaustive(tmp_path):
    templates = AttributeTemplates(["{quality} {label}"])
    TREES["via2"](tmp_path)
    file = tmp_path / "train" / "via_region_data.json"
    text = file.read_text()
    assert '"hidden": false' in text

    def exhaustive(text):
        file.write_text(text)
        rows, _ = read(tmp_path, class_attribute="fruit", attributes=templates)
        return {p["text"]: p["exhaustive"] for p in rows[0]["phrases"]}.get("good apple")

    assert exhaustive(text) is True
    before, _, after = text.partition('"hidden": false')
    assert exhaustive(f'{before}"hidden": true{after}') is not True


def write_via(folder, split, attribute):
    """Write a VIA file whose regions have one attribute of the given name."""
    TREES["via"](folder / "source")
    file = folder / "source" / "train" / "via_region_data.json"
    file.write_text(file.read_text().replace('"fruit"', f'"{attribute}"'))
    file.parent.rename(folder / split)


def test_attributes_of_via_files_that_differ_are_refused_in_all_splits_or_named(tmp_path):
    """A class of one split would be absent in the other although it was never labelled there."""
    write_via(tmp_path, "train", "fruit")
    write_via(tmp_path, "val", "kind")
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path)))
    for name in splits:
        with pytest.raises(ValueError, match=r"fruit in .*train.*; kind in .*val.*such as `fruit,kind`"):
            read_splits(splits, ReadOptions(), only=[name])
    with pytest.raises(ValueError, match="val.*`class_attribute` is 'fruit'; the regions have kind.*`fruit,kind`"):
        read_splits(splits, ReadOptions(class_attribute="fruit"))
    results = read_splits(splits, ReadOptions(class_attribute="fruit,kind"))
    assert len({str(dict(report.positives)) for _, report in results.values()}) == 1


def test_a_via_file_without_regions_needs_no_attribute(tmp_path):
    write_via(tmp_path, "train", "fruit")
    write_via(tmp_path, "val", "fruit")
    file = tmp_path / "val" / "via_region_data.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps({key: entry | {"regions": {}} for key, entry in entries.items()}))
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path)))
    with pytest.raises(ValueError, match="no phrase has a single instance"):
        read_splits(splits, ReadOptions(class_attribute="fruit"), only=["validation"])
    with pytest.raises(ValueError, match="`class_attribute` is 'frut'; the regions have fruit"):
        read_splits(splits, ReadOptions(class_attribute="frut"))
    with pytest.raises(ValueError, match="`class_attribute` is 'frut'; the regions have none"):
        read_splits(splits, ReadOptions(class_attribute="frut"), only=["validation"])


def test_an_image_path_that_names_the_labelme_file_itself_is_missing(tmp_path):
    TREES["labelme_inside"](tmp_path)
    before, _ = read(tmp_path)
    for file in tmp_path.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"imagePath": file.name}))
    rows, report = read(tmp_path)
    assert content(rows) == content(before)
    assert any("read from `imageData`" in note for note in report.notes)
