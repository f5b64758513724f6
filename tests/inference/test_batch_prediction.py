"""Batch predictions that are stopped, divided over processes, or recorded by shard: outputs equal those of one run."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_ft import Sam3Predictor
from sam_ft.inference import batch_prediction, image_list, prediction_records
from sam_ft.inference.batch_prediction import run_job
from sam_ft.inference.image_list import ImageList
from sam_ft.inference.image_sources import find_images
from sam_ft.inference.prediction_job import PredictionJob
from sam_ft.options.model_names import TINY
from sam_ft.options.prediction import OUTPUTS, PredictOptions
from sam_ft.utils.processes import ProcessGroup


@pytest.fixture(scope="module")
def predictor():
    return Sam3Predictor.from_pretrained(TINY, options=PredictOptions(score_threshold=0.3), device="cpu")


@pytest.fixture(scope="module")
def pictures(shapes, tmp_path_factory):
    """Seven pictures in folders, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, file in enumerate(
        [*sorted((shapes / "train").glob("*.png")), *sorted((shapes / "val").glob("*.png"))]
    ):
        (folder / f"part {number % 2}").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / f"part {number % 2}" / f"{number}.png")
    (folder / "part 1" / "no picture.png").write_text("text")
    return folder


@pytest.fixture
def with_shards(monkeypatch):
    """Record predictions in shards of three images."""
    monkeypatch.setattr(image_list, "MAX_IN_MEMORY", 2)
    for module in (image_list, prediction_records):
        monkeypatch.setattr(module, "SHARD_SIZE", 3)
    monkeypatch.setattr(prediction_records.ShardRecords, "block_size", 3)
    monkeypatch.setattr(batch_prediction, "_LOADED_TOGETHER", 2)


def make_job(pictures, folder, **changes):
    arguments = {"outputs": list(OUTPUTS), "skip_bad": True} | changes
    return PredictionJob(find_images([str(pictures)]), ["circle", "red square", "star"], folder, **arguments)


def read_outputs(folder):
    """Read all files by name, without records of predictions."""
    files = (file for file in folder.rglob("*") if file.is_file())
    names = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    return {name: content for name, content in names.items() if not name.startswith("predictions/")}


@pytest.fixture(scope="module")
def expected(predictor, pictures, tmp_path_factory):
    """Outputs and lines of one process, with one record an image."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    lines = run_job(predictor, make_job(pictures, folder))
    return read_outputs(folder), lines


class Stopping:
    """Predictor that fails after a number of images."""

    def __init__(self, predictor, number):
        self.predictor, self.number, self.names = predictor, number, []

    def __getattr__(self, name):
        return getattr(self.predictor, name)

    def predict_job(self, images, job):
        self.names += [image.name for image in images]
        if len(self.names) > self.number:
            raise InterruptedError
        return self.predictor.predict_job(images, job)


@dataclass(frozen=True)
class Share(ProcessGroup):
    """Process whose companions do nothing."""

    def gather(self, value):
        return [value] * self.count

    def run_first(self, work):
        if self.is_main:
            work()


def test_a_stopped_prediction_in_shards_has_the_outputs_of_one_with_a_record_an_image(
    predictor, pictures, expected, with_shards, tmp_path
):
    predicted = []
    for number in (2, 3, 100):
        stopping = Stopping(predictor, number)
        try:
            lines = run_job(stopping, make_job(pictures, tmp_path / "out"))
        except InterruptedError:
            stopping.names = stopping.names[: number // 2 * 2]  # in batches of two
            draft = next((tmp_path / "out" / "predictions").glob(".*.pending.jsonl"), None)
            if draft is not None:
                draft.write_bytes(draft.read_bytes() + b'{"name": "half a li')
        predicted += stopping.names
    assert len(predicted) == len(set(predicted)) == 6
    assert read_outputs(tmp_path / "out") == expected[0]
    assert [line for line in lines if "holes" not in line] == [line for line in expected[1] if "holes" not in line]
    assert sorted(file.name for file in (tmp_path / "out" / "predictions").iterdir()) == [
        ".files",
        *(f"shard-{number:06d}.jsonl" for number in range(3)),
    ]


def test_a_changed_image_repeats_its_shard(predictor, pictures, with_shards, tmp_path):
    shutil.copytree(pictures, tmp_path / "in")
    run_job(predictor, make_job(tmp_path / "in", tmp_path / "out", outputs=["coco"]))
    first = sorted((tmp_path / "in" / "part 0").iterdir())[0]
    shutil.copyfile(sorted((tmp_path / "in" / "part 1").iterdir())[0], first)
    counting = Stopping(predictor, 100)
    run_job(counting, make_job(tmp_path / "in", tmp_path / "out", outputs=["coco"]))
    assert counting.names == ["part 0/0", "part 0/2", "part 0/4"]
    run_job(predictor, make_job(tmp_path / "in", tmp_path / "again", outputs=["coco"]))
    assert (tmp_path / "out" / "coco.json").read_bytes() == (tmp_path / "again" / "coco.json").read_bytes()


@pytest.mark.parametrize("in_shards", [False, True])
def test_edited_files_are_not_replaced(predictor, pictures, in_shards, tmp_path, request):
    if in_shards:
        request.getfixturevalue("with_shards")
    shutil.copytree(pictures, tmp_path / "in")
    with pytest.raises(InterruptedError):
        run_job(Stopping(predictor, 4), make_job(tmp_path / "in", tmp_path / "out", outputs=["labelme"]))
    edited = sorted((tmp_path / "out" / "labelme" / "part 0").iterdir())[0]
    edited.write_text("{}")
    foreign = tmp_path / "out" / "labelme" / "part 1" / "5.json"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("[]")
    with pytest.raises(ValueError, match=r"5\.json was not written by this prediction"):
        run_job(predictor, make_job(tmp_path / "in", tmp_path / "out", outputs=["labelme"]))
    assert (edited.read_text(), foreign.read_text()) == ("{}", "[]")


@pytest.mark.parametrize("in_shards", [False, True])
def test_shares_of_processes_give_the_outputs_of_one(predictor, pictures, expected, in_shards, tmp_path, request):
    if in_shards:
        request.getfixturevalue("with_shards")
    with pytest.raises(InterruptedError):  # The first process, which also merges, ends early.
        run_job(Stopping(predictor, 0), make_job(pictures, tmp_path / "out"), Share(0, 3))
    predicted = []
    for index in (2, 1):
        counting = Stopping(predictor, 100)
        run_job(counting, make_job(pictures, tmp_path / "out"), Share(index, 3))
        predicted += counting.names
    assert 0 < len(predicted) < 6
    counting = Stopping(predictor, 100)
    run_job(counting, make_job(pictures, tmp_path / "out"))
    assert sorted(predicted + counting.names) == sorted(f"part {n % 2}/{n}" for n in range(6))
    assert read_outputs(tmp_path / "out") == expected[0]


@pytest.mark.parametrize("in_shards", [False, True])
def test_edits_after_a_kill_and_older_files_are_not_replaced(predictor, pictures, in_shards, tmp_path, request):
    """A file of the same name with an older time, as `cp -p` writes it, and a corrected file without a record."""
    if in_shards:
        request.getfixturevalue("with_shards")
    job = make_job(pictures, tmp_path / "out", outputs=["labelme", "masks"])
    run_job(predictor, job)
    for record in (tmp_path / "out" / "predictions").glob("*.json*"):
        record.unlink()
    shutil.rmtree(tmp_path / "out" / "predictions" / "part 0", ignore_errors=True)
    run_job(predictor, job)  # deleted records are written again
    edited = sorted((tmp_path / "out" / "labelme" / "part 0").iterdir())[0]
    edited.write_text("{}")
    os.utime(edited, (1, 1))
    shutil.rmtree(tmp_path / "out" / "predictions")
    with pytest.raises(ValueError, match=rf"{edited.name} was not written by this prediction"):
        run_job(predictor, job)
    assert edited.read_text() == "{}"


def test_a_shard_whose_draft_was_not_renamed_is_complete(predictor, pictures, with_shards, expected, tmp_path):
    job = make_job(pictures, tmp_path / "out")
    run_job(predictor, job)
    shard = sorted((tmp_path / "out" / "predictions").glob("*.jsonl"))[1]
    shard.rename(shard.with_name(f".{shard.stem}.pending.jsonl"))
    counting = Stopping(predictor, 100)
    run_job(counting, job)
    assert counting.names == []
    assert read_outputs(tmp_path / "out") == expected[0]


@pytest.mark.parametrize("in_shards", [False, True])
def test_an_image_that_was_skipped_is_an_error_without_skip(predictor, pictures, in_shards, tmp_path, request):
    if in_shards:
        request.getfixturevalue("with_shards")
    run_job(predictor, make_job(pictures, tmp_path / "out", outputs=["coco"]))
    with pytest.raises(ValueError, match="no picture.png cannot be read"):
        run_job(predictor, make_job(pictures, tmp_path / "out", outputs=["coco"], skip_bad=False))


def test_outputs_of_unreadable_images_are_empty(predictor, pictures, tmp_path):
    for folder in ("in", "bad"):
        (tmp_path / folder).mkdir()
    shutil.copyfile(pictures / "part 0" / "0.png", tmp_path / "in" / "a.png")
    (tmp_path / "bad" / "a.png").write_text("text")
    for folder, number in (("in", 1), ("bad", 0)):
        lines = run_job(predictor, make_job(tmp_path / folder, tmp_path / "out", outputs=["coco", "parquet"]))
        assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == number
    assert lines == [f"skipped: {tmp_path / 'bad' / 'a.png'}: {lines[0].partition(': ')[2].partition(': ')[2]}"]


def test_damaged_shards_are_named(predictor, pictures, with_shards, tmp_path):
    job = make_job(pictures, tmp_path / "out", outputs=["coco"])
    run_job(predictor, job)
    shard = sorted((tmp_path / "out" / "predictions").iterdir())[1]
    lines = shard.read_text().splitlines()
    for content, message in (("[1]", "is no record of a prediction"), ("{", "cannot be read as JSON")):
        shard.write_text("\n".join([lines[0], content, *lines[2:], ""]))
        with pytest.raises(ValueError, match=f"{shard.name} {message}"):
            run_job(predictor, job)
    shard.write_text("")
    run_job(predictor, job)
    assert shard.read_text().splitlines() == lines


def test_processes_with_different_images_are_refused(predictor, pictures, tmp_path):
    @dataclass(frozen=True)
    class Other(Share):
        def gather(self, value):
            return [value, ("other", 7) if isinstance(value, tuple) else value]

    with pytest.raises(ValueError, match=r"the processes found different images \(7 of them\)"):
        run_job(predictor, make_job(pictures, tmp_path / "out"), Other(0, 2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("in_shards", [False, True])
def test_files_of_images_that_left_the_list_are_removed_unless_edited(
    predictor, pictures, in_shards, tmp_path, request
):
    """They are written again without a prediction when the images return; other files are never removed."""
    if in_shards:
        request.getfixturevalue("with_shards")
    shutil.copytree(pictures, tmp_path / "in", ignore=shutil.ignore_patterns("no picture.png"))
    outputs = ["labelme", "yolo", "coco"]
    job = make_job(tmp_path / "in", tmp_path / "out", outputs=outputs)
    run_job(predictor, job)
    first = read_outputs(tmp_path / "out")
    shutil.move(tmp_path / "in" / "part 1", tmp_path / "away")
    edited, foreign = tmp_path / "out/labelme/part 1/1.json", tmp_path / "out/yolo/labels/part 1/mine.txt"
    edited.write_text("{}")
    foreign.write_text("mine")
    images = [str(file) for file in sorted((tmp_path / "in").rglob("*.png"))]
    shorter = replace(job, images=ImageList(image for image in job.images if image.file in images))
    lines = run_job(predictor, shorter)
    assert [line for line in lines if "without a prediction" in line] == [
        "note: 8 output files of images without a prediction now were removed",
        "note: labelme/part 1/1.json: kept without a prediction of the image, because edited",
    ]
    second = read_outputs(tmp_path / "out")
    assert {name for name in second if "part 1" in name} == {
        "labelme/part 1/1.json", "yolo/labels/part 1/mine.txt"
    }  # fmt: skip
    shutil.move(tmp_path / "away", tmp_path / "in" / "part 1")
    counting = Stopping(predictor, 100)
    run_job(counting, make_job(tmp_path / "in", tmp_path / "out", outputs=outputs))
    assert counting.names == ([name for name in counting.names if in_shards])
    assert read_outputs(tmp_path / "out") == first | {
        "labelme/part 1/1.json": b"{}", "yolo/labels/part 1/mine.txt": b"mine", ".sam-ft-files.json": ANY
    }  # fmt: skip


def test_outputs_of_tricky_names_are_files_of_their_own(predictor, pictures, tmp_path):
    for name in ("a.png", "a.json/b.png", "a.txt/b.png", "a.jpg/b.png", ".files/a.png", "n" * 251 + ".png", "é\n.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures / "part 0" / "0.png", tmp_path / "in" / name)
    rows = [{"bytes": (pictures / "part 0" / "0.png").read_bytes(), "path": path} for path in (None, "x", "y.dat")]
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "b.parquet")
    job = make_job(tmp_path / "in", tmp_path / "out", outputs=["overlays", "masks", "labelme", "yolo", "cvat"])
    job = replace(job, images=find_images([str(tmp_path / "in"), str(tmp_path / "b.parquet")]))
    run_job(predictor, job)
    names = [image.name for image in job.images]
    assert len(set(names)) == 10
    for name in names:
        for file in (f"overlays/{name}.jpg", f"labelme/{name}.json", f"yolo/images/{name}.png", f"masks/{name}"):
            assert (tmp_path / "out" / file).exists(), file
    counting = Stopping(predictor, 100)
    run_job(counting, job)
    assert counting.names == []
