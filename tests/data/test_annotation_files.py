"""Tests of annotation files that are passed instead of a folder, or beside it."""

import json
import shutil

import pytest

from sam_ft.arguments import DataArguments
from sam_ft.data.loading import find_phrase_splits, load_phrase_dataset
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, HubSource, ReadOptions

from ..conftest import square
from .readers.trees import TREES


# Annotation file of each layout that has one for many images.
FILES = {
    "lvis": "annotations/lvis_v1_train.json",
    "saco": "annotations/gold_merged_a_release_test.json",
    "yolo": "data.yaml",
    "cvat": "annotations.xml",
    "via": "train/via_region_data.json",
    "labelbox": "export.ndjson",
    "label_studio": "export.json",
    "coco_panoptic": "annotations/panoptic_train.json",
    "datumaro": "annotations/train.json",
}


def rows_of(name: str, **options) -> list:
    splits, _ = find_phrase_splits(DatasetOptions(name))
    (rows, _), *_ = read_splits(splits, ReadOptions(**options)).values()
    return list(rows.remove_columns("image"))


def find_annotation_file(folder, name: str):
    """Return the annotation file of a layout; builders of some layouts choose its name."""
    file = folder / FILES[name]
    return file if file.is_file() else next(iter(sorted(folder.rglob(f"*{file.suffix}"))))


@pytest.mark.parametrize("name", [name for name in FILES if name in TREES])
def test_an_annotation_file_is_read_as_its_folder_is(tmp_path, name):
    options = TREES[name](tmp_path / "data")
    file = find_annotation_file(tmp_path / "data", name)
    assert rows_of(str(file), **options) == rows_of(str(tmp_path / "data"), **options)


def test_a_file_of_no_layout_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("cat")
    with pytest.raises(
        ValueError, match=r"the file .*a.txt' is of none of the layouts .*coco.*yolo.*cvat.*via.*folder"
    ):
        find_phrase_splits(DatasetOptions(str(tmp_path / "a.txt")))
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [')
    with pytest.raises(ValueError, match="a.json: this is not JSON"):
        rows_of(str(tmp_path / "a.json"))
    (tmp_path / "b.json").write_text('{"images": ')
    with pytest.raises(ValueError, match="cannot be read: .*b.json: this is not JSON"):
        rows_of(str(tmp_path / "b.json"))
    TREES["cvat"](tmp_path / "cvat")
    file = str(tmp_path / "cvat" / "annotations.xml")
    with pytest.raises(ValueError, match="is not of the layout 'coco'"):
        find_phrase_splits(DatasetOptions(file, layout="coco"))
    with pytest.raises(ValueError, match="`dataset_revision` is 'v1', but .* is a file of the layout cvat"):
        find_phrase_splits(DatasetOptions(file, hub=HubSource(revision="v1")))


def at_root(coco, name="labels.json"):
    """Write a COCO file into the folder of the data set itself."""
    file = coco([square()])
    folder = file.parent.parent
    (folder / "train").rename(folder / "images")
    file.rename(folder / name)
    file.parent.rmdir()
    return folder


def test_a_coco_file_at_the_root_of_a_folder_is_found(coco):
    folder = at_root(coco)
    (folder / "SOURCE.json").write_text('{"url": "http://x"}')
    assert [row["example_id"] for row in rows_of(str(folder))] == ["1"]


def test_coco_files_at_the_root_are_splits_by_their_names(coco):
    folder = at_root(coco, "my_train.json")
    shutil.copy(folder / "my_train.json", folder / "my_val.json")
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    assert set(splits) == {"train", "validation"}
    (folder / "my_train.json").rename(folder / "a.json")
    (folder / "my_val.json").rename(folder / "b.json")
    with pytest.raises(ValueError, match="several COCO files, a.json, b.json, have no split"):
        find_phrase_splits(DatasetOptions(str(folder)))
    (folder / "a.json").unlink()
    (folder / "b.json").write_text(json.dumps({"items": [], "annotations": []}))
    with pytest.raises(ValueError, match="which is of none of"):
        find_phrase_splits(DatasetOptions(str(folder)))


def test_a_coco_file_beside_yolo_data_is_not_preferred(tmp_path):
    TREES["yolo"](tmp_path)
    (tmp_path / "export.json").write_text('{"images": [], "annotations": []}')
    assert {split.layout for split in find_phrase_splits(DatasetOptions(str(tmp_path)))[0].values()} == {"yolo"}


def test_an_annotation_file_of_a_folder(shapes, monkeypatch):
    options = DatasetOptions(
        str(shapes),
        annotation_file="annotations/instances_train.json",
        eval_annotation_file="annotations/instances_val.json",
    )
    data = load_phrase_dataset(options, ReadOptions())
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert set(find_phrase_splits(options)[0]) == {"train", "validation"}
    with_folder = DatasetOptions(str(shapes), annotation_file="annotations/instances_train.json", image_folder="train")
    assert len(find_phrase_splits(with_folder)[0]) == 1
    monkeypatch.chdir(shapes.parent)
    file = f"{shapes.name}/annotations/instances_train.json"  # A path from the current folder is accepted too.
    data = load_phrase_dataset(DatasetOptions(shapes.name, annotation_file=file), ReadOptions())
    assert len(data.train) + len(data.validation) == 4


def test_an_annotation_file_beside_a_name_that_is_no_folder_is_refused(shapes):
    file = str(shapes / "annotations" / "instances_train.json")
    with pytest.raises(ValueError, match="`dataset_name` is 'owner/name', which is not a folder"):
        find_phrase_splits(DatasetOptions("owner/name", annotation_file=file))
    with pytest.raises(ValueError, match="x.json: the file does not exist"):
        load_phrase_dataset(DatasetOptions(str(shapes), annotation_file="x.json"), ReadOptions())


def test_the_name_of_the_data_is_that_of_its_annotation_file(shapes):
    """`synthetic`, the default of `dataset_name`, is not the name of other data."""
    file = "annotations/instances_train.json"
    assert DataArguments(annotation_file=file).source_name == file
    assert DataArguments(dataset_name=str(shapes), annotation_file=file).source_name == str(shapes / file)
    assert DataArguments().source_name == "synthetic"
