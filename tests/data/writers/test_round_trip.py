"""
Round trips: files → rows → COCO or parquet → rows, with equal phrases, masks, absences, exhaustiveness and names.

A new layout needs one line: an entry `"name": builder` in a dictionary `…_TREES` of a module `tests/data/…/*trees.py`. A
builder writes the layout to a folder, and returns the options to read it; `BUILDERS` collects all of them.
"""

import importlib
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from datasets import Image as ImageFeature

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.readers.layouts import find_splits
from sam_ft.data.sources import read_splits
from sam_ft.data.writers.coco_files import write_coco
from sam_ft.data.writers.conversion import write_rows
from sam_ft.options.data import LAYOUTS, DatasetOptions, ReadOptions

from ..hub.made import MADE
from .conversion_trees import CONVERSION_TREES


def collect_builders() -> dict:
    root, builders = Path(__file__).parents[1], {}
    for file in sorted(root.rglob("*trees.py")):
        module = importlib.import_module("." + ".".join(file.relative_to(root).with_suffix("").parts), "tests.data")
        for name, value in vars(module).items():
            if name.endswith("TREES") and isinstance(value, dict):
                builders |= value
    return builders


LOCAL = collect_builders()
BUILDERS = LOCAL | {f"hub_{name}": builder for name, builder in MADE.items()}


@pytest.fixture(autouse=True)
def _isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def read(folder, **options) -> dict:
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return {name: rows for name, (rows, _) in read_splits(splits, ReadOptions(**options)).items()}


def as_coco(splits: dict, folder, *, polygons: bool = False) -> dict:
    for name, rows in splits.items():
        write_coco(rows, folder, name, polygons=polygons, splits=tuple(splits))
    return read(folder)


def as_rows(splits: dict, folder) -> dict:
    return read(write_rows(splits, folder, "a test"))


def plain_instance(instance: dict) -> tuple:
    box = tuple(np.float32(instance["bbox"]).tolist())
    return instance["segmentation"], box, round(instance["area"], 2), instance["is_crowd"]


def contents(splits: dict) -> dict:
    """Return everything that a conversion must keep, by split and id; the order of phrases does not matter."""
    return {
        (split, row["example_id"]): {
            "size": (row["width"], row["height"]),
            "instances": sorted(map(repr, map(plain_instance, row["instances"]))),
            "phrases": {
                phrase["text"]: (
                    sorted(repr(plain_instance(row["instances"][i])) for i in phrase["instances"]),
                    phrase["exhaustive"],
                )
                for phrase in row["phrases"]
            },
            "name": name_of(row["image"]),
        }
        for split, rows in splits.items()
        for row in rows.cast_column("image", ImageFeature(decode=False))
    }


def name_of(image: dict) -> str | None:
    """Return the name of an image file without its suffix, which changes if the image is written as PNG."""
    return PurePosixPath(image["path"]).stem if image["path"] else None


def assert_equal(again: dict, original: dict):
    expected, received = contents(original), contents(again)
    assert received.keys() == expected.keys()
    for key, content in expected.items():
        if content["name"] is None:  # An embedded image has no name.
            content = content | {"name": received[key]["name"]}
        assert received[key] == content, key
    for split, rows in original.items():
        for before, after in zip(rows, again[split], strict=True):
            assert before["image"].size == after["image"].size == (after["width"], after["height"])
            if before["image"].mode in ("RGB", "L"):
                assert np.array_equal(*(np.asarray(row["image"].convert("RGB")) for row in (before, after)))


@pytest.mark.parametrize("name", BUILDERS)
def test_nothing_is_lost_by_a_conversion(tmp_path, name):
    original = read(tmp_path / "source", **BUILDERS[name](tmp_path / "source"))
    coco = as_coco(original, tmp_path / "coco")
    assert_equal(coco, original)
    assert_equal(as_coco(original, tmp_path / "polygons", polygons=True), original)
    rows = as_rows(original, tmp_path / "rows")
    assert_equal(rows, original)
    if name in CONVERSION_TREES:
        assert_equal(as_coco(rows, tmp_path / "coco of rows"), original)
        assert_equal(as_rows(coco, tmp_path / "rows of coco"), original)


def test_every_layout_has_a_builder(tmp_path):
    for name, build in LOCAL.items():
        build(tmp_path / name)
    assert {find_splits(tmp_path / name)[0] for name in LOCAL} == set(LAYOUTS)
