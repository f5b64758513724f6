"""Proposals of a label review: labels with the corrections of its findings."""

from sam_ft.inference.label_proposals import correct_labels
from sam_ft.metrics.label_findings import LabelFinding
from sam_ft.metrics.label_overlap import ReviewedImage


def finding(kind, instance, proposal=None, phrase="nut"):
    return LabelFinding(kind, 0.9, {kind: 0.9}, "a", phrase, instance, [0, 0, 4, 4], proposal)


def test_corrections_replace_add_and_leave_out_labels():
    boxes = [[i * 10, 0, 5, 5] for i in range(7)]
    labels = [{"phrase": "nut", "instance": i, "bbox": box} for i, box in enumerate(boxes)]
    labels[6]["iscrowd"] = True
    moved = {"phrase": "nut", "bbox": [21, 1, 5, 5], "score": 0.7}
    findings = [
        finding("spurious_object", 0),
        finding("wrong_phrase", 1, {"phrase": "bolt", "bbox": boxes[1], "score": 0.8}),
        finding("bad_boundary", 2, moved),
        finding("near_duplicate", 3),
        finding("merged_or_split", 4, moved),
        finding("missing_object", None, {"phrase": "nail", "bbox": [1, 1, 2, 2], "score": 0.6}, "nail"),
    ]
    result = correct_labels("a", ReviewedImage((20, 80), labels, []), findings).detections
    assert {phrase: [one["bbox"] for one in group] for phrase, group in result.items()} == {
        "bolt": [boxes[1]], "nut": [moved["bbox"], boxes[4], boxes[5], boxes[6]], "nail": [[1, 1, 2, 2]],
    }  # fmt: skip
    reviews = [one["review"]["kind"] for group in result.values() for one in group if "review" in one]
    assert sorted(reviews) == ["bad_boundary", "missing_object", "wrong_phrase"]
    assert [one["iscrowd"] for one in result["nut"] if "iscrowd" in one] == [0, 0, 1]
    assert result["bolt"][0]["review"]["phrase"] == "nut"
