"""Tests of the reader of ISAT files."""

import numpy as np
import pytest

from sam_ft.data.readers.layouts import find_splits
from sam_ft.ops.masks import decode_mask

from .test_layouts import read
from .trees import HEIGHT, WIDTH, save_pictures, write_json


def entry(category: str, x: int, y: int, side: int = 10, **more) -> dict:
    points = [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]
    return {"category": category, "group": 0, "segmentation": points, "layer": 1.0, "iscrowd": False} | more


def write(folder, *objects, **info):
    save_pictures(folder)
    info = {"description": "ISAT", "folder": "", "name": "first.png", "width": WIDTH, "height": HEIGHT} | info
    return write_json(folder / "first.json", {"info": info, "objects": list(objects)})


def masks(folder) -> list[tuple[str, np.ndarray]]:
    row = read(folder)[0][0]
    texts = {i: phrase["text"] for phrase in row["phrases"] for i in phrase["instances"]}
    return [(texts[i], decode_mask(x["segmentation"], HEIGHT, WIDTH).sum()) for i, x in enumerate(row["instances"])]


def test_polygons_of_higher_layers_cover_lower_ones(tmp_path):
    write(tmp_path, entry("cup", 5, 0, layer=2.0, group=2), entry("table", 0, 0, 20, layer=1.0, group=1))
    assert masks(tmp_path) == [("cup", 100), ("table", 300)]
    assert any("polygons in higher layers are not part" in note for note in read(tmp_path)[1].notes)


@pytest.mark.parametrize("layers", [(1.0, 1.0), (None, 2.0)])
def test_polygons_without_an_order_do_not_cover_each_other(tmp_path, layers):
    write(tmp_path, entry("table", 0, 0, 20, layer=layers[0]), entry("cup", 5, 0, layer=layers[1]))
    assert masks(tmp_path) == [("table", 400), ("cup", 100)]


def test_background_is_a_hole(tmp_path):
    write(tmp_path, entry("cup", 0, 0), entry("__background__", 2, 2, 4, layer=3.0))
    assert masks(tmp_path) == [("cup", 84)]


def test_polygons_of_one_class_and_group_are_one_object(tmp_path):
    write(
        tmp_path,
        entry("cup", 0, 0, group=1),
        entry("cup", 20, 0, group=1, layer=2.0),
        entry("lid", 0, 15, group=1),
        entry("cup", 20, 15, group=2),
        entry("cup", 12, 0, 5, group=0),
        entry("cup", 12, 8, 5, group=None),
    )
    assert sorted(masks(tmp_path)) == [("cup", 25), ("cup", 25), ("cup", 100), ("cup", 200), ("lid", 100)]


def test_a_crowd_is_a_region_to_ignore(tmp_path):
    write(tmp_path, entry("cup", 0, 0, iscrowd=1), entry("cup", 20, 0))
    assert [instance["is_crowd"] for instance in read(tmp_path)[0][0]["instances"]] == [True, False]


def test_a_single_file_in_annotations_is_not_taken_for_coco(tmp_path):
    write(tmp_path, entry("cup", 0, 0))
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "first.png").rename(tmp_path / "images" / "first.png")
    (tmp_path / "first.json").rename(tmp_path / "annotations" / "first.json")
    assert find_splits(tmp_path)[0] == "isat"
    assert len(read(tmp_path)[0]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": ""}, r"objects\[0\]: `category` is missing"),
        ({"segmentation": [[0, 0], [1]]}, r"expected \[\[x, y\], …\]"),
        ({"segmentation": [[0, 0], [1, 1]]}, r"has 2 point\(s\), a polygon needs at least 3"),
        ({"segmentation": []}, "has 0 point"),
        ({"segmentation": [[0, 0], [1, float("nan")], [1, 1]]}, "its numbers must be finite"),
        ({"layer": "top"}, "`layer` is 'top'"),
        ({"group": []}, r"`group` \[\]"),
    ],
)
def test_an_object_that_cannot_be_read_is_refused(tmp_path, change, message):
    write(tmp_path, entry("cup", 0, 0) | change, entry("cup", 0, 0, 5, layer=2.0))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_too_many_polygons_are_refused(tmp_path):
    write(tmp_path, *[entry("cup", 0, 0)] * 10_001)
    with pytest.raises(ValueError, match="10001"):
        read(tmp_path)


def test_another_json_file_between_isat_files_is_refused(tmp_path):
    write(tmp_path, entry("cup", 0, 0))
    write_json(tmp_path / "other.json", {"info": {}})
    with pytest.raises(ValueError, match=r"other.json: .*move the file away"):
        read(tmp_path)


def test_a_missing_image_is_refused(tmp_path):
    write(tmp_path, entry("cup", 0, 0), name="../../etc/passwd.png")
    with pytest.raises(ValueError, match="is missing"):
        read(tmp_path)
