"""Tests of `sam_ft.data.licences`."""

import json

import pytest

from sam_ft.data.licences import licence_of


def coco(folder, name="annotations/instances_train.json"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    licences = [
        {"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"},
        {"name": "CC BY-SA 4.0"},
    ]
    file.write_text(json.dumps({"info": {}, "licenses": licences, "images": [], "annotations": [], "categories": []}))
    return file


def test_licence_of_a_coco_file_and_of_its_folder(tmp_path):
    file = coco(tmp_path)
    assert licence_of(str(file)) == "CC BY 4.0, CC BY-SA 4.0"
    assert licence_of(str(tmp_path)) == "CC BY 4.0, CC BY-SA 4.0"


def test_licence_of_a_roboflow_readme(tmp_path):
    (tmp_path / "README.dataset.txt").write_text(
        "# Potholes > v1\n\nProvided by a Roboflow user\nLicense: Public Domain\n"
    )
    assert licence_of(str(tmp_path)) == "Public Domain"


@pytest.mark.parametrize("written, read", [("mit", "mit"), ("[mit, cc0-1.0]", "mit, cc0-1.0")])
def test_licence_of_a_data_set_card(tmp_path, written, read):
    (tmp_path / "README.md").write_text(f"---\nlicense: {written}\n---\n# Data\n")
    coco(tmp_path)
    assert licence_of(str(tmp_path)) == read


def test_no_licence_is_none(tmp_path):
    (tmp_path / "README.md").write_text("# Data\n")
    (tmp_path / "labels.json").write_text('{"licenses": []}')
    assert licence_of(str(tmp_path)) is None
    assert licence_of("owner/missing") is None  # Tests run offline.
