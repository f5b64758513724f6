"""Findings of a check: order, folding, records, examples, verdict and statistics."""

import json

import pytest
from PIL import Image

from sam_ft.data.folded_notes import fold_notes
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.reading_report import DataReport, Remark
from sam_ft.data.validation.finding_kinds import BLOCKS, MINOR, SEVERITIES, WRONG
from sam_ft.data.validation.findings import Finding, group_findings
from sam_ft.data.validation.inspection import Inspection, inspect_splits
from sam_ft.data.validation.row_checks import check_report
from sam_ft.data.validation.statistics import SIDE_BINS, SplitStatistics
from sam_ft.options.data import DatasetOptions, ReadOptions

from ..conftest import square


def inspect(file, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(file.parent.parent)))
    return inspect_splits(splits, ReadOptions(**options), 1008, lambda _: [])


def test_groups_are_ordered_by_severity_then_by_number():
    findings = [
        Finding("duplicate image", "train", "a", "x"),
        Finding("images without an instance", "train", "a", "x", number=3),
        Finding("duplicate instance", "train", "a", "x"),
        Finding("leak between splits", "train", "a", "x", usable=False),
        Finding("leak between splits", "train", "a", "x"),
        Finding("a kind of another reader", "train", "a", "x"),
    ]
    groups = group_findings(findings)
    assert [(group.severity, group.number) for group in groups] == [
        (BLOCKS, 1), (WRONG, 1), (WRONG, 1), (MINOR, 3), (MINOR, 1), (MINOR, 1),
    ]  # fmt: skip
    assert groups[0].kind == "leak between splits"
    assert all(group.effect and group.remedy for group in groups)


def test_the_last_line_names_the_cause_and_the_fix(coco):
    file = coco([square(), square(annotation_id=2), square(annotation_id=3, segmentation=[[1, 1, 5, 5]])])
    lines = inspect(file).lines(10)
    assert lines[-1].startswith("not usable as it is: annotations that cannot be used: ")
    assert "instances_train.json, image id 1 (a.png), annotation id 3: polygon part 0 has 2 point(s)" in lines[-1]
    assert lines[-1].endswith("Correct the annotations, or set `on_bad_rows: skip`.")
    headings = [line[:-1] for line in lines if line[:-1] in SEVERITIES]
    assert headings == [BLOCKS, WRONG]
    assert "  duplicate instance: 1" in lines
    assert any(line.startswith("    effect: ") for line in lines)
    assert any(line.startswith("    fix: ") for line in lines)


def test_usable_data_with_wrong_targets_are_named_in_the_last_line(coco):
    inspection = inspect(coco([square(), square(annotation_id=2)]))
    assert inspection.usable
    assert inspection.lines(10)[-1] == f"usable, with findings of {WRONG}: duplicate instance"


def test_repeated_findings_are_folded(coco):
    findings = [Finding("duplicate instance", "train", str(i), "identical") for i in range(500)]
    lines = Inspection(findings=findings).lines(3)
    assert "  duplicate instance: 500" in lines
    assert "    … 497 more" in lines
    assert len(lines) < 12


def test_repeated_notes_are_folded():
    notes = [(f"category 'a_{i}' is used as the phrase 'a {i}'", 1) for i in range(454)]
    lines = fold_notes([*notes, ("another note", 2)])
    assert lines == [*(note for note, _ in notes[:3]), "… 451 more notes of this form", "another note (2×)"]
    report = DataReport("file", notes=dict(notes))
    assert len(report.lines()) == 7


def test_examples_show_other_images_first():
    findings = [Finding("k", "train", f"{name}, {i}", "x", example_id=name) for name in "aab" for i in range(3)]
    (group,) = group_findings(findings)
    assert [finding.example_id for finding in group.choose_examples(2)] == ["a", "b"]
    assert len(group.choose_examples(100)) == 9


@pytest.mark.parametrize(
    ("where", "text", "record", "detail"),
    [
        ("image id 1 (a: b.png)", "image id 1 (a: b.png): it: is bad", "image id 1 (a: b.png)", "it: is bad"),
        ("a, b.json", "a, b.json, shape 2: bad", "a, b.json, shape 2", "bad"),
        ("other", "row 3: bad", "row 3", "bad"),
        ("other", "bad", "", "bad"),
    ],
)
def test_messages_of_readers_are_split_into_record_and_problem(where, text, record, detail):
    report = DataReport("file", skipped=[f"file, {text}" if record else text])
    (finding,) = check_report("train", report, False, [(where, "id")])
    assert (finding.file, finding.record, finding.detail, finding.usable) == ("file", record, detail, False)
    assert finding.example_id == (None if where == "other" else "id")


def test_remarks_beyond_the_limit_are_counted():
    report = DataReport("file")
    report.remark(*(Remark("kind", f"record {i}", "x") for i in range(1200)))
    (group,) = group_findings(check_report("train", report, True, []))
    assert group.number == 1200


def test_an_image_with_more_instances_than_queries_is_reported(coco):
    boxes = [square(annotation_id=i + 1, x=2 + i % 30 * 12, y=2 + i // 30 * 12) for i in range(201)]
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 300}
    inspection = inspect(coco(boxes, [image]))
    (finding,) = [f for f in inspection.findings if f.kind == "more instances than queries"]
    assert (finding.record, finding.detail) == ("1, 'cat'", "201 instances of the phrase, and 200 queries")
    assert finding.severity == WRONG
    assert inspection.statistics["train"].plain()["instances_per_pair"][-1] == {"from": 201, "to": 500, "pairs": 1}
    assert [f for f in inspect(coco(boxes[:200], [image])).findings if f.kind == finding.kind] == []


def test_statistics_of_a_row():
    instance = {"is_crowd": False, "area": 100.0 * 100}
    row = {
        "width": 1008, "height": 504, "instances": [instance, instance, instance | {"is_crowd": True}],
        "phrases": [{"text": "cat", "instances": [0, 1, 2]}, {"text": "dog", "instances": []}],
    }  # fmt: skip
    statistics = SplitStatistics(1008)
    statistics.add(row)
    plain = statistics.plain()
    assert plain["image_sizes"] == [{"width": 1008, "height": 504, "images": 1}]
    assert plain["phrase_counts"] == {
        "cat": {"images": 1, "instances": 2, "absent": 0},
        "dog": {"images": 0, "instances": 0, "absent": 1},
    }
    assert plain["max_instances_per_image"] == plain["max_instances_per_pair"] == 2
    side = 1008 * (100 * 100 / (1008 * 504)) ** 0.5  # 141 px
    assert [bin_["instances"] for bin_ in plain["instance_sides"]] == [2 * (low == 128) for low in SIDE_BINS]
    assert 128 <= side < 256
    assert plain["share_absent"] == 0.5


def test_json_contains_all_records_and_statistics(coco):
    plain = json.loads(json.dumps(inspect(coco([square(), square(annotation_id=2)])).plain()))
    (group,) = plain["findings"]
    (record,) = group["records"]
    assert record["file"].endswith("a.png")
    assert (record["example_id"], record["instances"]) == ("1", [0, 1])
    assert plain["splits"]["train"]["statistics"]["phrase_counts"]["cat"]["instances"] == 2


def test_the_listed_geometry_of_faulty_records_is_collected(coco):
    annotations = [square(), square(annotation_id=2, segmentation=[[1, 1, 5, 7]]), square(2, 3)]
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco(annotations, images)
    Image.new("RGB", (50, 30)).save(file.parent.parent / "train" / "2.png")
    inspection = inspect(file)
    records = inspection.records
    examples = json.loads(json.dumps(inspection.plain()))["examples"]
    assert [1, 1, 4, 6] in [box for example in examples for box in example["boxes"]]
    (dropped,) = [record for (_, name), record in records.items() if name.endswith("annotation id 2")]
    assert dropped.boxes == [[1, 1, 4, 6]]
    (skipped,) = [record for (_, name), record in records.items() if name == "image id 2 (2.png)"]
    assert skipped.image.endswith("2.png")
    assert skipped.boxes == []
    assert len(skipped.outlines) == 1


def test_images_outside_the_data_set_are_not_shown(coco, tmp_path):
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "outside.png")
    Image.new("RGB", (40, 30)).save(folder / "train" / "a.png")
    names = ((1, "a.png"), (2, "../../outside.png"))
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in names]
    content = {
        "images": images,
        "annotations": [square(), square(2, 2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    inspection = inspect(folder / "annotations" / "instances_train.json")
    assert not inspection.usable
    assert [record.image for record in inspection.records.values()] == [None]
