"""Reading, check and conversion in several processes: the same rows, findings, files and errors for any number."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sam_ft.data import sources
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.row_schema import DatasetFormatError
from sam_ft.data.sources import read_splits
from sam_ft.data.validation import image_checks
from sam_ft.data.validation.inspection import add_training_refusal, inspect_splits
from sam_ft.data.writers import conversion
from sam_ft.data.writers.coco_files import write_coco
from sam_ft.data.writers.conversion import conversion_target, write_rows
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.utils import parallel

from ..conftest import square


NUMBERS = (1, 2, 3)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 5)
    monkeypatch.setattr(parallel, "MIN_SECONDS", 0)
    monkeypatch.setattr(image_checks, "_remembered", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO tree of 26 training and 12 validation images with many kinds of defects."""
    folder, draws = tmp_path_factory.mktemp("defects"), np.random.default_rng(0)
    (folder / "annotations").mkdir()
    for split, number in (("train", 26), ("val", 12)):
        (folder / split / "deep").mkdir(parents=True)
        images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, number + 1)]
        annotations = [square(i, i, category_id=1 + i % 3) for i in range(1, number + 1) if i != 3]
        for image in images:
            picture = Image.fromarray(draws.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            picture.save(folder / split / image["file_name"])
        train = folder / split
        Image.open(train / "4.png").convert("RGBA").save(train / "4.png")
        Image.open(train / "5.png").convert("I;16").save(train / "5.png")
        shutil.copy(train / "1.png", train / "6.png")  # a copy
        shutil.copy(folder / "train" / "2.png", train / "7.png")  # a leak, in the validation split
        (train / "8.png").write_bytes((train / "8.png").read_bytes()[:300])  # truncated
        (train / "9.png").unlink()
        exif = Image.Exif()
        exif[0x0112] = 6
        images[9] |= {"file_name": "deep/10.jpg", "width": 30, "height": 40}
        Image.open(train / "10.png").save(train / "deep/10.jpg", exif=exif)
        images[10]["width"] = 41
        images[11]["file_name"] = images[0]["file_name"]  # other labels of the same picture
        annotations += [
            square(1, 100, category_id=2),
            square(2, 101, segmentation=[[1, 1, 5, 5]]),
            square(4, 102, area=7),
        ]
        categories = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "bird"), 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def read(folder, num_proc, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(**options), num_proc=num_proc)


def digests(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes()).hexdigest() for file in files}


def test_findings_do_not_depend_on_the_number_of_processes(folder):
    results = []
    for number in NUMBERS:
        image_checks._remembered.clear()
        splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
        inspection = inspect_splits(splits, ReadOptions(), 1008, lambda _: [], num_proc=number)
        results.append((inspection.findings, inspection.plain(), inspection.lines(10)))
    assert results[1:] == results[:1] * 2
    kinds = {finding.kind for finding in results[0][0]}
    assert kinds >= {
        "rows that cannot be used", "annotations that cannot be used", "duplicate image", "leak between splits",
        "duplicate instance", "images without an instance", "rotated by EXIF", "channels of images",
        "listed area is not the mask's",
    }  # fmt: skip


def test_converted_files_do_not_depend_on_the_number_of_processes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_SMALL_FILE", 20_000)  # bytes of about six images
    reports, files = [], []
    for number in NUMBERS:
        splits = read(folder, number, on_bad_rows="skip")
        reports.append([report for _, report in splits.values()])
        rows = {name: of_split for name, (of_split, _) in splits.items()}
        with conversion_target(tmp_path / str(number), overwrite=False, num_proc=number) as draft:
            for name, of_split in rows.items():
                write_coco(of_split, draft / "coco", name, splits=tuple(rows), num_proc=number)
                write_coco(of_split, draft / "polygons", name, polygons=True, splits=tuple(rows), num_proc=number)
            write_rows(rows, draft / "rows", "a test", number)
        files.append(digests(tmp_path / str(number)))
    assert reports[1:] == reports[:1] * 2
    assert [len(report.skipped) for report in reports[0]] == [4, 4]
    assert files[1:] == files[:1] * 2
    assert "coco/train_images/deep/10.png" in files[0]
    assert {f"rows/data/train-0000{i}-of-00004.parquet" for i in range(4)} < set(files[0])
    written = read(tmp_path / "1" / "rows", 1, on_bad_rows="skip", verify_images=False)["train"][0]
    assert written["example_id"][:5] == rows["train"]["example_id"][:5]
    # Two embedded images of the same content have other labels.
    finished = [read(tmp_path / "1" / "rows", number, on_bad_rows="skip") for number in NUMBERS]
    reports = [[report for _, report in splits.values()] for splits in finished]
    assert reports[1:] == reports[:1] * 2
    assert "same picture" in reports[0][0].skipped[0]


def test_a_check_converts_the_records_of_a_split_without_a_defect_once(shapes, monkeypatch):
    converted = []
    make_rows = sources.make_rows
    monkeypatch.setattr(sources, "make_rows", lambda *args: converted.append(args[0].source) or make_rows(*args))
    splits, _ = find_phrase_splits(DatasetOptions(str(shapes)))
    inspection = inspect_splits(splits, ReadOptions(), 1008, lambda _: [], num_proc=1)
    add_training_refusal(inspection, DatasetOptions(str(shapes)), ReadOptions(), 1)
    assert inspection.usable
    assert len(converted) == len(set(converted)) == 2


def test_the_error_is_that_of_the_first_row_that_cannot_be_used(folder):
    errors = []
    for number in NUMBERS:
        with pytest.raises(DatasetFormatError) as error:
            read(folder, number)
        errors.append((str(error.value), error.value.file, error.value.record))
    assert errors[1:] == errors[:1] * 2
    assert "image id 2 (2.png), annotation id 101: polygon part 0" in errors[0][0]
