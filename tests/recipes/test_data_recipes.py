"""check_data.py and convert_data.py as a person starts them."""

import json

import pytest

from ..data.readers.trees import TREES
from ..training.common import ROOT


CONFIGS = ROOT / "recipes" / "configs"


@pytest.fixture
def run(script):
    def run(name, *arguments, status=0):
        """What the script printed, or where it prints nothing, said; its exit status must be the one given."""
        ended, printed, said = script(name, *arguments)
        assert ended == status, said
        return printed or said

    return run


def test_a_check_says_what_is_there_and_draws_it(tmp_path, run):
    TREES["polygons"](tmp_path / "data")
    said = run(
        "check_data.py", "--config", CONFIGS / "sam3_full.yaml", "--dataset_name", tmp_path / "data", "--gallery_dir",
        tmp_path / "check", "--resolution", "224",
    )  # fmt: skip
    assert "read as polygons" in said
    assert "apple (2), pear (1)" in said
    assert said.index("images without an instance: 1") < said.index("usable")
    page = (tmp_path / "check" / "index.html").read_text()
    assert page.count("<figure>") == 2
    assert (tmp_path / "check" / "sheet-1.png").stat().st_size > 1000


def test_a_check_for_machines(tmp_path, run):
    TREES["labelme"](tmp_path / "data")
    (tmp_path / "data" / "first.png").unlink()
    said = json.loads(
        run("check_data.py", "--dataset_name", tmp_path / "data", "--json", "true", "--num_pictures", "0", status=1)
    )
    assert not said["usable"]
    assert said["findings"][0]["kind"] == "a split cannot be read"
    said = run("check_data.py", "--dataset_name", tmp_path / "nothing", status=2)
    assert "there is no folder" in said


def test_a_conversion_and_its_second_run(tmp_path, run):
    TREES["cvat"](tmp_path / "data")
    given = ["--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "out"]
    run("convert_data.py", *given)
    assert (tmp_path / "out" / "annotations" / "train_coco.json").is_file()
    assert "holds an earlier conversion" in run("convert_data.py", *given, status=1)
    run("convert_data.py", *given, "--overwrite", "true", "--hold_out_phrases", "pear", status=0)
    assert (tmp_path / "out" / "annotations" / "val_coco.json").is_file()
    for place in (tmp_path / "data", tmp_path, tmp_path / "data" / "images" / "out"):
        assert "would be overwritten" in run("convert_data.py", *given[:2], "--target_dir", place, status=1)
    (tmp_path / "precious" / "annotations").mkdir(parents=True)
    said = run("convert_data.py", *given[:2], "--target_dir", tmp_path / "precious", "--overwrite", "true", status=1)
    assert "no part of an earlier conversion" in said
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert "mine.txt" in run("convert_data.py", *given, "--overwrite", "true", status=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--new_validation_fraction", "1.5"], "must lie between 0 and 1"),
        (["--polygons", "true", "--output_format", "rows"], "`polygons` is for"),
        (["--push_to_hub", "me/x"], "needs `output_format: rows`"),
        (["--hold_out_phrases", "plum"], "names 'plum', which is not among the 2 phrases: apple, pear"),
        (["--splits", "test"], "names 'test', found train"),
    ],
)
def test_bad_conversions_are_named(tmp_path, arguments, message, run):
    TREES["cvat"](tmp_path / "data")
    said = run(
        "convert_data.py", "--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "out", *arguments, status=1
    )
    assert message in said
