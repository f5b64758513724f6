"""
Damaged annotation files: the outcome is rows or a named error, never another exception, a hang or a different data set without a word.

    SAM_FT_FUZZ=2000 pytest tests/data/readers/test_fuzz.py     # so many mutations of each layout; a few dozen otherwise
"""

import copy
import json
import math
import os
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam_ft.data.loading import DatasetOptions, find_phrase_splits
from sam_ft.data.readers.records import ReadOptions
from sam_ft.data.row_schema import validate_example
from sam_ft.data.sources import read_splits

from .trees import TREES


EXAMPLES = int(os.environ.get("SAM_FT_FUZZ", "30"))
# the annotation file of each tree that is damaged
FILES = {
    "yolo": "train/labels/first.txt",
    "labelme": "first.json",
    "labelme_inside": "first.json",
    "via": "train/via_region_data.json",
    "via2": "train/via_region_data.json",
    "cvat": "annotations.xml",
    "polygons": "train/annotations/first.json",
    "sa1b": "first.json",
    "class_masks": "id2label.json",
    "lvis": "annotations/lvis_v1_train.json",
    "saco": "annotations/gold_merged_a_release_test.json",
}


def _regions(file: Path) -> int:
    entries = json.loads(file.read_text())
    entries = entries.get("_via_img_metadata", entries)
    return sum(len(entry.get("regions") or ()) for entry in entries.values())


def _elements(file: Path) -> int:
    return sum(len([e for e in image if e.tag != "tag"]) for image in ElementTree.parse(file).getroot().iter("image"))


def _groups(file: Path) -> int:
    """LabelMe's polygons of one label and group are one object; a group that all share is none."""
    shapes = json.loads(file.read_text())["shapes"]
    groups = [shape.get("group_id") for shape in shapes]
    if len({str(group) for group in groups}) == 1 and len({str(shape["label"]) for shape in shapes}) > 1:
        return len(shapes)
    joined = {
        (str(shape["label"]), str(group))
        for shape, group in zip(shapes, groups, strict=True)
        if group not in (None, "")
    }
    return len(joined) + sum(group in (None, "") for group in groups)


def _listed(key: str):
    return lambda file: len(json.loads(file.read_text())[key])


# layout -> how many objects a file lists, counted by other means than ours
LISTED = {
    "yolo": lambda file: sum(bool(line.strip()) for line in file.read_text(encoding="utf-8-sig").splitlines()),
    "labelme": _groups,
    "labelme_inside": _listed("shapes"),
    "via": _regions,
    "via2": _regions,
    "cvat": _elements,
    "polygons": _listed("instances"),
    "sa1b": _listed("annotations"),
    "class_masks": lambda file: 4,
    "lvis": _listed("annotations"),
    "saco": _listed("annotations"),
}
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1e9,
        1e308,
        math.nan,
        math.inf,
        "",
        "x",
        "1",
        "9" * 400,
        [],
        {},
        [[]],
        [None],
        {"a": 1},
        "\x00",
        2**70,
    ]
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    made = {}
    for name in FILES:
        folder = tmp_path_factory.mktemp(name)
        made[name] = folder, TREES[name](folder)
    return made


def outcome(folder: Path, options: dict, name: str):
    """Reads everything: every object that the file lists is in a row or told; only a `ValueError` that says something is allowed out."""
    read, said = {}, "rows"
    try:
        splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
        read = read_splits(splits, ReadOptions(**options))
    except ValueError as error:
        said = str(error)
    assert said
    found, whole = 0, bool(read)
    for rows, report in read.values():
        for row in rows.remove_columns("image"):
            validate_example(row)
            found += len(row["instances"])
        found += report.odd["annotation without an area"]
        whole &= not report.skipped
    if whole:
        assert found >= LISTED[name](folder / FILES[name])


def damaged(trees, name: str, content: bytes, **more):
    folder, options = trees[name]
    with tempfile.TemporaryDirectory() as place:
        there = Path(place) / "data"
        shutil.copytree(folder, there)
        (there / FILES[name]).write_bytes(content)
        outcome(there, options | more, name)


def sites(tree, path=()) -> list[tuple]:
    """The paths of all values in a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [site for key, value in items for site in [(*path, key), *sites(value, (*path, key))]]


def mutate(tree, data) -> None:
    """Replaces, removes or doubles one value."""
    site = data.draw(st.sampled_from(sites(tree)))
    for key in site[:-1]:
        tree = tree[key]
    action = data.draw(st.sampled_from(["replace", "remove", "double"]))
    if action == "replace":
        tree[site[-1]] = copy.deepcopy(data.draw(ODD))
    elif action == "remove":
        del tree[site[-1]]
    elif isinstance(tree, list):
        tree.append(tree[site[-1]])


relaxed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES == 30
)


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.endswith(".json")])
@relaxed
@given(data=st.data())
def test_odd_values_in_json(trees, name, data):
    tree = json.loads((trees[name][0] / FILES[name]).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        if sites(tree):
            mutate(tree, data)
    skip = {"on_bad_rows": "skip"} if data.draw(st.booleans()) else {}
    damaged(trees, name, json.dumps(tree).encode(), **skip)


@pytest.mark.parametrize("name", FILES)
@relaxed
@given(data=st.data())
def test_bytes_that_are_cut_or_changed(trees, name, data):
    content = bytearray((trees[name][0] / FILES[name]).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(content) - 1, 0)))
        action = data.draw(st.sampled_from(["cut", "change", "remove", "insert"]))
        if action == "cut":
            del content[place:]
        elif action == "remove":
            del content[place : place + data.draw(st.integers(1, 20))]
        elif action == "insert":
            content[place:place] = data.draw(
                st.sampled_from([b"NaN", b"1e999", b"-", b"\xff", b"[", b'"', b"9" * 30, b"\n", b"<x>"])
            )
        elif content:
            content[place] = data.draw(st.integers(0, 255))
    damaged(trees, name, bytes(content))
