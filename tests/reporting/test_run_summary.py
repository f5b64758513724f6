"""Closing lines of a run."""

from sam_ft.reporting.metric_table import Column
from sam_ft.reporting.run_summary import RunOutcome, summarize_run


BEFORE = Column(
    "before",
    {"mask_AP50_trained": 0.1, "mask_AP50": 0.4, "mask_AP50_untrained": 0.8},
    phrases={"a": {"mask_AP50": 0.1}},
)
AFTER = Column(
    "after",
    {"mask_AP50_trained": 0.6, "mask_AP50": 0.7, "mask_AP50_untrained": 0.78},
    phrases={"a": {"mask_AP50": 0.6}},
)


def test_a_run_with_an_evaluation_before():
    files = {"model": "out/model.safetensors, 6.8 MB", "report": "out/report.html"}
    assert summarize_run(RunOutcome([BEFORE, AFTER], {"a"}, files=files)) == [
        "trained phrases  mask AP50 0.10 → 0.60",
        "other phrases    no regression; mask AP50 0.80 → 0.78",
        "model            out/model.safetensors, 6.8 MB",
        "report           out/report.html",
    ]


def test_unchanged_outputs():
    line = summarize_run(RunOutcome([BEFORE, AFTER], {"a"}, unchanged_pairs=1200, are_new=True))[1]
    assert line == (
        "other phrases    unchanged: bit-identical in all 1,200 (image, phrase) pairs; mask AP50 0.80 → 0.78"
    )


def test_without_an_evaluation_before_nothing_is_compared():
    assert summarize_run(RunOutcome([AFTER], {"a"})) == [
        "trained phrases  mask AP50 0.60, not evaluated before training",
        "other phrases    mask AP50 0.78; not compared with the model before training",
    ]


def test_at_most_three_regressions_are_listed():
    worse = {
        "mask_AP50_untrained": 0.2, "retention_presence_agreement": 0.5, "retention_IoU": 0.1,
        "retention_false_positive_rate": 0.6,
    }  # fmt: skip
    lines = summarize_run(RunOutcome([BEFORE, Column("after", AFTER.metrics | worse)], {"a"}))
    assert lines[1] == (
        "other phrases    REGRESSION, see the report; mask AP50 0.80 → 0.20; presence as before in 50% of the pairs"
    )
    assert [line.strip()[0] for line in lines[2:]] == ["✗"] * 3


def test_prompted_objects_have_no_other_phrases():
    columns = [Column("before", {"object_IoU": 0.47}), Column("after", {"object_IoU": 0.78, "mask_AP50": 0.9})]
    assert summarize_run(RunOutcome(columns, set(), takes_phrases=False)) == [
        "trained objects  IoU of prompted objects 0.47 → 0.78"
    ]
