"""Tests of the description of a conversion in the `info` of a COCO file."""

import json

import pytest

from sam_ft.data.conversion_info import ConversionInfo, parse_conversion_info, read_conversion_info


INFO = ConversionInfo("R&D", {"R&D": "R_D_coco.json", "train": "train_coco.json"})


def test_a_description_is_read_from_the_beginning_of_a_file(tmp_path):
    file = tmp_path / "R_D_coco.json"
    file.write_text(json.dumps({"info": INFO.to_json(), "images": [{}] * 50_000}))
    assert read_conversion_info(file) == INFO
    assert INFO.split_of(file) == "R&D"
    assert INFO.split_of(tmp_path / "other.json") is None
    assert "the splits train, which are missing" in INFO.notes(file)[0]
    (tmp_path / "train_coco.json").touch()
    assert INFO.notes(file) == []


@pytest.mark.parametrize("text", ["", "[]", '{"info": ', '{"info": 3}', '{"images": []}', '{"info": {"sam_ft": []}}'])
def test_other_files_have_no_description(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    assert read_conversion_info(file) is None
    assert read_conversion_info(tmp_path / "missing.json") is None


@pytest.mark.parametrize(
    "changes",
    [{"split": 3}, {"split": "a\x1b"}, {"files": []}, {"files": {"train": "../train.json"}}, {"files": {"a": 1}}],
)
def test_damaged_descriptions_name_no_files(changes):
    info = INFO.to_json()
    info["sam_ft"] |= changes
    assert parse_conversion_info(info).files == {}


def test_another_kind_of_phrases_is_not_final():
    assert parse_conversion_info({"sam_ft": {"phrases": "names"}}) is None
