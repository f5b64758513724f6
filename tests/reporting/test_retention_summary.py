"""Sentences on retention: thresholds, directions and reference values."""

import pytest

from sam_ft.reporting.retention_summary import describe_retention


@pytest.mark.parametrize(
    "metrics, before, is_regression, text",
    [
        ({"mask_AP50_untrained": 0.5}, {"mask_AP50_untrained": 0.8}, True, "AP50 of labelled phrases that were not trained: 0.80 before, 0.50 now"),
        ({"box_AP50_untrained": 0.75}, {"box_AP50_untrained": 0.8}, False, "AP50 of labelled phrases that were not trained: 0.80 before, 0.75 now"),
        ({"retention_AP50": 0.3, "retention_AP50_before": 0.5}, {}, True, "AP50 on the probe set: 0.50 before, 0.30 now"),
        ({"retention_AP50": 0.3}, {"retention_AP50": 0.31}, False, "AP50 on the probe set: 0.31 before, 0.30 now"),
        ({"retention_presence_agreement": 0.85}, {}, True, "presence of untrained phrases is predicted as before in 85% of the pairs"),
        ({"retention_false_positive_rate": 0.2}, {}, True, "untrained phrases that were predicted absent are now predicted present in 20% of the pairs"),
        ({"retention_IoU": 0.75}, {}, False, "detections of untrained phrases before and now have an IoU of 0.75"),
        ({"retention_IoU": 0.65}, {}, True, "detections of untrained phrases before and now have an IoU of 0.65"),
        ({"recolored_false_positive_rate": 0.5, "recolored_false_positive_rate_before": 0.3}, {}, True, "trained phrases in another colour are predicted present in 50% of the pairs, 30% before"),
        ({"nonsense_false_positive_rate": 0.1, "nonsense_false_positive_rate_before": 0.3}, {}, False, "nonsense phrases are predicted present in 10% of the pairs, 30% before"),
    ],
)  # fmt: skip
def test_changes_above_the_threshold_are_regressions(metrics, before, is_regression, text):
    heading, line = describe_retention(metrics, before)
    assert heading.startswith("REGRESSION" if is_regression else "Retention: no regression")
    assert line == f"  {'✗' if is_regression else '✓'} {text}"


def test_regressions_come_first_and_masks_before_boxes():
    metrics = {"mask_AP50_untrained": 0.8, "box_AP50_untrained": 0.1, "retention_presence_agreement": 0.5}
    lines = describe_retention(metrics, {"mask_AP50_untrained": 0.8, "box_AP50_untrained": 0.9})
    assert [line[:3] for line in lines[1:]] == ["  ✗", "  ✓"]
    assert "0.80 before, 0.80 now" in lines[2]


def test_undefined_metrics_are_left_out():
    assert describe_retention({"mask_AP50": 0.5}, {"mask_AP50": 0.9}) == []
    assert describe_retention({"retention_AP50": -1, "mask_AP50_untrained": 0.3}, {"retention_AP50": 0.5}) == []
