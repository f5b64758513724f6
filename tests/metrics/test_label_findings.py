"""Findings of a label review: one for each label and missing object, with proposals and stable identifiers."""

import pytest

from sam_ft.metrics.label_findings import find_label_errors, to_reviewed_image
from sam_ft.metrics.label_overlap import ReviewedImage
from sam_ft.metrics.label_review import BAD_BOUNDARY, DUPLICATE, MERGED_OR_SPLIT, MISSING, SPURIOUS, WRONG_PHRASE

from .test_label_review import BOX, OTHER, SIZE, detection, label


FAR = [10, 300, 60, 60]


def find(labels, detections, **options):
    numbered = [{"instance": i, **one} for i, one in enumerate(labels)]
    correct = ReviewedImage(SIZE, [label(BOX, p, instance=0) for p in ("nut", "bolt")], [], {})
    correct.detections = [detection(BOX), detection(BOX, "bolt")]
    images = {"good": correct, "bad": ReviewedImage(SIZE, numbered, detections)}
    findings, _ = find_label_errors(images, min_score=options.pop("min_score", 0.3), **options)
    return [finding for finding in findings if finding.example_id == "bad"]


@pytest.mark.parametrize(
    ("labels", "detections", "kind", "proposal"),
    [
        ([], [detection(OTHER)], MISSING, detection(OTHER)),
        ([label(BOX)], [], SPURIOUS, None),
        ([label(BOX)], [detection(BOX, "bolt")], WRONG_PHRASE, detection(BOX, "bolt")),
        ([label(BOX)], [detection([100, 100, 130, 60])], BAD_BOUNDARY, detection([100, 100, 130, 60])),
        ([label([100, 100, 40, 60]), label([140, 100, 40, 60])], [detection(BOX)], MERGED_OR_SPLIT, detection(BOX)),
        ([label(BOX), label([101, 100, 80, 60])], [detection(BOX)], DUPLICATE, None),
    ],
)
def test_each_kind_has_its_proposal(labels, detections, kind, proposal):
    finding = find(labels, detections)[0]
    assert finding.kind == kind
    assert finding.proposal == proposal
    assert finding.instance is None if kind == MISSING else finding.bbox in [one["bbox"] for one in labels]
    assert finding.other == (0 if kind == DUPLICATE else None)


def test_a_merged_label_has_no_proposal():
    parts = [detection([100, 100, 38, 60]), detection([142, 100, 38, 60])]
    assert [(f.kind, f.proposal) for f in find([label(BOX)], parts)] == [(MERGED_OR_SPLIT, None)]


def test_findings_are_sorted_and_filtered_by_kind_and_score():
    labels = [label(BOX), label(OTHER, "bolt"), label(FAR, iscrowd=True)]
    detections = [detection(OTHER, "nut"), detection([500, 10, 60, 60], score=0.2)]
    every = find(labels, detections, min_score=0)
    assert {finding.kind for finding in every[:2]} == {SPURIOUS, WRONG_PHRASE}
    assert [finding.score for finding in every] == sorted((finding.score for finding in every), reverse=True)
    assert {finding.instance for finding in every} == {0, 1, None}  # crowd regions have no finding
    assert {finding.kind for finding in find(labels, detections, kinds=[MISSING])} == {MISSING}
    assert len(find(labels, detections, min_score=0.95)) < len(every)
    # A kind that is not reported does not hide a lower score of the same label.
    assert find(labels, detections, kinds=[BAD_BOUNDARY, SPURIOUS], min_score=0)[-1].kind in (BAD_BOUNDARY, SPURIOUS)


def test_identifiers_do_not_depend_on_scores_and_other_findings():
    first = find([label(BOX)], [])[0]
    second = find([label(OTHER), label(BOX)], [detection(BOX, score=0.1), detection(OTHER)])
    assert first.id in {finding.id for finding in second}
    assert first.to_plain()["id"] == first.id


def test_unlisted_and_incomplete_phrases_are_never_missing():
    instance = {"bbox": [0.0, 0.0, 4.0, 4.0], "segmentation": None, "area": 16.0, "is_crowd": False}
    row = {
        "height": 480, "width": 640, "instances": [instance],
        "phrases": [
            {"text": "nut", "instances": [0], "exhaustive": True}, {"text": "nail", "instances": [], "exhaustive": False}
        ],
    }  # fmt: skip
    found = {phrase: [{"bbox": OTHER, "score": 0.9}] for phrase in ("nut", "nail", "bolt")}
    image = to_reviewed_image(row, found, {"nut": 0.9, "nail": 0.9, "bolt": 0.9})
    assert image.incomplete == {"nail", "bolt"}
    assert [one["instance"] for one in image.labels] == [0]
    findings, _ = find_label_errors({"a": image})
    assert [finding.phrase for finding in findings if finding.kind == MISSING] == ["nut"]
