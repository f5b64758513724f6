"""Closing lines of a run."""

from sam_ft.metrics.thresholds import Thresholds
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


def test_at_most_two_regressions_are_listed():
    worse = {
        "mask_AP50_untrained": 0.2, "retention_presence_agreement": 0.5, "retention_IoU": 0.1,
        "retention_false_positive_rate": 0.6,
    }  # fmt: skip
    lines = summarize_run(RunOutcome([BEFORE, Column("after", AFTER.metrics | worse)], {"a"}))
    assert lines[1] == (
        "other phrases    REGRESSION, see the report; mask AP50 0.80 → 0.20; presence as before in 50% of the pairs"
    )
    assert [line.strip()[0] for line in lines[2:]] == ["✗"] * 2
    assert lines[3].endswith("; 2 more")


def test_a_run_with_everything_has_eight_lines():
    """Two regressions are shown in any case, and files and thresholds take one line each."""
    worse = {"mask_AP50_untrained": 0.2, "retention_presence_agreement": 0.5, "retention_IoU": 0.1}
    outcome = RunOutcome(
        [BEFORE, Column("after", AFTER.metrics | worse)],
        {"a"},
        thresholds=Thresholds(default=0.45, phrases={"a": 0.31}),
        files={"report": "report.html, before_after.png", "model": "model.safetensors"},
        next_command="sam-ft predict",
    )
    lines = summarize_run(outcome)
    assert len(lines) == 8
    assert lines[4] == "thresholds       a 0.31, others 0.45"
    assert lines[-1] == "next             sam-ft predict"


def test_thresholds_of_many_phrases_are_a_range():
    phrases = {name: 0.1 * i for i, name in enumerate("abcdefg", 1)}
    outcome = RunOutcome([AFTER], set(phrases), thresholds=Thresholds(phrases=phrases))
    assert summarize_run(outcome)[-1] == "thresholds       0.10 to 0.70 for 7 phrases, others 0.50"


def test_prompted_objects_have_no_other_phrases():
    columns = [Column("before", {"object_IoU": 0.47}), Column("after", {"object_IoU": 0.78, "mask_AP50": 0.9})]
    assert summarize_run(RunOutcome(columns, set(), takes_phrases=False)) == ["objects          IoU 0.47 → 0.78"]
