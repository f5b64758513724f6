"""
Fuzz tests of the readers: check_damaged annotation files result in rows or in a `ValueError` with a message.

Other exceptions, endless loops and changes of the data without a message are failures. The environment variable
`SAM_FT_FUZZ` sets the number of mutations of each layout (30 by default):

    SAM_FT_FUZZ=2000 pytest tests/data/readers/test_fuzz.py
"""

import copy
import csv
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

from .dataset_trees import DATASET_TREES
from .export_trees import EXPORT_TREES
from .trees import TREES as TOOL_TREES
from .voc_trees import PARTIAL_TREES, VOC_TREES


TREES = TOOL_TREES | EXPORT_TREES | DATASET_TREES | VOC_TREES | PARTIAL_TREES
EXAMPLES = int(os.environ.get("SAM_FT_FUZZ", "30"))
# Annotation file of each layout that is check_damaged.
FILES = {
    "yolo": "train/labels/first.txt",
    "yolo_classes": "labels/first.txt",
    "labelme": "first.json",
    "labelme_inside": "first.json",
    "via": "train/via_region_data.json",
    "via2": "train/via_region_data.json",
    "cvat": "annotations.xml",
    "polygons": "train/annotations/first.json",
    "sa1b": "first.json",
    "class_masks": "id2label.json",
    "voc": "labelmap.txt",
    "voc_boxes": "Annotations/first.xml",
    "lvis": "annotations/lvis_v1_train.json",
    "saco": "annotations/gold_merged_a_release_test.json",
    "supervisely": "train/ann/first.png.json",
    "darwin": "releases/latest/annotations/first.json",
    "labelbox": "export.ndjson",
    "openimages": "validation-annotations-object-segmentation.csv",
    "roboflow_masks": "train/_classes.csv",
    "label_studio": "project-4-at-2026-01-02.json",
    "coco_panoptic": "annotations/panoptic_train2017.json",
    "cityscapes": "gtFine/train/town/first_gtFine_polygons.json",
    "isat": "labels/first.json",
    "datumaro": "annotations/train.json",
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


def _lines(file: Path) -> int:
    return sum(bool(line.strip()) for line in file.read_text(encoding="utf-8-sig").splitlines())


def _count_entries(key: str):
    return lambda file: len(json.loads(file.read_text())[key])


def _darwin_objects(file: Path) -> int:
    annotations = json.loads(file.read_text())["annotations"]
    return sum(not {"tag", "raster_layer"} & entry.keys() for entry in annotations)


def _labelbox_objects(file: Path) -> int:
    """Count the objects of the images that have one label."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    labels = [[label for p in row["projects"].values() for label in p["labels"]] for row in rows]
    return sum(len(chosen[0]["annotations"]["objects"]) for chosen in labels if len(chosen) == 1)


def _openimages_masks(file: Path) -> int:
    """Count the masks of the images that exist."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return sum(row["ImageID"] in ("first", "second") for row in csv.DictReader(stream))


def _drawn_regions(file: Path) -> int:
    """Count the regions of the tasks that have one annotation; results of one id are one region."""
    count = 0
    for task in json.loads(file.read_text()):
        annotations = task.get("annotations", task.get("completions"))
        if len(annotations) == 1 and not annotations[0].get("was_cancelled") and not annotations[0].get("skipped"):
            drawn = [result for result in annotations[0]["result"] if result["type"] != "choices"]
            count += len({str(r["id"]) if r.get("id") is not None else i for i, r in enumerate(drawn)})
    return count


def _thing_segments(file: Path) -> int:
    content = json.loads(file.read_text())
    things = {category["id"] for category in content["categories"] if category.get("isthing", 1)}
    return sum(s["category_id"] in things for a in content["annotations"] for s in a["segments_info"])


def _cityscapes_objects(file: Path) -> int:
    """Count the objects that are neither stuff nor void."""
    objects = [entry for entry in json.loads(file.read_text())["objects"] if entry.get("deleted") not in (1, True)]
    return sum(entry["label"] not in ("road", "ego vehicle") for entry in objects)


def _isat_objects(file: Path) -> int:
    """Count the objects of an ISAT file; polygons of one class and group are one object."""
    keys = set()
    for number, entry in enumerate(json.loads(file.read_text())["objects"]):
        group = entry.get("group")
        keys.add((entry["category"], str(group)) if group not in (None, "", 0) else number)
    return len(keys)


def _datumaro_objects(file: Path) -> int:
    """Count the objects of a Datumaro file; annotations of one class and group are one object."""
    count = 0
    for item in json.loads(file.read_text())["items"]:
        drawn = [a for a in item.get("annotations", []) if a["type"] != "caption"]
        groups = [a.get("group") for a in drawn]
        joined = [isinstance(g, int | float | str) and g not in (0, "") for g in groups]
        keys = [(a["label_id"], g) for a, g, has_group in zip(drawn, groups, joined, strict=True) if has_group]
        count += len(set(keys)) + len(drawn) - len(keys)
    return count


# Number of objects in the annotation file of each layout, counted without the readers.
COUNT_OBJECTS = {
    "yolo": _lines,
    "yolo_classes": _lines,
    "labelme": _groups,
    "labelme_inside": _count_entries("shapes"),
    "via": _regions,
    "via2": _regions,
    "cvat": _elements,
    "polygons": _count_entries("instances"),
    "sa1b": _count_entries("annotations"),
    "class_masks": lambda file: 4,
    "voc": lambda file: 3,
    "voc_boxes": lambda file: len(ElementTree.parse(file).getroot().findall("object")),
    "lvis": _count_entries("annotations"),
    "saco": _count_entries("annotations"),
    "supervisely": _count_entries("objects"),
    "darwin": _darwin_objects,
    "labelbox": _labelbox_objects,
    "openimages": _openimages_masks,
    "roboflow_masks": lambda file: 4,
    "label_studio": _drawn_regions,
    "coco_panoptic": _thing_segments,
    "cityscapes": _cityscapes_objects,
    "isat": _isat_objects,
    "datumaro": _datumaro_objects,
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
        is_complete &= not report.skipped and not report.dropped  # The counters do not read damaged annotations.
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


def load_json(file: Path):
    """Read a JSON file, or a list of the lines of an NDJSON file."""
    text = file.read_text()
    return list(map(json.loads, text.splitlines())) if file.suffix == ".ndjson" else json.loads(text)


def dump_json(tree, file: Path) -> bytes:
    lines = tree if file.suffix == ".ndjson" else [tree]
    return "\n".join(map(json.dumps, lines)).encode()


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.endswith("json")])
@relaxed
@given(data=st.data())
def test_unexpected_values_in_json(trees, name, data):
    file = trees[name][0] / FILES[name]
    tree = load_json(file)
    for _ in range(data.draw(st.integers(1, 3))):
        if sites(tree):
            mutate(tree, data)
    skip = {"on_bad_rows": "skip"} if data.draw(st.booleans()) else {}
    check_damaged(trees, name, dump_json(tree, file), **skip)


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
