"""Tests of classes that are no objects: background, and regions to ignore, in several layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.phrases.attributes import AttributeTemplates
from sam_ft.data.phrases.sampling import choose_phrases
from sam_ft.data.phrases.vocabulary import is_background_name, is_ignored_name
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.phrases import PhraseMap, PhraseOptions

from .trees import HEIGHT, NAMES, WIDTH, class_masks, cvat, labelme, mask_values, save_pictures, write_json
from .voc_trees import labelme_ignored


def read(folder, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(**options))["train"]


def phrases(row) -> dict[str, tuple[int, int, bool]]:
    """Return the numbers of objects and of crowd regions of each phrase, and whether it is exhaustive."""
    crowd = [instance["is_crowd"] for instance in row["instances"]]
    return {
        phrase["text"]: (
            sum(not crowd[i] for i in phrase["instances"]),
            sum(crowd[i] for i in phrase["instances"]),
            phrase["exhaustive"],
        )
        for phrase in row["phrases"]
    }


def keep(*names) -> dict:
    return {"phrase_map": PhraseMap(names=dict(names))}


def test_names():
    for name in ("background", "_background_", "__background__", "Background", "unlabeled", "Unlabelled"):
        assert is_background_name(name)
    for name in ("__ignore__", "ignore", "Ignored", "void", "VOID"):
        assert is_ignored_name(name)
    for name in ("background person", "avoid", "ignored area", "road"):
        assert not is_background_name(name)
        assert not is_ignored_name(name)


def test_regions_to_ignore_are_crowds_of_every_phrase(tmp_path):
    """An image with an ignored region has no absent phrases: the region may show them."""
    labelme_ignored(tmp_path)
    content = json.loads((tmp_path / "second.json").read_text())
    points = [[0, 0], [9, 0], [9, 9], [0, 9]]
    content["shapes"] = [{"label": "__ignore__", "points": points, "shape_type": "polygon", "group_id": None}]
    (tmp_path / "second.json").write_text(json.dumps(content))
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, 1, True), "pear": (1, 1, True)}
    assert phrases(rows[1]) == {"apple": (0, 1, True), "pear": (0, 1, True)}
    assert len(rows[0]["instances"]) == 4
    assert choose_phrases(rows[1], np.random.default_rng(0), PhraseOptions()) == []
    assert report.positives == {"apple": 2, "pear": 1}
    assert report.num_absent == 0
    notes = "\n".join(report.notes)
    assert "'_background_' is background and is left out" in notes
    assert "'__ignore__' marks regions to ignore" in notes


def test_the_phrase_map_keeps_and_drops_such_classes(tmp_path):
    labelme_ignored(tmp_path)
    rows, _ = read(tmp_path, **keep(("__ignore__", "fog"), ("_background_", "wall")))
    assert phrases(rows[0]) == {"apple": (2, 0, True), "fog": (1, 0, True), "pear": (1, 0, True), "wall": (1, 0, True)}
    rows, _ = read(tmp_path, **keep(("__ignore__", None)))
    assert phrases(rows[0]) == {"apple": (2, 0, True), "pear": (1, 0, True)}


def test_a_region_to_ignore_that_cannot_be_read_makes_all_phrases_not_exhaustive(tmp_path):
    labelme_ignored(tmp_path)
    content = json.loads((tmp_path / "first.json").read_text())
    content["shapes"][-2]["points"] = [[0, 0]]
    content["shapes"] = [s for s in content["shapes"] if s["label"] != "pear"]
    (tmp_path / "first.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"first.json, shapes\[3\]"):
        read(tmp_path)
    labelme(tmp_path / "other")  # declares the class pear
    rows, report = read(tmp_path, on_bad_rows="skip")
    assert phrases(next(row for row in rows if row["example_id"] == "first")) == {"apple": (2, 0, False)}
    assert len(report.dropped) == 1


def test_a_point_to_ignore_makes_all_phrases_not_exhaustive(tmp_path):
    labelme_ignored(tmp_path)
    content = json.loads((tmp_path / "first.json").read_text())
    content["shapes"][-2] |= {"points": [[5, 5]], "shape_type": "point"}
    (tmp_path / "first.json").write_text(json.dumps(content))
    assert phrases(read(tmp_path)[0][0]) == {"apple": (2, 0, False), "pear": (1, 0, False)}


def test_phrases_of_attributes_are_not_exhaustive_where_something_is_ignored(tmp_path):
    cvat(tmp_path)
    templates = AttributeTemplates(["{color} {label}"])
    assert phrases(read(tmp_path, attributes=templates)[0][0])["red apple"] == (1, 0, True)
    file = tmp_path / "annotations.xml"
    region = '<polygon label="void" points="30,20;39,20;39,29"></polygon>'
    file.write_text(file.read_text().replace("</image>", f"{region}</image>", 1))
    assert phrases(read(tmp_path, attributes=templates)[0][0]) == {
        "apple": (2, 1, True),
        "pear": (1, 1, True),
        "red apple": (1, 0, False),
        "green apple": (1, 0, False),
        "green pear": (1, 0, False),
    }


def test_background_of_coco(tmp_path):
    save_pictures(tmp_path / "train")
    content = {
        "images": [{"id": i, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for i, n in ((1, "first"),)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 0, "name": "background"}, {"id": 1, "name": "apple"}, {"id": 2, "name": "void"}],
    }
    write_json(tmp_path / "annotations" / "instances_train.json", content)
    assert phrases(read(tmp_path)[0][0]) == {"apple": (1, 0, True)}


@pytest.mark.parametrize("kind", ["classes", "components"])
def test_background_and_void_of_mask_values(tmp_path, kind):
    class_masks(tmp_path)
    for file in (tmp_path / "masks").iterdir():
        values = np.asarray(Image.open(file)).copy()
        values[::2, 36:] = 3  # specks, which are one region
        Image.fromarray(values).save(file)
    names = {"0": "background", "3": "void", **{str(i): name for i, name in enumerate(NAMES, 1)}}
    write_json(tmp_path / "id2label.json", names)
    rows, report = read(tmp_path, mask_values=kind)
    is_exhaustive = kind == "components"
    number = {"classes": 1, "components": 3}[kind]
    assert phrases(rows[0]) == {"apple": (number, 1, is_exhaustive), "pear": (1, 1, is_exhaustive)}
    assert not any("the value 0 is the class" in note for note in report.notes)
    rows, report = read(tmp_path, mask_values=kind, **keep(("background", "table"), ("void", None)))
    assert phrases(rows[1])["table"][0] == 1 if kind == "classes" else phrases(rows[1])["table"][0] >= 1
    assert any("the value 0 is the class 'background'" in note for note in report.notes)


def test_many_parts_of_background_are_no_objects(tmp_path):
    class_masks(tmp_path)
    write_json(tmp_path / "id2label.json", {"0": "background", "1": "apple", "2": "pear"})
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    values = np.full((300, 300), 1, dtype=np.uint8)
    values[::2, ::2] = 0  # 22,500 parts
    picture.save(tmp_path / "images" / "first.png")
    Image.fromarray(values).save(tmp_path / "masks" / "first.png")
    assert phrases(read(tmp_path, mask_values="components")[0][0]) == {"apple": (1, 0, True), "pear": (0, 0, True)}


def test_class_name_is_a_class_even_if_it_is_background(tmp_path):
    options = mask_values(tmp_path)
    rows, _ = read(tmp_path, **options | {"class_name": "background"})
    assert phrases(rows[0]) == {"background": (3, 0, True)}


def test_class_names_of_instances(tmp_path):
    options = mask_values(tmp_path) | {"class_name": None}
    names = write_json(tmp_path.parent / "names.json", {"0": "background", "1": "apple"})
    rows, _ = read(tmp_path, **options, class_names=str(names))
    assert phrases(rows[0]) == {"apple": (3, 0, True)}
    write_json(names, {"1": "apple", "2": "pear"})
    message = "`class_names` contains 2 classes, but with `mask_values: instances` the values are objects"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **options, class_names=str(names))
