"""Tests of untrusted annotations and files: paths, sizes, nesting and names are refused with a message."""

import base64
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.row_schema import open_image_value
from sam_ft.options.data import DatasetOptions, ReadOptions

from ...conftest import square
from .trees import HEIGHT, TREES, WIDTH


def load(folder, **reading):
    return load_phrase_dataset(DatasetOptions(str(folder)), ReadOptions(**reading))


def images(data) -> int:
    return len(data.train) + len(data.validation)


# ---- Images outside the data set


@pytest.fixture
def outside(tmp_path):
    """Write an image beside the data set, which lies in the folder `data`."""
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "secret.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(file)
    return file


def _coco(folder: Path, name: str) -> None:
    (folder / "annotations").mkdir(parents=True)
    content = {
        "images": [{"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}],
        "annotations": [square()],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))


def _cvat(folder: Path, name: str) -> None:
    TREES["cvat"](folder)
    file = folder / "annotations.xml"
    file.write_text(file.read_text().replace("first.png", name))


def _labelme(folder: Path, name: str) -> None:
    TREES["labelme"](folder)
    file = folder / "first.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"imagePath": name}))


def _yolo(folder: Path, name: str) -> None:
    TREES["yolo"](folder)
    (folder / "train.txt").write_text(f"{name}\n")
    Path(folder / name).with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: train.txt\nnames: [apple]\n")


@pytest.mark.parametrize("listed", ["relative", "absolute", "link", "linked folder"])
@pytest.mark.parametrize("write", [_coco, _cvat, _labelme, _yolo], ids=["coco", "cvat", "labelme", "yolo"])
def test_an_image_outside_the_data_set_is_refused(tmp_path, outside, write, listed):
    folder = tmp_path / "data"
    names = {
        "relative": "../elsewhere/secret.png" if write in (_labelme, _yolo) else "../../elsewhere/secret.png",
        "absolute": str(outside),
        "link": "link.png",
        "linked folder": "linked/secret.png",
    }
    place = {_coco: folder / "train", _cvat: folder / "images"}.get(write, folder)
    place.mkdir(parents=True)
    (place / "link.png").symlink_to(outside)
    (place / "linked").symlink_to(outside.parent)
    write(folder, names[listed])
    with pytest.raises(ValueError, match=r"lies outside the data set, in .*elsewhere.*`allow_outside_images: true`"):
        load(folder)
    data = load(folder, allow_outside_images=True)
    assert images(data) >= 1


def test_outside_images_can_be_skipped(tmp_path, outside, coco):
    names = ["a.png", "b.png", "../../elsewhere/secret.png"]
    entries = [{"id": i, "file_name": n, "width": WIDTH, "height": HEIGHT} for i, n in enumerate(names)]
    file = coco([square(i, i + 1) for i in range(3)], entries[:2])
    content = json.loads(file.read_text())
    content["images"] = entries
    content["annotations"] = [square(i, i + 1) for i in range(3)]
    file.write_text(json.dumps(content))
    shutil.copytree(tmp_path / "train", tmp_path / "data" / "train")
    shutil.copytree(tmp_path / "annotations", tmp_path / "data" / "annotations")
    data = load(tmp_path / "data", on_bad_rows="skip")
    assert images(data) == 2
    assert "secret.png" in data.reports[0].skipped[0]


def test_the_folder_of_a_data_set_can_be_a_link(tmp_path):
    TREES["labelme"](tmp_path / "real")
    (tmp_path / "data").symlink_to("real")
    assert images(load(tmp_path / "data")) == 2


def test_links_within_the_data_set_are_read(tmp_path):
    TREES["labelme"](tmp_path)
    (tmp_path / "originals").mkdir()
    shutil.move(tmp_path / "first.png", tmp_path / "originals" / "first.png")
    (tmp_path / "first.png").symlink_to("originals/first.png")
    assert images(load(tmp_path)) == 2


def test_a_snapshot_in_the_cache_of_the_hub_is_read(tmp_path):
    """The files of a snapshot are links to `blobs`, two folders up."""
    snapshot = tmp_path / "datasets--me--x" / "snapshots" / "0a1b"
    TREES["labelme"](snapshot)
    blobs = tmp_path / "datasets--me--x" / "blobs"
    blobs.mkdir()
    shutil.move(snapshot / "first.png", blobs / "c0ffee")
    (snapshot / "first.png").symlink_to("../../blobs/c0ffee")
    assert images(load(snapshot)) == 2


def test_an_annotation_file_and_its_image_folder_are_the_data_set(tmp_path, outside):
    _coco(tmp_path / "data", "secret.png")
    file = str(tmp_path / "data" / "annotations" / "instances_train.json")
    options = DatasetOptions(annotation_file=file, image_folder=str(outside.parent))
    assert len(load_phrase_dataset(options, ReadOptions()).validation) == 1
    options.image_folder = str(tmp_path / "data")
    _replace(file, "secret.png", "../elsewhere/secret.png")
    with pytest.raises(ValueError, match="lies outside the data set"):
        load_phrase_dataset(options, ReadOptions())


def _replace(file: str, old: str, new: str) -> None:
    Path(file).write_text(Path(file).read_text().replace(old, new))


# ---- Images that decompress to more than Pillow's limit


@pytest.fixture
def _small_limit(monkeypatch):
    """Set Pillow's limit so that an image of more than 20,000 px is a decompression bomb."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 255).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("name", ["mask_files", "mask_values", "class_masks", "labelme_inside"])
def test_a_mask_that_is_a_decompression_bomb_is_refused(tmp_path, name):
    options = TREES[name](tmp_path)
    if name == "labelme_inside":
        content = json.loads((tmp_path / "first.json").read_text())
        content["shapes"][0]["mask"] = base64.b64encode(png(200)).decode()
        (tmp_path / "first.json").write_text(json.dumps(content))
        place = "first.json"
    else:
        file = next(
            f for f in sorted(tmp_path.rglob("*.png")) if "mask" in f.parent.name.lower() and "first" in str(f)
        )
        file.write_bytes(png(200))
        place = file.name
    with pytest.raises(ValueError, match=rf"{place}.*cannot be read \(Image size \(40000 pixels\) exceeds limit"):
        load(tmp_path, **options)


@pytest.mark.usefixtures("_small_limit")
def test_an_image_that_is_a_decompression_bomb_is_refused(coco, tmp_path):
    file = coco([square()])
    (tmp_path / "train" / "a.png").write_bytes(png(200))
    with pytest.raises(ValueError, match=r"a.png cannot be read \(Image size"):
        load(file.parent.parent)
    with pytest.raises(ValueError, match=r"a.png cannot be read \(Image size"):
        open_image_value(str(tmp_path / "train" / "a.png"))


# ---- Nesting


DEEP = ["[" * 100_000, "[" * 400 + "]" * 400, '{"a":' * 300 + "1" + "}" * 300]


@pytest.mark.parametrize("deep", DEEP, ids=["unclosed", "lists", "objects"])
@pytest.mark.parametrize(
    ("name", "file", "old"),
    [
        ("labelme", "first.json", '"label"'),
        ("via", "train/via_region_data.json", '"shape_attributes"'),
        ("polygons", "train/annotations/first.json", '"segmentation"'),
        ("sa1b", "first.json", '"segmentation"'),
        ("lvis", "annotations/lvis_v1_train.json", '"segmentation"'),
        ("lvis", "annotations/lvis_v1_train.json", '"category_id"'),
        ("saco", "annotations/gold_merged_a_release_test.json", '"text_input"'),
    ],
)
def test_deeply_nested_json_is_refused(tmp_path, name, file, old, deep):
    options = TREES[name](tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, f'{old}: {deep}, "was"', 1))
    limit = sys.getrecursionlimit()
    with pytest.raises(ValueError, match=r"\w") as caught:
        load(tmp_path, **options)
    assert len(str(caught.value)) < 6000
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("level", ["[{}]", '{{"a": {}}}'], ids=["lists", "objects"])
@pytest.mark.parametrize(
    ("name", "file", "old"),
    [
        ("class_masks", "id2label.json", '"1"'),
        ("labelme", "first.json", '"imagePath"'),
        ("sa1b", "first.json", '"file_name"'),
    ],
)
def test_json_near_the_recursion_limit_is_refused_with_a_short_message(tmp_path, name, file, old, level):
    """Near the limit, Python can parse a value but not represent it."""
    options = TREES[name](tmp_path)
    text = (tmp_path / file).read_text()
    begin, end = level.format("\0").split("\0")
    for depth in range(700, 1000, 3):
        (tmp_path / file).write_text(text.replace(old, f'{old}: {begin * depth}1{end * depth}, "was"', 1))
        with pytest.raises(ValueError, match=r"\w") as caught:
            load(tmp_path, **options)
        assert len(str(caught.value)) < 3000


# ---- Names


ANSI = "red\x1b[31m\x07 cat"


@pytest.mark.parametrize("name", ["labelme", "yolo", "via"])
def test_control_characters_of_class_names_are_escaped(tmp_path, name):
    TREES[name](tmp_path)
    for file in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.yaml")]:
        escaped = json.dumps(ANSI)[1:-1]
        text = file.read_text().replace("'apple'", '"apple"').replace('"apple"', f'"{escaped}"')
        file.write_text(text)
    data = load(tmp_path)
    assert "red\\x1b[31m\\x07 cat" in data.category_ids
    for line in data.lines():
        assert "\x1b" not in line
        assert "\x07" not in line


def test_control_characters_of_file_names_are_escaped(coco, tmp_path):
    name = "a\x1b[31m.png"
    file = coco([square()], [{"id": 1, "file_name": name, "width": 40, "height": 30}], draw=False)
    with pytest.raises(ValueError, match="is missing") as caught:
        load(file.parent.parent)
    assert "\x1b" not in str(caught.value)


def test_zero_width_joiners_are_part_of_a_name(coco):
    name = "می\u200cخواهم"
    data = load(coco([square()], categories=[{"id": 1, "name": name}]).parent.parent)
    assert list(data.category_ids) == [name]


def test_a_file_name_that_is_not_utf8_is_refused_or_skipped(tmp_path):
    options = TREES["mask_values"](tmp_path)
    for place in ("PNGImages", "PedMasks"):
        source = next(f for f in sorted((tmp_path / place).iterdir()) if "first" in f.name)
        shutil.copy(source, os.fsencode(tmp_path / place) + b"/b\xff" + os.fsencode(source.name.removeprefix("first")))
    with pytest.raises(ValueError, match=r"the file name .*b\\\\?udcff.*is not valid UTF-8. Rename the file"):
        load(tmp_path, **options)
    data = load(tmp_path, on_bad_rows="skip", **options)
    assert images(data) == 2
    assert len(data.reports[0].skipped) == 1


def test_an_unpaired_surrogate_is_escaped(coco):
    file = coco([square()])
    file.write_text(file.read_text().replace('"cat"', '"cat\\ud800"'))
    data = load(file.parent.parent)
    assert list(data.category_ids) == ["cat\\ud800"]
