"""Opening lines of a run: contents of the splits, and folded notes on the data."""

from pathlib import Path

from sam_ft.commands.run_overview import MAX_NOTES, describe_data, describe_notes
from sam_ft.data.loading import PhraseData
from sam_ft.data.reading_report import DataReport, Remark
from sam_ft.data.row_schema import to_dataset


def make_rows(phrases, crowds=0):
    """Return a row with one square for each instance of the phrases, the first `crowds` of them crowd regions."""
    number = sum(phrases.values())
    instances = [
        {"bbox": [5.0 * i, 0.0, 4.0, 4.0], "segmentation": None, "area": 16.0, "is_crowd": i < crowds}
        for i in range(number)
    ]
    indices = iter(range(number))
    entries = [
        {"text": text, "instances": [next(indices) for _ in range(count)], "exhaustive": True}
        for text, count in phrases.items()
    ]
    row = {"example_id": "1", "image": {"bytes": None, "path": "a.png"}, "width": 100, "height": 10}
    return to_dataset([row | {"instances": instances, "phrases": entries}])


def test_splits_are_counted():
    train = make_rows({"cat": 2, "dog": 1, "red fox": 1}, crowds=1)
    data = PhraseData(train, make_rows({"cat": 1, "dog": 0}), {}, {}, [], [])
    assert list(describe_data(data, "pets")) == [
        "training data    pets: 1 image, 3 instances of 3 phrases (cat, dog, red fox)",
        "evaluation data  1 image, 1 instance of 1 phrase (cat); 1 more absent",
    ]


def test_notes_are_folded_with_warnings_first():
    report = DataReport("a.json", skipped=[f"row {i} is damaged" for i in range(500)], dropped=["no box"])
    for i in range(90):
        report.remark(Remark("the area differs", f"annotation {i}", "5 instead of 4"))
    notes = [f"the {animal} is an assumption" for animal in ("cat", "dog", "cow", "hen", "pig")]
    data = PhraseData(
        None, None, {}, {}, [report], [*notes, "metrics are optimistic"], warnings=["metrics are optimistic"]
    )
    lines = describe_notes(data, Path("out/training.log"))
    assert len(lines) == 1 + MAX_NOTES
    assert lines[:2] == ["note: metrics are optimistic", "note: 500 rows are left out, such as row 0 is damaged"]
    assert lines[-1] == "note: 7 more notes on the data are in out/training.log"
