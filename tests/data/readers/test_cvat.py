"""Tests of CVAT: tags, subsets, and the folders of images."""

import shutil

import pytest

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.readers.layouts import find_splits
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, ReadOptions

from .trees import HEIGHT, WIDTH, cvat
from .voc_trees import cvat_tags


def read(folder, split="train"):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(), only=[split])[split]


def phrases(row) -> dict[str, tuple[int, bool]]:
    return {phrase["text"]: (len(phrase["instances"]), phrase["exhaustive"]) for phrase in row["phrases"]}


def set_subsets(folder, first: str, second: str) -> None:
    """Add an attribute to each of the two images."""
    cvat(folder)
    file = folder / "annotations.xml"
    text = file.read_text().replace('name="first.png"', f'name="first.png"{first}')
    file.write_text(text.replace('name="second.png"', f'name="second.png"{second}'))


def names_by_split(folder) -> dict[str, list[str]]:
    _, splits = find_splits(folder)
    return {name: [record.example_id for record in read(ReadOptions()).records] for name, read in splits.items()}


def test_tags_of_images_are_no_phrases(tmp_path):
    cvat_tags(tmp_path)
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, True)}
    assert "the tags 'blurred', 'sunny' describe images, not objects, and are no phrases" in report.notes
    assert list(report.category_ids) == ["apple", "pear"]


def test_a_tag_with_the_label_of_objects_is_no_absence(tmp_path):
    cvat_tags(tmp_path)
    rows, report = read(tmp_path)
    assert phrases(rows[1]) == {"apple": (0, True)}
    assert [remark.detail.partition(";")[0] for remark in report.remarks if "area" in remark.kind] == [
        "it is a tag of the image"
    ]


def test_tags_that_are_not_declared(tmp_path):
    cvat_tags(tmp_path)
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    file.write_text(text[: text.index("<meta>")] + text[text.index("</meta>") + len("</meta>") :])
    rows, report = read(tmp_path)
    assert phrases(rows[0]) == {"apple": (2, True), "pear": (1, True)}
    assert any(note.startswith("the tags 'blurred', 'sunny'") for note in report.notes)


def test_a_tag_in_one_file_whose_label_is_drawn_in_another(tmp_path):
    for name in ("a", "b"):
        cvat_tags(tmp_path / name)
    file = tmp_path / "b" / "annotations.xml"
    file.write_text(file.read_text().replace('<mask label="pear"', '<mask label="blurred"'))
    rows, report = read(tmp_path)
    found = {row["example_id"]: phrases(row).get("blurred") for row in rows}
    assert found == {"a/first.png": (0, True), "a/second.png": None, "b/first.png": (1, True), "b/second.png": None}
    assert "the tags 'sunny' describe images, not objects, and are no phrases" in report.notes


def test_a_tag_with_a_label_that_is_declared_for_objects(tmp_path):
    cvat_tags(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace("<type>any</type>", "<type>polygon</type>"))
    rows, _ = read(tmp_path)
    assert [phrases(row).get("blurred") for row in rows] == [(0, True), None]


def test_subset_names(tmp_path):
    for i, (first, second, expected) in enumerate(
        (
            ("", "", {"train": ["first.png", "second.png"]}),
            (' subset="default"', ' subset="default"', {"train": ["first.png", "second.png"]}),
            (' subset="Train"', ' subset="Validation"', {"train": ["first.png"], "validation": ["second.png"]}),
            ("", ' subset="val"', {"train": ["first.png"], "validation": ["second.png"]}),
            (' subset="R&amp;D"', " subset='a&gt;b'", {"R&D": ["first.png"], "a>b": ["second.png"]}),
            (' subset="a"', ' subset="a"', {"a": ["first.png", "second.png"]}),
            (' subset=""', ' subset="default"', {"train": ["first.png", "second.png"]}),
        )
    ):
        set_subsets(tmp_path / str(i), first, second)
        assert names_by_split(tmp_path / str(i)) == expected


def test_images_without_a_subset_are_noted(tmp_path):
    set_subsets(tmp_path, "", ' subset="val"')
    rows, report = read(tmp_path)
    assert report.num_instances == 3
    assert rows["example_id"] == ["first.png"]
    assert "1 images without a subset belong to this split" in report.notes
    set_subsets(tmp_path / "all", "", "")
    assert not any("subset" in note for note in read(tmp_path / "all")[1].notes)


def test_images_without_a_subset_belong_to_the_split_of_their_folder(tmp_path):
    cvat(tmp_path / "val")
    assert list(names_by_split(tmp_path)) == ["validation"]


def test_images_in_the_folders_of_subsets(tmp_path):
    """An image of a subset is not that of the same name in another folder."""
    set_subsets(tmp_path, ' subset="train"', ' subset="val"')
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace("second.png", "first.png"))
    for name, subset in (("first", "train"), ("second", "val")):
        (tmp_path / "images" / subset).mkdir()
        shutil.move(tmp_path / "images" / f"{name}.png", tmp_path / "images" / subset / "first.png")
    _, splits = find_splits(tmp_path)
    images = {name: read(ReadOptions()).records[0].image for name, read in splits.items()}
    assert images == {
        "train": tmp_path / "images" / "train" / "first.png",
        "validation": tmp_path / "images" / "val" / "first.png",
    }


def test_a_damaged_file_is_refused_when_it_is_read(tmp_path):
    cvat(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace("</annotations>", f'<image id="9" width="{WIDTH}" height="{HEIGHT}">'))
    with pytest.raises(ValueError, match="the file is not XML"):
        read(tmp_path)
