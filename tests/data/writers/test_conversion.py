"""Tests of conversions: names of images and splits, phrases that are read unchanged, and kills at every moment."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from datasets import Dataset, concatenate_datasets
from PIL import Image

from sam_ft.data.loading import find_phrase_splits, load_phrase_dataset
from sam_ft.data.row_schema import to_dataset
from sam_ft.data.sources import read_splits
from sam_ft.data.splits import match_phrases
from sam_ft.data.writers.coco_files import write_coco
from sam_ft.data.writers.conversion import MARKER, check_target, conversion_target, write_rows
from sam_ft.data.writers.image_names import ImageNames
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.phrases import PhraseMap
from sam_ft.utils.locks import LOCK_FILE

from ...training.common import ROOT
from .conversion_trees import PHRASES, image_names, rotated_tiff, unusual_phrases


def read(folder, **options) -> dict:
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(**options))


def texts(rows) -> set[str]:
    return {phrase["text"] for phrases in rows["phrases"] for phrase in phrases}


def rows_of(file, *texts: str, number: int = 1) -> Dataset:
    instance = {"bbox": [1.0, 1.0, 5.0, 5.0], "segmentation": None, "area": 25.0, "is_crowd": False}
    phrases = [{"text": text, "instances": [0], "exhaustive": True} for text in texts]
    row = {"image": str(file), "width": 40, "height": 30, "instances": [instance], "phrases": phrases}
    return to_dataset([row | {"example_id": f"id {i}"} for i in range(number)])


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_phrases_are_read_unchanged(tmp_path):
    rows, _ = read(tmp_path / "source", **unusual_phrases(tmp_path / "source"))["train"]
    assert texts(rows) == set(PHRASES)
    file = write_coco(rows, tmp_path / "coco", "train")
    again, report = read(tmp_path / "coco")["train"]
    assert texts(again) == set(PHRASES)
    assert not [note for note in report.notes if "used as the phrase" in note or "background" in note]
    again, _ = read(tmp_path / "coco", phrase_map=PhraseMap({"t-shirt": "shirt", "void": None}))["train"]
    assert texts(again) == {"shirt", *PHRASES} - {"t-shirt", "void"}
    content = json.loads(file.read_text())
    assert {a["noun_phrase"] for a in content["annotations"]} < set(PHRASES)
    for source in ("noun_phrase", "both"):
        again, _ = read(tmp_path / "coco", phrase_source=source)["train"]
        assert texts(again) <= set(PHRASES)
    del content["info"]  # Another tool wrote the file again.
    file.write_text(json.dumps(content))
    assert "t shirt" in texts(read(tmp_path / "coco")["train"][0])


def test_phrases_that_a_normalizer_would_change_can_be_requested(tmp_path, image):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "b.png")
    rows = concatenate_datasets([rows_of(image, "t-shirt"), rows_of(tmp_path / "b.png", "cat")])
    rows = rows.remove_columns("example_id").add_column("example_id", ["a", "b"])
    for name in ("train", "validation"):
        write_coco(rows, tmp_path / "coco", name, splits=("train", "validation"))
    options = DatasetOptions(str(tmp_path / "coco"), unseen_phrases=["t-shirt"])
    data = load_phrase_dataset(options, ReadOptions())
    assert (texts(data.train), data.unseen) == ({"cat"}, {"t-shirt"})
    assert match_phrases({"train": rows}, ["t-shirt", "Cat"], "keep_phrases") == ["t-shirt", "cat"]


def test_images_keep_their_names(tmp_path):
    rows, _ = read(tmp_path / "source", **image_names(tmp_path / "source"))["train"]
    entries = json.loads(write_coco(rows, tmp_path / "coco", "train").read_text())["images"]
    assert {entry["file_name"]: entry.get("original_file_name") for entry in entries} == {
        "b/0.jpg": None,
        "a/0.jpg": None,
        "a/0.png": "a/0.tif",
        "a/0-1.png": None,
        "a/IMG_1.JPG": None,
        "a/two words é.webp": None,
        "a/x.png": None,
    }
    for name in ("a/0.jpg", "a/IMG_1.JPG"):
        assert (tmp_path / "coco" / "train_images" / name).read_bytes() == (
            tmp_path / "source" / "train" / name
        ).read_bytes()


def test_names_are_unique_and_stay_inside_the_folder():
    names = ImageNames()
    assert [names.assign(name, ".png") for name in ("a.png", "a.tif", "A.png", "b/a.png", "../b/a.png", "C:\\x\ny.png")] == [
        "a.png", "a-1.png", "A-2.png", "b/a.png", "b/a-1.png", "C:/x_y.png",
    ]  # fmt: skip
    assert names.assign("/etc/..", ".png") == "etc/image.png"
    assert names.assign("v1.2", ".jpg") == "v1.2.jpg"
    assert names.assign("\ud800.png", ".png").encode()
    long = [names.assign("ü" * 300 + end, ".png") for end in ("a.png", "b.png")]
    assert len(set(long)) == 2
    assert all(len(name.encode()) <= 255 for name in long)


def test_rows_of_one_image_share_its_file(tmp_path, image):
    write_coco(rows_of(image, "cat", number=2), tmp_path / "coco", "train")
    assert [file.name for file in (tmp_path / "coco" / "train_images").iterdir()] == ["a.png"]
    assert read(tmp_path / "coco")["train"][0]["example_id"] == ["id 0", "id 1"]


def test_a_rotated_tiff_has_the_size_of_its_annotations(tmp_path):
    rows, report = read(tmp_path / "source", **rotated_tiff(tmp_path / "source"))["train"]
    assert not report.skipped
    entries = json.loads(write_coco(rows, tmp_path / "coco", "train").read_text())["images"]
    for entry in entries:
        with Image.open(tmp_path / "coco" / "train_images" / entry["file_name"]) as written:
            assert written.size == (entry["width"], entry["height"])
            assert written.getexif().get(274, 1) == 1


def test_splits_keep_their_names(tmp_path, image):
    splits = {name: rows_of(image, name) for name in ("train", "validation", "train_small", "R&D", "R D", "test")}
    for name, rows in splits.items():
        write_coco(rows, tmp_path / "coco", name, splits=tuple(splits))
    assert {name: texts(rows) for name, (rows, _) in read(tmp_path / "coco").items()} == {n: {n} for n in splits}
    (tmp_path / "coco" / "annotations" / "val_coco.json").unlink()
    again = read(tmp_path / "coco")
    assert "validation" not in again
    assert any("also wrote the splits validation, which are missing" in note for note in again["train"][1].notes)
    (tmp_path / "coco" / "annotations" / "train_small_coco.json").rename(
        tmp_path / "coco" / "annotations" / "instances_val.json"
    )
    assert texts(read(tmp_path / "coco")["validation"][0]) == {"train_small"}  # The new name counts.


@pytest.mark.parametrize("name", ["R&D", "a/b", "all", "val-2"])
def test_split_names_that_datasets_cannot_read_are_refused(tmp_path, image, name):
    with pytest.raises(ValueError, match=f"`datasets` cannot read a split named '{name}'.*Set `output_format: coco`"):
        write_rows({name: rows_of(image, "cat")}, tmp_path / "rows", "a test")
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("formats", [("coco", "coco"), ("coco", "rows"), ("rows", "coco"), ("rows", "rows")])
def test_two_conversions_into_one_folder_do_not_mix(tmp_path, image, formats, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    target = tmp_path / "out"

    def write(draft, output_format: str, *splits: str, text: str):
        if output_format == "rows":
            write_rows({name: rows_of(image, text) for name in splits}, draft, "a test")
        else:
            for name in splits:
                write_coco(rows_of(image, text), draft, name, splits=splits)

    with conversion_target(target, overwrite=False) as draft:
        write(draft, formats[0], "train", "validation", text="cat")
    assert {name: texts(rows) for name, (rows, _) in read(target).items()} == {"train": {"cat"}, "validation": {"cat"}}
    before = sorted(file for file in target.rglob("*") if file.is_file())
    with pytest.raises(ValueError, match="contains an earlier result"):
        check_target(target, [], overwrite=False)
    with pytest.raises(FileNotFoundError), conversion_target(target, overwrite=True) as draft:
        write_coco(rows_of(tmp_path / "missing.png", "dog"), draft, "train")
    assert sorted(file for file in target.rglob("*") if file.is_file()) == before
    with conversion_target(target, overwrite=True) as draft:
        write(draft, formats[1], "train", text="dog")
    again = read(target)
    assert list(again) == ["train"]
    assert texts(again["train"][0]) == {"dog"}


# Runs a conversion in a forked process, and kills it before its n-th change of a file or folder.
_KILLS = """
import os, signal, sys
from pathlib import Path
from sam_ft.data.row_schema import to_dataset
from sam_ft.data.writers.coco_files import write_coco
from sam_ft.data.writers.conversion import conversion_target

image, target = sys.argv[1], Path(sys.argv[2])
instance = {"bbox": [1.0, 1.0, 5.0, 5.0], "segmentation": None, "area": 25.0, "is_crowd": False}
phrases = [{"text": "dog", "instances": [0], "exhaustive": True}]
row = {"example_id": "a", "image": image, "width": 40, "height": 30, "instances": [instance], "phrases": phrases}
rows = to_dataset([row])
list(rows)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link")

def convert(kill_before):
    count = 0
    def hook(event, arguments):
        nonlocal count
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or is_write:
            count += 1
            if count == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    with conversion_target(target, overwrite=True) as draft:
        for name in ("train", "validation"):
            write_coco(rows, draft, name, splits=("train", "validation"))

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            convert(int(line))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def converter(tmp_path, image):
    """Return a function that converts to `tmp_path / "out" / "converted"`, and returns the exit status."""
    script = [sys.executable, "-c", _KILLS, str(image), str(tmp_path / "out" / "converted")]

    def convert(kill_before: int) -> int:
        process.stdin.write(f"{kill_before}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield convert
        process.stdin.close()


@pytest.mark.slow
def test_a_killed_conversion_leaves_no_half(tmp_path, image, converter):
    """Before every change of a file: the target is missing, the earlier conversion, or the complete new one."""
    with conversion_target(tmp_path / "earlier", overwrite=False) as draft:
        write_coco(rows_of(image, "cat"), draft, "train")
    assert kill_at_changes(converter, tmp_path / "out" / "converted", None, 4) == ["missing", "new"]
    states = kill_at_changes(converter, tmp_path / "out" / "converted", tmp_path / "earlier", 1)
    assert states == ["earlier", "missing", "new"]


def kill_at_changes(converter, target, earlier, step: int) -> list[str]:
    """Return the states that kills leave, in the order of the changes before which a conversion is killed."""
    states = []
    for number in range(1, 200, step):
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if earlier is not None:
            shutil.copytree(earlier, target)
        status = converter(number)
        states.append(state_of(target))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if number % 4 == 1 or (earlier is not None and states[-1] == "missing"):  # The next run recovers.
            assert converter(0) == 0
            assert state_of(target) == "new"
            left = [path for path in target.parent.rglob("*") if path.is_file() and target not in path.parents]
            assert all(path.name.endswith(LOCK_FILE) for path in left)
    assert len(states) * step > 20
    return list(dict.fromkeys(states))


def state_of(target) -> str:
    """Return which conversion a folder contains; a part of one fails."""
    if not target.exists():
        return "missing"
    assert (target / MARKER).is_file()
    splits, _ = find_phrase_splits(DatasetOptions(str(target)))
    names = [p.name for p in (target / "annotations").iterdir()]
    if list(splits) == ["train"]:
        assert names == ["train_coco.json"]
        return "earlier"
    assert set(splits) == {"train", "validation"}
    assert sorted(names) == ["train_coco.json", "val_coco.json"]
    assert {texts(rows).pop() for rows, _ in read_splits(splits, ReadOptions()).values()} == {"dog"}
    return "new"
