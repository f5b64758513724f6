"""Contradictory data, which the readers refuse, for checks and for training."""

import json
import unicodedata

import pytest

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.phrases import PhraseMap

from ..conftest import square
from .readers.trees import TREES


CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def load(folder, streaming=False, **reading):
    options = DatasetOptions(str(folder), streaming=streaming, validation_fraction=0.5)
    return load_phrase_dataset(options, ReadOptions(**reading))


def entry(number: int, name: str) -> dict:
    return {"id": number, "file_name": name, "width": 40, "height": 30}


@pytest.mark.parametrize("streaming", [False, True])
def test_an_image_with_labels_split_over_two_records_is_refused(coco, tmp_path, streaming):
    images = [entry(1, "a.png"), entry(2, "a.png"), entry(3, "b.png")]
    annotations = [square(1, 1), square(2, 2, category_id=2), square(3, 3)]
    folder = coco(annotations, images, CATEGORIES).parent.parent
    with pytest.raises(
        ValueError,
        match=r"image id 2 \(a.png\): the same picture is listed by image id 1 \(a.png\).*'cat' is present in",
    ):
        load(folder, streaming)


def test_a_link_to_an_image_is_the_same_image(coco, tmp_path):
    file = coco([square(1, 1), square(2, 2, category_id=2)], [entry(1, "a.png"), entry(2, "b.png")], CATEGORIES)
    (tmp_path / "train" / "b.png").unlink()
    (tmp_path / "train" / "b.png").symlink_to("a.png")
    with pytest.raises(ValueError, match=r"image id 2 .* is listed by image id 1"):
        load(file.parent.parent)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_contradicting_record_can_be_left_out(coco, streaming):
    images = [entry(1, "a.png"), entry(2, "a.png"), entry(3, "b.png"), entry(4, "c.png")]
    annotations = [square(1, 1), square(2, 2, category_id=2), square(3, 3), square(4, 4)]
    data = load(coco(annotations, images, CATEGORIES).parent.parent, streaming, on_bad_rows="skip")
    assert "2" not in {*data.validation["example_id"], *(row["example_id"] for row in data.train)}
    if not streaming:
        (report,) = data.reports
        assert "listed by image id 1" in report.skipped[0]


def test_an_image_listed_twice_with_the_same_labels_is_read(coco):
    images = [entry(1, "a.png"), entry(2, "a.png")]
    data = load(coco([square(1, 1), square(2, 2)], images, CATEGORIES).parent.parent)
    assert len(data.train) + len(data.validation) == 2


def test_open_phrases_do_not_contradict_each_other(coco):
    images = [entry(1, "a.png"), entry(2, "a.png")]
    annotations = [square(1, 1, noun_phrase="cat"), square(2, 2, noun_phrase="dog")]
    folder = coco(annotations, images).parent.parent
    data = load(folder, phrase_source="noun_phrase", noun_phrases="exhaustive")
    assert len(data.train) + len(data.validation) == 2


def test_an_image_inside_two_labelme_files_is_one_image(tmp_path):
    TREES["labelme_inside"](tmp_path)
    content = json.loads((tmp_path / "first.json").read_text())
    content["shapes"] = content["shapes"][:1]
    (tmp_path / "third.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"third.json: the same picture is listed by .*first.json.*'pear' is present in"
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", ["labelme", "via", "polygons", "sa1b", "lvis", "class_masks"])
def test_json_files_with_a_duplicate_key_are_refused(tmp_path, name):
    options = TREES[name](tmp_path)
    file = next(f for f in sorted(tmp_path.rglob("*.json")) if "via" not in name or f.name.startswith("via"))
    text = file.read_text()
    key = text[text.index('"') : text.index(":")]
    value = "[]" if text[text.index(":") + 1 :].strip().startswith("[") else '"x"'
    file.write_text(text.rstrip()[:-1] + f", {key}: {value}}}")
    with pytest.raises(ValueError, match=rf"{file.name}.*the key .{key[1:-1]}. occurs twice in one object"):
        load(tmp_path, **options)


def test_a_coco_file_with_two_lists_of_annotations_is_refused(coco):
    file = coco([square()])
    text = file.read_text()
    file.write_text(text[:-1] + ', "annotations": []}')
    with pytest.raises(ValueError, match="the key 'annotations' occurs twice"):
        load(file.parent.parent)


def test_composed_and_decomposed_spellings_are_one_phrase(coco):
    composed, decomposed = (unicodedata.normalize(form, "Café_Tasse") for form in ("NFC", "NFD"))
    assert composed != decomposed
    categories = [{"id": 1, "name": composed}, {"id": 2, "name": decomposed}]
    file = coco([square(), square(annotation_id=2, category_id=2, x=20)], categories=categories)
    data = load(file.parent.parent)
    assert data.category_ids == {"café tasse": 1}
    for spelling in (composed, decomposed):
        renamed = load(file.parent.parent, phrase_map=PhraseMap({spelling: "cup"}))
        assert set(renamed.category_ids) == {"cup"}
        assert not any("does not have" in note for note in renamed.reports[0].notes)


def test_spellings_in_a_phrase_map_and_in_noun_phrases(coco, tmp_path):
    from sam_ft.data.phrases.vocabulary import read_phrase_map

    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (tmp_path / "map.yaml").write_text(f"cat: {decomposed}\n", encoding="utf-8")
    file = coco([square(noun_phrase=composed), square(annotation_id=2, noun_phrase=decomposed, x=20)])
    data = load(file.parent.parent, phrase_source="both", phrase_map=read_phrase_map(str(tmp_path / "map.yaml")))
    assert set(data.category_ids) == {composed}


def box(number: int, values: list[float], **more) -> dict:
    return square(1, number, segmentation=[], bbox=values, area=None) | more


def test_normalised_boxes_may_be_rounded_above_one(coco):
    boxes = [box(1, [0.1, 0.2, 0.5, 0.5]), box(2, [0.0, 0.25, 1.004, 0.75])]
    data = load(coco(boxes).parent.parent)
    assert [i["bbox"] for i in data.validation[0]["instances"]] == [[4, 6, 20, 15], [0, 7.5, 40, 22.5]]
    (remark,) = data.reports[0].remarks
    assert (remark.kind, remark.record) == ("normalised box beyond 1", "annotation id 2")


@pytest.mark.parametrize("skip", [{}, {"on_bad_rows": "skip"}])
def test_a_file_that_mixes_fractions_and_pixels_is_refused(coco, skip):
    boxes = [box(1, [0.1, 0.2, 0.5, 0.5]), box(2, [0.3, 0.2, 0.5, 0.5]), box(3, [3, 4, 20, 20])]
    with pytest.raises(
        ValueError, match="annotation id 1: 2 boxes without a mask are in fractions.*and 1 boxes have numbers above"
    ):
        load(coco(boxes).parent.parent, **skip)


def test_small_pixel_boxes_are_no_fractions(coco):
    """A box of the first pixel, and a box that is not used because the instance has a mask."""
    boxes = [box(1, [0, 0, 1, 1]), box(2, [3, 4, 20, 20]), square(1, 3, bbox=[0.1, 0.2, 0.5, 0.5])]
    data = load(coco(boxes).parent.parent)
    assert data.validation[0]["instances"][0]["bbox"] == [0, 0, 1, 1]
