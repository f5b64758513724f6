"""Recorded fingerprints of a run's data: changed labels or images are refused."""

import json
import shutil

import pytest
from PIL import Image

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.training.checkpoints import RUN_KIND
from sam_ft.training.data_record import DataRecord
from sam_ft.utils.owned_files import OwnedFiles


@pytest.fixture
def tree(shapes, tmp_path):
    return shutil.copytree(shapes, tmp_path / "data")


def read(tree):
    return load_phrase_dataset(DatasetOptions(str(tree)), ReadOptions())


def relabel(tree, split="val"):
    file = tree / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))


def recolour(tree, split="train"):
    file = tree / split / "00001.png"
    with Image.open(file) as image:
        size = image.size
    Image.new("RGB", size, "red").save(file)


@pytest.mark.parametrize(
    "change, message",
    [
        (relabel, "1 validation image with other annotations"),
        (recolour, r"1 train image with another image file \(1\)"),
        (lambda tree: relabel(tree, "train"), "1 train image with other annotations"),
    ],
)
def test_changed_data_are_refused(tree, tmp_path, change, message):
    file = tmp_path / "data.json"
    DataRecord(read(tree)).write(file)
    DataRecord(read(tree)).check(file)
    shutil.copytree(tree, tmp_path / "elsewhere")
    DataRecord(read(tmp_path / "elsewhere")).check(file)  # a copy of the same data
    change(tree)
    with pytest.raises(
        ValueError, match=rf"the data changed since .*data.json was written: {message}.*`start_over: true`"
    ):
        DataRecord(read(tree)).check(file)


def test_changed_labels_are_detected_without_reading_images(tree, tmp_path):
    file = tmp_path / "data.json"
    DataRecord(read(tree)).write(file)
    DataRecord(read(tree), with_images=False).check(file)
    relabel(tree)
    with pytest.raises(ValueError, match="1 validation image with other annotations"):
        DataRecord(read(tree), with_images=False).check(file)


def test_images_replaced_during_a_run_are_detected(tree):
    record = DataRecord(read(tree))
    file = tree / "train" / "00001.png"
    content = file.read_bytes()
    file.write_bytes(content)  # the same content again
    record.check_unchanged()
    recolour(tree)
    with pytest.raises(ValueError, match=r"replaced during the run: 1 train image with another image file"):
        record.check_unchanged()


def test_validation_images_in_the_training_split_give_a_warning(tree):
    assert DataRecord(read(tree)).list_warnings() == []
    shutil.copyfile(tree / "train" / "00002.png", tree / "val" / "00001.png")
    (warning,) = DataRecord(read(tree)).list_warnings()
    assert warning.startswith("WARNING: 1 of 2 validation images are also training images (1)")


SHORT = [
    "--max_steps", "1", "--gradient_accumulation_steps", "1", "--dataloader_num_workers", "0", "--disable_tqdm", "true", "--use_cpu", "true",
    "--num_pictures", "1", "--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no", "--probe_images", "1",
    "--model_name_or_path", "sam-ft/random-tiny",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_refuses_labels_that_changed_between_two_starts(script, tree, tmp_path):
    """The folder is a symbolic link with braces in its name, and one of its results files is empty."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out {0} {x}").symlink_to(tmp_path / "disk")
    call = ["sam3_ft.py", "--dataset_name", tree, "--output_dir", "out {0} {x}", *SHORT]
    status, _, errors = script(*call)
    assert status == 0, errors
    out = tmp_path / "out {0} {x}"
    assert list(out.glob("runs/*/events.out.tfevents.*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "disk", out.name]
    assert '"out {0} {x}"' in (out / "README.md").read_text()
    before = (out / "before_results.json").read_text()
    (out / "before_results.json").write_text("")
    OwnedFiles(out, RUN_KIND).begin([])  # a full disk, then a kill before the file was recorded
    status, _, errors = script(*call)
    assert status == 1
    assert "before_results.json cannot be read as JSON (the file is empty)" in errors
    (out / "before_results.json").write_text(before)
    OwnedFiles(out, RUN_KIND).begin([])
    relabel(tree)
    status, _, errors = script(*call)
    assert status == 1
    assert "1 validation image with other annotations" in errors
    assert (out / "before_results.json").read_text() == before
    status, _, errors = script(*call, "--start_over", "true")
    assert status == 0, errors
    assert (out / "before_results.json").read_text() != before
