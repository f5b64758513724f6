"""Held-out evaluation images: never copies of training images, and independent of the seed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.options.data import DatasetOptions, ReadOptions

from ..conftest import square


@pytest.fixture
def labelled(coco, tmp_path):
    """Return `write(pictures)`, which writes `{file name: array (60, 80, 3)}` as COCO without a validation split."""

    def write(pictures: dict[str, np.ndarray]) -> str:
        (tmp_path / "train").mkdir(exist_ok=True)
        for name, values in pictures.items():
            Image.fromarray(values).save(tmp_path / "train" / name)
        images = [{"id": i, "file_name": name, "width": 80, "height": 60} for i, name in enumerate(pictures)]
        annotations = [square(i, i + 1) for i in range(len(images))]
        return str(coco(annotations, images, draw=False).parent.parent)

    return write


def smooth(seed: int) -> np.ndarray:
    """Draw an image whose difference hash is stable under small changes."""
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize((80, 60), Image.Resampling.BICUBIC))


def split(folder: str, fraction: float, **more) -> tuple[list[str], list[str], list[str]]:
    """Return the names of training images, the names of evaluation images, and the notes."""
    options = DatasetOptions(folder, validation_fraction=fraction, **more)
    data = load_phrase_dataset(options, ReadOptions())
    names = list(json.loads((Path(folder) / "annotations" / "instances_train.json").read_text())["images"])
    by_id = {str(image["id"]): image["file_name"] for image in names}
    return (
        [by_id[row["example_id"]] for row in data.train],
        [by_id[i] for i in data.validation["example_id"]],
        data.notes,
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("number", [2, 7, 23])
def test_images_without_copies_are_chosen_in_the_drawn_order(labelled, number, streaming):
    folder = labelled({f"{i}.png": smooth(i) for i in range(number)})
    train, validation, notes = split(folder, 0.3, streaming=streaming)
    order = keyed_draws(0, 0, "", "hold out").permutation(number).tolist()
    assert validation == [f"{i}.png" for i in sorted(order[: round(number * 0.3) or 1])]
    assert sorted([*train, *validation]) == sorted(f"{i}.png" for i in range(number))
    assert not any("images are copies" in note for note in notes)


@pytest.mark.parametrize("streaming", [False, True])
def test_roboflow_copies_of_a_source_stay_on_one_side(labelled, streaming):
    names = [f"s{i}_jpg.rf.{j:032x}.png" for i in range(5) for j in range(3)]
    train, validation, notes = split(labelled({n: smooth(i) for i, n in enumerate(names)}), 0.4, streaming=streaming)
    sources = [{name.partition(".rf.")[0] for name in side} for side in (train, validation)]
    assert len(validation) == 6
    assert not sources[0] & sources[1]
    assert any(note.startswith("15 training images are copies") and "in 5 groups" in note for note in notes)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v,
        lambda v: v[:, ::-1],
        lambda v: v[::-1, ::-1],
        lambda v: (v * 0.9).astype(np.uint8),
        lambda v: np.asarray(Image.fromarray(v).resize((40, 30)).resize((80, 60))),
    ],
    ids=["same", "mirrored", "turned", "darker", "blurred"],
)
def test_copies_of_other_names_stay_on_one_side(labelled, change):
    pictures = {f"{i}-{side}.png": smooth(i) for i in range(6) for side in "ab"}
    pictures = {name: np.ascontiguousarray(change(v)) if "b" in name else v for name, v in pictures.items()}
    train, validation, notes = split(labelled(pictures), 0.34)
    assert len(validation) == 4
    assert not {name[0] for name in train} & {name[0] for name in validation}
    assert any("in 6 groups" in note for note in notes)


def test_a_group_larger_than_the_share_is_trained_on(labelled):
    pictures = {f"s_jpg.rf.{i}.png": smooth(i) for i in range(6)} | {f"{i}.png": smooth(10 + i) for i in range(4)}
    train, validation, _ = split(labelled(pictures), 0.2)
    assert len(validation) == 2
    assert not any("rf" in name for name in validation)
    assert len(train) == 8


def test_the_smallest_group_is_held_out_if_none_fits(labelled):
    pictures = {f"{'ab'[i % 5 < 2]}_jpg.rf.{i}.png": smooth(i) for i in range(10)}  # six of a, four of b
    train, validation, _ = split(labelled(pictures), 0.1)
    assert {name[0] for name in validation} == {"b"}
    assert {name[0] for name in train} == {"a"}


def test_a_data_set_of_copies_alone_is_a_warning(labelled):
    folder = labelled({f"s_jpg.rf.{i}.png": smooth(i) for i in range(4)})
    data = load_phrase_dataset(DatasetOptions(folder, validation_fraction=0.25), ReadOptions())
    assert len(data.validation) == 1
    assert any("metrics will be optimistic" in warning for warning in data.warnings)
    assert any("metrics will be optimistic" in line for line in data.lines())


def test_frames_of_a_fixed_camera_are_not_one_group(labelled):
    frames = {}
    for i in range(8):
        frames[f"{i}.png"] = smooth(0).copy()
        frames[f"{i}.png"][i, i] = i  # other bytes, equal hash
    train, validation, notes = split(labelled(frames), 0.25)
    assert (len(train), len(validation)) == (6, 2)
    assert any("look alike" in note for note in notes)


def test_training_annotations_are_not_evaluated(labelled, tmp_path):
    folder = labelled({f"{i}.png": smooth(i) for i in range(3)})
    file = f"{folder}/annotations/instances_train.json"
    copy = shutil.copy(file, tmp_path / "copy.json")
    (tmp_path / "link.json").symlink_to(file)

    def load(other, **more):
        options = DatasetOptions(
            annotation_file=file, image_folder=f"{folder}/train", eval_annotation_file=str(other), **more
        )
        return load_phrase_dataset(options, ReadOptions())

    for other, problem in (
        (file, "is the same file"),
        (tmp_path / "link.json", "is the same file"),
        (copy, "has the same content"),
    ):
        with pytest.raises(
            ValueError, match=rf"`eval_annotation_file`: .* {problem} as .*leave `eval_annotation_file` out"
        ):
            load(other)
    content = json.loads(Path(copy).read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    Path(copy).write_text(json.dumps(content))
    assert len(load(copy).validation) == 1


def test_an_evaluation_of_the_training_split_is_a_warning(labelled):
    folder = labelled({f"{i}.png": smooth(i) for i in range(3)})
    data = load_phrase_dataset(DatasetOptions(folder, eval_split="train"), ReadOptions())
    (warning,) = data.warnings
    assert "both 'train'" in warning
    assert "metrics will be optimistic" in warning
