"""Tests of streams: rows equal to those of a complete conversion, in an order independent of workers and ranks."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from sam_ft.data.hub.parquet import ParquetRows
from sam_ft.data.lazy_rows import WINDOW, LazyRows, MixedRows, order_of
from sam_ft.data.loading import find_phrase_splits, load_phrase_dataset
from sam_ft.data.samples.pipeline import EpochSampler, TrainingSamples
from sam_ft.data.sources import read_splits
from sam_ft.data.writers.conversion import write_rows
from sam_ft.options.augmentation import TransformOptions
from sam_ft.options.data import DatasetOptions, HubSource, ReadOptions
from sam_ft.options.phrases import PhraseOptions, PromptOptions

from .readers.trees import TREES


def read_whole_and_stream(folder, options: dict, hub: HubSource | None = None):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder), hub=hub or HubSource()))
    (name,) = splits
    whole = read_splits(splits, ReadOptions(**options))[name][0]
    return whole, read_splits(splits, ReadOptions(**options), lazy=(name,))[name][0]


def plain(row: dict) -> dict:
    return row | {"image": np.asarray(row["image"].convert("RGB")).tobytes()}


@pytest.mark.parametrize("name", TREES)
def test_a_stream_equals_the_complete_conversion(tmp_path, name):
    options = TREES[name](tmp_path)
    whole, stream = read_whole_and_stream(tmp_path, options)
    assert isinstance(stream, LazyRows)
    assert [plain(row) for row in whole] == [plain(row) for row in stream]


@pytest.fixture
def parquet(shapes, tmp_path, monkeypatch):
    """Write the four training scenes as parquet files of two row groups."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = load_phrase_dataset(DatasetOptions(str(shapes)), ReadOptions()).train
    folder = write_rows({"train": rows}, tmp_path / "rows", "a test")
    table = Dataset.from_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    for number in range(2):
        file = folder / "data" / f"train-{number:05d}-of-00002.parquet"
        table.select(range(2 * number, 2 * number + 2)).to_parquet(file, batch_size=1)
    (folder / "data" / "train-00000-of-00001.parquet").unlink()
    return folder


def test_parquet_files_are_read_by_row(parquet):
    whole, stream = read_whole_and_stream(parquet, {}, HubSource(streaming=True))
    assert isinstance(stream.make.rows, ParquetRows)
    assert stream.groups == [range(0, 1), range(1, 2), range(2, 3), range(3, 4)]
    assert [plain(row) for row in whole] == [plain(row) for row in stream]
    assert plain(stream[3]) == plain(whole[3])


def samples(rows) -> TrainingSamples:
    return TrainingSamples(
        rows, seed=3, phrases=PhraseOptions(), transforms=TransformOptions(112, "plain"), prompts=PromptOptions()
    )


def test_training_samples_of_a_stream_equal_those_of_the_complete_conversion(parquet):
    whole, stream = read_whole_and_stream(parquet, {}, HubSource(streaming=True))
    for key in ((0, 1), (2, 3)):
        first, second = asdict(samples(whole)[key]), asdict(samples(stream)[key])
        for name, value in first.items():
            assert torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_and_workers_read_every_row_once(parquet, ranks):
    _, stream = read_whole_and_stream(parquet, {}, HubSource(streaming=True))
    seen = []
    for rank in range(ranks):
        keys = list(EpochSampler(stream, 0))[rank::ranks]
        loader = DataLoader(
            samples(stream), sampler=keys, num_workers=2, batch_size=1, collate_fn=lambda batch: batch[0].example_id
        )
        seen += list(loader)
    assert sorted(seen) == sorted(row["example_id"] for row in stream)


def test_an_epoch_is_a_permutation_within_windows_of_groups(tmp_path):
    groups = [range(i * 10, i * 10 + 10) for i in range(64)]
    rows = LazyRows(lambda place: {}, 640, groups=groups)
    order = rows.order(0, 0)
    assert sorted(order) == list(range(640))
    assert order.tolist() == rows.order(0, 0).tolist()
    assert order.tolist() != rows.order(0, 1).tolist()
    for window in order.reshape(-1, 10 * WINDOW):
        assert len({i // 10 for i in window}) == WINDOW
    part = rows.select(range(0, 640, 7))
    assert sorted(part.order(0, 0)) == list(range(len(part)))


def test_bad_rows_raise_or_are_replaced(coco, caplog):
    from ..conftest import square

    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
    file = coco([square(1, 1), square(2, 2), square(3, 3)], images)
    (file.parent.parent / "train" / "2.png").write_bytes(b"no image")
    splits, _ = find_phrase_splits(DatasetOptions(str(file.parent.parent)))
    stream = read_splits(splits, ReadOptions(), lazy=("train",))["train"][0]
    assert stream[0]["example_id"] == "1"
    with pytest.raises(ValueError, match="image id 2.*cannot be read"):
        stream[1]
    stream = read_splits(splits, ReadOptions(on_bad_rows="skip"), lazy=("train",))["train"][0]
    assert [row["example_id"] for row in stream] == ["1", "3", "3"]


def test_invalid_annotations_are_left_out_of_streamed_rows(coco, caplog):
    from ..conftest import square

    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco([square(1, 1), square(2, 2), square(2, 3, segmentation=[[1, 2, 3, 4]])], images)
    splits, _ = find_phrase_splits(DatasetOptions(str(file.parent.parent)))
    with pytest.raises(ValueError, match="annotation id 3.*2 point"):
        read_splits(splits, ReadOptions(), lazy=("train",))["train"][0][1]
    options = ReadOptions(on_bad_rows="skip")
    whole = read_splits(splits, options)["train"][0]
    stream = read_splits(splits, options, lazy=("train",))["train"][0].select([0, 1])
    for _ in range(2):
        for before, after in zip(whole, stream, strict=True):
            assert after["instances"] == before["instances"]
            assert after["phrases"] == before["phrases"]
    assert [phrase["exhaustive"] for row in stream for phrase in row["phrases"]] == [True, False]
    assert [record.getMessage().count("annotation id 3") for record in caplog.records] == [1]


def numbered(name: str, size: int) -> list[dict]:
    return [{"example_id": f"{name}{i}"} for i in range(size)]


def test_a_mixture_follows_its_weights_and_loses_no_row():
    mixed = MixedRows([numbered("a", 30), numbered("b", 100), numbered("c", 5)], [0.5, 0.3, 0.2])
    assert len(mixed) == 60
    epochs = [[mixed[i]["example_id"] for i in mixed.order(0, epoch)] for epoch in range(5)]
    for epoch in epochs:
        counts = Counter(name.split("/")[-1][0] for name in epoch)
        assert counts == {"a": 30, "b": 18, "c": 12}
        assert len({name for name in epoch if name[0] == "a"}) == 30
    seen = Counter(name for epoch in epochs for name in epoch if "b" in name)
    assert max(seen.values()) == 1  # Five epochs draw 90 of the 100 images, none of them twice.
    assert epochs[0] == [mixed[i]["example_id"] for i in mixed.order(0, 0)]
    assert epochs[0] != epochs[1]
    with pytest.raises(ValueError, match="weight above 0"):
        MixedRows([numbered("a", 3)], [0.0])


def test_a_small_weight_is_not_rounded_away():
    """Nine images with weights 19:1 are half an image per epoch of the other data set, which is rounded up to one."""
    mixed = MixedRows([numbered("a", 9), numbered("b", 50)], [0.95, 0.05])
    drawn = [mixed[i]["example_id"] for epoch in range(120) for i in mixed.order(0, epoch)]
    assert sum("b" in name for name in drawn) == 120
    three = MixedRows([numbered("a", 9), numbered("b", 50), numbered("c", 50)], [0.9, 0.05, 0.05])
    drawn = Counter(three[i]["example_id"].split("/")[-1][0] for epoch in range(120) for i in three.order(0, epoch))
    # Both share one image per epoch: 60 of "b" are expected, with a standard deviation of 5.5.
    assert 40 <= drawn["b"] <= 80
    assert drawn["b"] + drawn["c"] == 120


def test_held_out_rows_of_a_stream_are_not_in_training(coco):
    """Skipped rows are left out of the validation rows and not replaced by training rows."""
    from ..conftest import square

    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 11)]
    bad = {1, 4, 7}
    folder = coco([square(i, i) for i in range(1, 11)], images).parent.parent
    for i in bad:
        (folder / "train" / f"{i}.png").write_bytes(b"no image")
    folder = str(folder)
    options = DatasetOptions(folder, streaming=True, validation_fraction=0.4)
    data = load_phrase_dataset(options, ReadOptions(on_bad_rows="skip"))
    validation_ids, train_ids = set(data.validation["example_id"]), {row["example_id"] for row in data.train}
    assert validation_ids
    assert not validation_ids & train_ids
    assert not (validation_ids | train_ids) & set(map(str, bad))


def test_extra_datasets_are_mixed_by_weight(shapes, tmp_path):
    TREES["polygons"](tmp_path / "fruit")
    options = DatasetOptions(str(shapes), extra_datasets=[str(tmp_path / "fruit")], mixture_weights=[2, 1])
    data = load_phrase_dataset(options, ReadOptions())
    assert isinstance(data.train, MixedRows)
    assert {"circle", "apple"} <= data.category_ids.keys()
    assert any("an epoch draws 6 images, 67%, 33% of them" in note for note in data.notes)
    assert {data.train[int(i)]["example_id"][:2] for i in order_of(data.train, 0, 0)} >= {"1/"}
    with pytest.raises(ValueError, match="`mixture_weights` has 3 numbers"):
        load_phrase_dataset(
            DatasetOptions(str(shapes), extra_datasets=["x"], mixture_weights=[1, 1, 1]), ReadOptions()
        )
