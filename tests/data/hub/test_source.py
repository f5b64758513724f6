"""Tests of the cache of local folders in the formats of the Hub."""

import shutil

import pytest
from datasets import Dataset, Features, Image, List, Value

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, ReadOptions

from .made import IMAGES, POLYGONS


CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---
"""


@pytest.fixture(autouse=True)
def _isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder, label: str, image: int):
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    square = [[[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]]
    columns = {"image": [IMAGES[image]], "segmentation": [square], "category": [[label]]}
    features = Features({"image": Image(), "segmentation": POLYGONS, "category": List(Value("string"))})
    Dataset.from_dict(columns, features=features).to_parquet(folder / "data" / "train-00000.parquet")


def read_phrases(folder) -> set[str]:
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    rows, _ = read_splits(splits, ReadOptions())["train"]
    return {phrase["text"] for phrases in rows["phrases"] for phrase in phrases}


def test_folders_of_one_name_are_not_confused(tmp_path):
    """`datasets` caches both under one key, because their cards list the same files."""
    for number, label in enumerate(("apple", "plum")):
        write(tmp_path / label / "fruits", label, number)
        assert read_phrases(tmp_path / label / "fruits") == {label}


def test_a_folder_that_is_written_again_is_read_again(tmp_path):
    for number, label in enumerate(("apple", "plum")):
        write(tmp_path / "fruits", label, number)
        assert read_phrases(tmp_path / "fruits") == {label}
        shutil.rmtree(tmp_path / "fruits")
