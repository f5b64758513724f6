"""Every layout is found, read, and survives the way through COCO; what cannot be read is named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.hub.source import HubSource
from sam_ft.data.loading import DatasetOptions, find_phrase_splits
from sam_ft.data.phrases.attributes import AttributeTemplates
from sam_ft.data.readers.layouts import LAYOUTS, find_splits
from sam_ft.data.readers.records import ReadOptions
from sam_ft.data.sources import read_splits
from sam_ft.data.writers.conversion import write_coco
from sam_ft.ops.masks import decode_mask

from .trees import HEIGHT, NAMES, PICTURES, THINGS, TREES, WIDTH


FOUND_AS = {
    **{name: name for name in TREES},
    **{"labelme_inside": "labelme", "via2": "via", "class_masks": "mask_values", "lvis": "coco", "saco": "coco"},
}
NAMELESS = ("sa1b", "mask_files", "mask_values")
PARTS_APART = ("yolo", "via", "via2", "class_masks")  # layouts in which an object is one outline


def read(folder, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    (rows, report), *_ = read_splits(splits, ReadOptions(**options)).values()
    return rows, report


def content(rows) -> dict:
    """Image and phrase -> masks of its instances, as comparable bytes, and whether all are labelled."""
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
    """Phrase -> masks on the first picture."""
    masks = {}
    for thing in THINGS:
        outlines = [[part] for part in thing.parts] if name in PARTS_APART else [thing.parts]
        phrase = "apple" if name in NAMELESS else thing.label
        masks.setdefault(phrase, []).extend(replace(thing, parts=outline).mask.tobytes() for outline in outlines)
    return {phrase: sorted(found) for phrase, found in masks.items()}


@pytest.mark.parametrize("name", TREES)
def test_a_layout_is_found_and_its_masks_are_those_that_were_drawn(tmp_path, name):
    options = TREES[name](tmp_path)
    layout, _ = find_splits(tmp_path)
    assert layout == FOUND_AS[name]
    rows, _ = read(tmp_path, **options)
    found = content(rows)
    for phrase, masks in expected(name).items():
        assert found["first", phrase][0] == masks
    for row in rows:
        assert np.asarray(row["image"]).shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("polygons", [False, True])
def test_rows_written_as_coco_are_read_as_the_same_rows(tmp_path, name, polygons):
    options = TREES[name](tmp_path / "given")
    rows, _ = read(tmp_path / "given", **options)
    write_coco(rows, tmp_path / "written", "train", polygons=polygons)
    again, _ = read(tmp_path / "written")
    assert content(again) == content(rows)
    for before, after in zip(rows, again, strict=True):
        assert np.array_equal(np.asarray(before["image"].convert("RGB")), np.asarray(after["image"].convert("RGB")))


def test_absences_are_those_that_the_source_proves(tmp_path):
    def absent(name):
        options = TREES[name](tmp_path / name)
        return {
            key: exhaustive
            for key, (masks, exhaustive) in content(read(tmp_path / name, **options)[0]).items()
            if not masks
        }

    closed = {("second", name): True for name in NAMES}
    for name in ("yolo", "labelme", "via", "cvat", "polygons", "class_masks"):
        assert absent(name) == closed
    assert absent("lvis") == {("first", "plum"): True}
    # whether the second picture shows a pear nobody knows: the pair is not exhaustive
    assert absent("saco") == {("first", "plum"): True, ("second", "apple"): True, ("second", "plum"): True}
    assert absent("sa1b") == {("second", "apple"): True}


def test_doubts_of_the_source_are_kept(tmp_path):
    TREES["lvis"](tmp_path / "lvis")
    found = content(read(tmp_path / "lvis")[0])
    assert not found["first", "apple"][1]
    assert found["first", "pear"][1]
    TREES["sa1b"](tmp_path / "sa1b")
    assert not content(read(tmp_path / "sa1b", class_name="apple")[0])["first", "apple"][1]


def test_a_class_at_once_is_one_mask_and_not_exhaustive(tmp_path):
    TREES["class_masks"](tmp_path)
    found = content(read(tmp_path, mask_values="classes")[0])
    masks, exhaustive = found["first", "apple"]
    assert len(masks) == 1
    assert not exhaustive
    assert found["second", "apple"] == ([], True)


@pytest.mark.parametrize("name", ["mask_values", "class_masks"])
def test_what_numbers_mean_is_never_guessed(tmp_path, name):
    TREES[name](tmp_path)
    with pytest.raises(ValueError, match=r"(?s)`mask_values: instances`.*`classes`.*`components`"):
        read(tmp_path)


@pytest.mark.parametrize("name", NAMELESS)
def test_masks_without_names_need_one(tmp_path, name):
    options = TREES[name](tmp_path) | {"class_name": None}
    with pytest.raises(ValueError, match="class_name"):
        read(tmp_path, **options)


def test_a_layout_can_be_told(tmp_path):
    TREES["labelme"](tmp_path)
    with pytest.raises(ValueError, match="not of the layout 'yolo'"):
        find_splits(tmp_path, "yolo")
    with pytest.raises(ValueError, match=f"`layout` is 'yollo'; choose from {', '.join(LAYOUTS)}"):
        find_splits(tmp_path, "yollo")


def test_folders_without_a_layout_list_what_is_there_and_what_is_read(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        find_splits(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds nothing, which is none of"):
        find_splits(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"(?s)holds pictures/.*Roboflow.*YOLO-seg.*CVAT.*VIA.*LabelMe.*SA-1B"):
        find_splits(tmp_path)


def test_annotations_that_cannot_be_read_are_named(tmp_path):
    TREES["yolo"](tmp_path)
    (tmp_path / "data.yaml").write_text("train: train/images\nnames: [apple, pear]\nnames: [pear, apple]\n")
    with pytest.raises(ValueError, match=r"(?s)none of.*data.yaml is not YAML: the key 'names' occurs twice"):
        find_splits(tmp_path)
    (tmp_path / "data.yaml").write_bytes("names: [Äpfel]".encode("latin-1"))
    with pytest.raises(ValueError, match=r"data.yaml is not UTF-8 text"):
        find_splits(tmp_path)


def test_merged_keys_of_a_yaml_file(tmp_path):
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
def test_a_key_that_says_nothing_about_the_data_is_refused(tmp_path, name, key, value):
    options = TREES[name](tmp_path)
    with pytest.raises(ValueError, match=f"`{key}` is '{value}', but says nothing about {name} data"):
        find_phrase_splits(DatasetOptions(str(tmp_path)), ReadOptions(**options | {key: value}))


def test_keys_of_the_hub_are_refused_beside_files(tmp_path):
    """Even where there is something else that the Hub's reader would take."""
    TREES["cvat"](tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"")
    for key, hub in (("column_mapping", {"column_mapping": {"image": "x"}}), ("dataset_revision", {"revision": "v1"})):
        with pytest.raises(ValueError, match=f"`{key}` is .* a folder of the layout cvat"):
            find_phrase_splits(DatasetOptions(str(tmp_path), hub=HubSource(**hub)))


def test_classes_that_one_split_lacks_are_asked_in_it(tmp_path):
    """Nothing but the files themselves says which classes a LabelMe data set has."""
    TREES["labelme"](tmp_path / "train")
    TREES["labelme"](tmp_path / "valid")
    file = tmp_path / "valid" / "first.json"
    shapes = json.loads(file.read_text())
    file.write_text(json.dumps(shapes | {"shapes": [s for s in shapes["shapes"] if s["label"] == "apple"]}))
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path)))
    rows = read_splits(splits, ReadOptions())["validation"][0]
    assert content(rows)["first", "pear"] == ([], True)


def test_what_was_turned_in_cvat_is_turned_here(tmp_path):
    """A quarter turn swaps a box's sides, and an ellipse's half axes, around the middle."""
    TREES["cvat"](tmp_path)
    shapes = (
        '<box label="apple" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<ellipse label="pear" cx="20" cy="15" rx="8" ry="4" rotation="90"/><ellipse label="pear" cx="20" cy="15" rx="4" ry="8"/>'
    )
    image = f'<image id="0" name="first.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    rows, _ = read(tmp_path)
    box, turned, upright = rows[0]["instances"]
    assert box["bbox"] == pytest.approx([15, 5, 10, 20])
    masks = [decode_mask(one["segmentation"], HEIGHT, WIDTH) for one in (turned, upright)]
    assert np.array_equal(*masks)


def test_folders_of_splits_below_images_and_masks(tmp_path):
    options = TREES["mask_values"](tmp_path / "given")
    for split in ("train", "val"):
        for kind, place in (("images", "PNGImages"), ("masks", "PedMasks")):
            shutil.copytree(tmp_path / "given" / place, tmp_path / "data" / kind / split)
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path / "data")))
    assert set(splits) == {"train", "validation"}
    assert all(len(rows) == 2 for rows, _ in read_splits(splits, ReadOptions(**options)).values())


def test_images_of_one_name_in_two_folders(tmp_path):
    """Neither is taken for the other, and both have an id of their own."""
    TREES["cvat"](tmp_path)
    image = (tmp_path / "images" / "first.png").read_bytes()
    for place in ("a", "b"):
        (tmp_path / "images" / place).mkdir()
        (tmp_path / "images" / place / "0.png").write_bytes(image)
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


def test_a_box_ticked_twice_is_no_attribute_and_a_crowd_opens_its_class(tmp_path):
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
    one, _, other = text.partition('"hidden": false')
    assert exhaustive(f'{one}"hidden": true{other}') is not True
