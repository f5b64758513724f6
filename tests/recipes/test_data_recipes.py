"""End-to-end runs of check_data.py and convert_data.py."""

import json

import pytest
from PIL import Image, ImageFile

from ..conftest import square
from ..data.readers.trees import TREES
from ..training.common import ROOT


CONFIGS = ROOT / "recipes" / "configs"


@pytest.fixture
def run(script):
    def run(name, *arguments, status=0):
        """Run a script, check its exit status, and return its output, or its error stream if that is empty."""
        exit_status, output, error = script(name, *arguments)
        assert exit_status == status, error
        return output or error

    return run


def test_a_check_prints_a_report_and_writes_a_page(tmp_path, run):
    TREES["polygons"](tmp_path / "data")
    output = run(
        "check_data.py", "--config", CONFIGS / "sam3_full.yaml", "--dataset_name", tmp_path / "data", "--gallery_dir",
        tmp_path / "check", "--resolution", "224",
    )  # fmt: skip
    assert "data is polygons; set `layout`" in output
    assert "apple (2), pear (1)" in output
    assert output.index("images without an instance: 1") < output.index("index.html")
    assert "usable" in output.splitlines()[-3:]
    page = (tmp_path / "check" / "index.html").read_text()
    samples = page[page.index('<section id="samples">') :]
    assert samples.count("<figure") == 2
    assert samples.count("<img src=") == 4  # the row and the model's input
    assert page.count("<figure") == 3  # the image without an instance is also a finding


def test_a_check_as_json(tmp_path, run):
    TREES["labelme"](tmp_path / "data")
    (tmp_path / "data" / "first.png").unlink()
    report = json.loads(
        run("check_data.py", "--dataset_name", tmp_path / "data", "--json", "true", "--num_pictures", "0", status=1)
    )
    assert not report["usable"]
    assert report["findings"][0]["kind"] == "a split cannot be read"
    assert report["findings"][0]["severity"] == "blocks training"
    assert report["verdict"].startswith("not usable as it is: a split cannot be read: ")
    error = run("check_data.py", "--dataset_name", tmp_path / "nothing", status=2)
    assert "there is no folder" in error


def test_a_conversion_and_its_second_run(tmp_path, run):
    TREES["cvat"](tmp_path / "data")
    keys = ["--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "out"]
    run("convert_data.py", *keys)
    assert (tmp_path / "out" / "annotations" / "train_coco.json").is_file()
    assert "contains an earlier result" in run("convert_data.py", *keys, status=1)
    run("convert_data.py", *keys, "--overwrite", "true", "--hold_out_phrases", "pear", status=0)
    assert (tmp_path / "out" / "annotations" / "val_coco.json").is_file()
    for target in (tmp_path / "data", tmp_path, tmp_path / "data" / "images" / "out"):
        assert "would be overwritten" in run("convert_data.py", *keys[:2], "--target_dir", target, status=1)
    (tmp_path / "precious" / "annotations").mkdir(parents=True)
    error = run("convert_data.py", *keys[:2], "--target_dir", tmp_path / "precious", "--overwrite", "true", status=1)
    assert "contains annotations, which this command did not write" in error
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert "mine.txt" in run("convert_data.py", *keys, "--overwrite", "true", status=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--new_validation_fraction", "1.5"], "`new_validation_fraction` must be above 0 and below 1, got 1.5"),
        (["--polygons", "true", "--output_format", "rows"], "`polygons` is for"),
        (["--push_to_hub", "me/x"], "needs `output_format: rows`"),
        (["--hold_out_phrases", "plum"], "contains 'plum', which is not among the 2 phrases: apple, pear"),
        (["--splits", "test"], "`splits` has no split 'test'. Use one of: train"),
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
def test_invalid_conversions_are_refused(tmp_path, arguments, message, run):
    TREES["cvat"](tmp_path / "data")
    error = run(
        "convert_data.py", "--dataset_name", tmp_path / "data", "--target_dir", tmp_path / "out", *arguments, status=1
    )
    assert message in error


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
    error = run(recipe, "--dataset_name", tmp_path / "data", f"--{key}", value, status=status)
    assert f"`{key}` is " in error
    assert f"Leave `{key}` out, or set `dataset_name: synthetic`" in error
    files = ["--annotation_file", tmp_path / "data" / "a.json", "--dataset_name", "synthetic"]
    assert f"`{key}` is " in run(recipe, *files, f"--{key}", value, status=status)


def test_a_share_without_a_replay_is_refused(tmp_path, run):
    error = run("sam3_ft.py", "--dataset_name", tmp_path, "--replay_share", 0.5, status=1)
    assert "`replay_share` is 0.5, but there is no `replay`" in error


def check(run, folder, *arguments, status):
    keys = ["--dataset_name", folder, "--json", "true", "--num_pictures", 0, *arguments]
    return json.loads(run("check_data.py", *keys, status=status))


def blocking_details(report: dict) -> list[str]:
    """List the details of the findings that block training."""
    return [record["detail"] for group in report["findings"] if not group["usable"] for record in group["records"]]


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
    report = check(run, tmp_path, status=1)
    assert not report["usable"]
    assert any("no phrase has a single instance" in detail for detail in blocking_details(report))
    (file.parent / "instances_val.json").write_text("{")
    report = check(run, tmp_path, status=1)
    assert any("this is not JSON" in detail for detail in blocking_details(report))
    assert check(run, tmp_path, "--eval_split", "train", status=0)["usable"]


def test_a_check_fails_for_keys_that_a_training_run_refuses(tmp_path, run, coco):
    coco([square(0, 1)], entries("ab"))
    report = check(run, tmp_path, "--eval_split", "test", status=1)
    assert report["findings"][0]["kind"] == "a training run is refused"
    assert blocking_details(report) == ["`eval_split` is 'test', found train"]
    report = check(run, tmp_path, "--unseen_phrases", "zebra", status=1)
    (detail,) = blocking_details(report)
    assert "`unseen_phrases` contains 'zebra'" in detail


def test_a_check_decodes_no_image_twice(tmp_path, run, coco, monkeypatch):
    coco([square(0, 1)], [entry | {"file_name": f"{entry['id']}.jpg"} for entry in entries("ab")])
    decoded = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self) or load(self))
    check(run, tmp_path, status=0)
    assert len({id(image) for image in decoded}) == 2


def test_control_characters_are_escaped_in_the_output(tmp_path, run, coco):
    coco([square(0, 1)], entries("ab"), [{"id": 1, "name": "cat\x1b[31m"}])
    output = run("check_data.py", "--dataset_name", tmp_path, "--num_pictures", 0)
    assert "\x1b" not in output
    assert "cat\\x1b[31m" in output


def test_long_names_do_not_stop_a_conversion(tmp_path, run):
    """The ids of two images in deep folders exceed the length of a file name, and differ at the end alone."""
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
