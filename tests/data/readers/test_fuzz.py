"""
Fuzz tests of the readers: check_damaged annotation files result in rows or in a `ValueError` with a message.

Other exceptions, endless loops and changes of the data without a message are failures. The environment variable
`SAM_FT_FUZZ` sets the number of mutations of each layout (30 by default):

    SAM_FT_FUZZ=2000 pytest tests/data/readers/test_fuzz.py
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

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.row_schema import validate_example
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, ReadOptions

from .trees import TREES


EXAMPLES = int(os.environ.get("SAM_FT_FUZZ", "30"))
# Annotation file of each layout that is check_damaged.
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
    """Count the objects of a LabelMe file; polygons of one label and group are one object."""
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


def _count_entries(key: str):
    return lambda file: len(json.loads(file.read_text())[key])


# Number of objects in the annotation file of each layout, counted without the readers.
COUNT_OBJECTS = {
    "yolo": lambda file: sum(bool(line.strip()) for line in file.read_text(encoding="utf-8-sig").splitlines()),
    "labelme": _groups,
    "labelme_inside": _count_entries("shapes"),
    "via": _regions,
    "via2": _regions,
    "cvat": _elements,
    "polygons": _count_entries("instances"),
    "sa1b": _count_entries("annotations"),
    "class_masks": lambda file: 4,
    "lvis": _count_entries("annotations"),
    "saco": _count_entries("annotations"),
}
UNEXPECTED_VALUES = st.sampled_from(
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


def check_outcome(folder: Path, options: dict, name: str):
    """Read all splits: each listed object is in a row or in the report, or a `ValueError` with a message is raised."""
    read, message = {}, "rows"
    try:
        splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
        read = read_splits(splits, ReadOptions(**options))
    except ValueError as error:
        message = str(error)
    assert message
    num_objects, is_complete = 0, bool(read)
    for rows, report in read.values():
        for row in rows.remove_columns("image"):
            validate_example(row)
            num_objects += len(row["instances"])
        num_objects += report.remark_counts["annotation without an area"]
        is_complete &= not report.skipped
    if is_complete:
        assert num_objects >= COUNT_OBJECTS[name](folder / FILES[name])


def check_damaged(trees, name: str, content: bytes, **more):
    """Replace the annotation file of a layout, and check the outcome of reading it."""
    folder, options = trees[name]
    with tempfile.TemporaryDirectory() as parent:
        copied = Path(parent) / "data"
        shutil.copytree(folder, copied)
        (copied / FILES[name]).write_bytes(content)
        check_outcome(copied, options | more, name)


def sites(tree, path=()) -> list[tuple]:
    """Return the paths of all values in a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [site for key, value in items for site in [(*path, key), *sites(value, (*path, key))]]


def mutate(tree, data) -> None:
    """Replace, remove or duplicate one value."""
    site = data.draw(st.sampled_from(sites(tree)))
    for key in site[:-1]:
        tree = tree[key]
    action = data.draw(st.sampled_from(["replace", "remove", "double"]))
    if action == "replace":
        tree[site[-1]] = copy.deepcopy(data.draw(UNEXPECTED_VALUES))
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
def test_unexpected_values_in_json(trees, name, data):
    tree = json.loads((trees[name][0] / FILES[name]).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        if sites(tree):
            mutate(tree, data)
    skip = {"on_bad_rows": "skip"} if data.draw(st.booleans()) else {}
    check_damaged(trees, name, json.dumps(tree).encode(), **skip)


@pytest.mark.parametrize("name", FILES)
@relaxed
@given(data=st.data())
def test_truncated_or_changed_bytes(trees, name, data):
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
    check_damaged(trees, name, bytes(content))
