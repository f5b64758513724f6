"""Page of a label review: self-contained, escaped, by falling score, with pictures around each finding."""

import re

from PIL import Image

from sam_ft.data.row_schema import to_dataset
from sam_ft.metrics.label_findings import LabelFinding, find_label_errors
from sam_ft.metrics.label_overlap import ReviewedImage
from sam_ft.metrics.label_review import KINDS
from sam_ft.reporting.review_page import KIND_TITLES, ReviewPage, _choose_window, describe_remedy

from .test_page import Balanced


BOX, OTHER = [100.0, 100.0, 80.0, 60.0], [400.0, 300.0, 60.0, 80.0]


def render(max_findings=10) -> str:
    labels = [{"phrase": "<b>nut</b>", "instance": 0, "bbox": BOX}, {"phrase": "bolt", "instance": 1, "bbox": OTHER}]
    detections = [{"phrase": "nail", "score": 0.9, "bbox": OTHER}, {"phrase": "bolt", "score": 0.8, "bbox": [9.0] * 4}]
    images = {"a": ReviewedImage((480, 640), labels, detections, {"screw": 0.8})}
    findings, calibration = find_label_errors(images)
    row = {"example_id": "a", "image": Image.new("RGB", (640, 480)), "width": 640, "height": 480}
    rows = to_dataset([row | {"instances": [], "phrases": []}])
    return ReviewPage(findings, images, rows, calibration, "Review <x>", ["a note"], {"a": "train: a.png"}).render(
        max_findings
    )


def test_the_page_is_self_contained_and_well_formed():
    page = render()
    parser = Balanced()
    parser.VOID = {*Balanced.VOID, "rect"}
    parser.feed(page)
    assert parser.open == []
    assert "http" not in page
    assert "<b>nut" not in page
    assert "<title>Review &lt;x&gt;</title>" in page
    assert page.count("<script>") == 1


def test_findings_have_pictures_scores_and_a_remedy():
    sections = re.findall(r'<section class="entry".*?</section>', render(), re.DOTALL)
    scores = [float(re.search(r'class="score">([\d.]+)<', section)[1]) for section in sections]
    assert scores == sorted(scores, reverse=True)
    kinds = [re.search(r'data-kind="(\w+)"', section)[1] for section in sections]
    assert {"spurious_object", "wrong_phrase", "missing_object"} <= {*kinds}
    assert all(
        re.findall(r'alt="(\w+) of train: a.png"', section) == ["image", "labels", "prediction"]
        for section in sections
    )
    assert "Change the phrase." in sections[kinds.index("wrong_phrase")]


def test_lower_scores_are_left_out_of_a_short_page():
    page = render(1)
    assert page.count('<section class="entry"') == 1
    assert "more findings with lower scores" in page


def test_each_kind_has_a_title_and_a_remedy():
    for kind in KINDS:
        finding = LabelFinding(kind, 0.5, {kind: 0.5}, "a", "nut", 0, BOX, None)
        assert KIND_TITLES[kind]
        assert describe_remedy(finding).endswith(".")
    assert "Look for it" in describe_remedy(LabelFinding(KINDS[0], 0.5, {}, "a", "nut", None, None, None))


def test_pictures_show_the_surroundings_of_small_objects_and_large_ones_as_a_whole():
    assert _choose_window([], (640, 480)) == (0, 0, 640, 480)
    assert _choose_window([[0, 0, 500, 400]], (640, 480)) == (0, 0, 640, 480)
    assert _choose_window([[0, 0, 50, 50]], (640, 480)) == (0, 0, 150, 150)
    assert _choose_window([[300, 200, 10, 10]], (640, 480)) == (257, 157, 353, 253)
