"""check_data.py and convert_data.py as a person starts them."""

import json

import pytest
from PIL import Image

from sam_ft.data.readers import images, rows

from ..conftest import square
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
    assert "contains an earlier result" in run("convert_data.py", *given, status=1)
    run("convert_data.py", *given, "--overwrite", "true", "--hold_out_phrases", "pear", status=0)
    assert (tmp_path / "out" / "annotations" / "val_coco.json").is_file()
    for place in (tmp_path / "data", tmp_path, tmp_path / "data" / "images" / "out"):
        assert "would be overwritten" in run("convert_data.py", *given[:2], "--target_dir", place, status=1)
    (tmp_path / "precious" / "annotations").mkdir(parents=True)
    said = run("convert_data.py", *given[:2], "--target_dir", tmp_path / "precious", "--overwrite", "true", status=1)
    assert "contains annotations, which this command did not write" in said
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
        (
            ["--keep_phrases", "aple"],
            "`keep_phrases` contains 'aple', which is not among the 2 phrases of the data. Did you mean 'apple'?",
        ),
        (
            ["--keep_phrases", "apple", "zebra"],
            "contains 'zebra', which is not among the 2 phrases of the data. The data have apple, pear",
        ),
    ],
)
def test_bad_conversions_are_named(tmp_path, arguments, message, run):
    TREES["cvat"](tmp_path / "data")
    said = run(
        "convert_data.py", "--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "out", *arguments, status=1
    )
    assert message in said


def test_phrases_to_keep_are_normalised(tmp_path, run):
    TREES["cvat"](tmp_path / "data")
    run(
        "convert_data.py",
        "--dataset_name",
        tmp_path / "data",
        "--target_dir",
        tmp_path / "out",
        "--keep_phrases",
        "Apple",
    )
    content = json.loads((tmp_path / "out" / "annotations" / "train_coco.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["apple"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scene_width", 320),
        ("scene_seed", 3),
        ("scene_fills", "solid"),
        ("scene_train_labels", "star"),
        ("scene_clutter", 0.0),
    ],
)
@pytest.mark.parametrize("recipe", ["check_data.py", "convert_data.py", "sam3_ft.py", "sam2_ft.py"])
def test_keys_of_scenes_are_refused_beside_real_data(tmp_path, run, recipe, key, value):
    TREES["cvat"](tmp_path / "data")
    status = 2 if recipe == "check_data.py" else 1
    said = run(recipe, "--dataset_name", tmp_path / "data", f"--{key}", value, status=status)
    assert f"`{key}` is " in said
    assert f"Leave `{key}` out, or set `dataset_name: synthetic`" in said
    given = ["--annotation_file", tmp_path / "data" / "a.json", "--dataset_name", "synthetic"]
    assert f"`{key}` is " in run(recipe, *given, f"--{key}", value, status=status)


def test_a_share_without_a_replay_is_refused(tmp_path, run):
    said = run("sam3_ft.py", "--dataset_name", tmp_path, "--replay_share", 0.5, status=1)
    assert "`replay_share` is 0.5, but there is no `replay`" in said


def check(run, folder, *arguments, status):
    given = ["--dataset_name", folder, "--json", "true", "--num_pictures", 0, *arguments]
    return json.loads(run("check_data.py", *given, status=status))


def write_validation(tmp_path, file, content: str) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.png").write_bytes((tmp_path / "train" / "b.png").read_bytes())
    (file.parent / "instances_val.json").write_text(content)


def entries(names: str) -> list[dict]:
    return [{"id": i, "file_name": f"{n}.png", "width": 40, "height": 30} for i, n in enumerate(names)]


def test_a_check_fails_where_a_training_run_refuses_the_data(tmp_path, run, coco):
    file = coco([square(0, 1)], entries("ab"))
    assert check(run, tmp_path, status=0)["usable"]
    negative = json.dumps({"images": entries("a"), "annotations": [], "categories": [{"id": 1, "name": "cat"}]})
    write_validation(tmp_path, file, negative)
    found = check(run, tmp_path, status=1)
    assert not found["usable"]
    assert any("no phrase has a single instance" in f["detail"] and not f["usable"] for f in found["findings"])
    (file.parent / "instances_val.json").write_text("{")
    found = check(run, tmp_path, status=1)
    assert any("this is not JSON" in f["detail"] and not f["usable"] for f in found["findings"])
    assert check(run, tmp_path, "--eval_split", "train", status=0)["usable"]


def test_a_check_fails_for_keys_that_a_training_run_refuses(tmp_path, run, coco):
    coco([square(0, 1)], entries("ab"))
    found = check(run, tmp_path, "--eval_split", "test", status=1)
    assert found["findings"][-1]["kind"] == "a training run is refused"
    assert found["findings"][-1]["detail"] == "`eval_split` is 'test', found train"
    found = check(run, tmp_path, "--unseen_phrases", "zebra", status=1)
    assert "`unseen_phrases` names 'zebra'" in found["findings"][-1]["detail"]


def test_a_check_decodes_no_image_twice(tmp_path, run, coco, monkeypatch):
    coco([square(0, 1)], entries("ab"))
    decoded = []
    measure = images.upright_size
    monkeypatch.setattr(
        rows, "upright_size", lambda image, decode: decoded.append(decode) or measure(image, decode=decode)
    )
    check(run, tmp_path, status=0)
    assert decoded.count(True) == 2


def test_control_characters_reach_no_terminal(tmp_path, run, coco):
    coco([square(0, 1)], entries("ab"), [{"id": 1, "name": "cat\x1b[31m"}])
    said = run("check_data.py", "--dataset_name", tmp_path, "--num_pictures", 0)
    assert "\x1b" not in said
    assert "cat\\x1b[31m" in said


def test_long_names_do_not_stop_a_conversion(tmp_path, run):
    """Two images in deep folders: their ids are longer than a file name may be, and differ at the end alone."""
    deep = "/".join(["a" * 100] * 3)
    for name in ("one", "two"):
        folder = tmp_path / "data" / deep
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / f"{name}.png")
        shape = {"label": "cat", "shape_type": "polygon", "points": [[5, 5], [15, 5], [15, 15]]}
        content = {
            "shapes": [shape],
            "imagePath": f"{name}.png",
            "imageHeight": 30,
            "imageWidth": 40,
            "imageData": None,
        }
        (folder / f"{name}.json").write_text(json.dumps(content))
    run("convert_data.py", "--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "coco")
    written = [file.name for file in (tmp_path / "coco" / "train_images").iterdir()]
    assert len(written) == len(set(written)) == 2
    assert all(len(name.encode()) <= 255 for name in written)
    assert "2 images" in run("check_data.py", "--dataset_name", tmp_path / "coco", "--num_pictures", "0")
