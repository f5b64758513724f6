"""HTML and Markdown report: self-contained, well-formed, gain and retention first, then pictures, curves, tables."""

import json
import re
from html.parser import HTMLParser

from PIL import Image

from sam_ft.reporting.comparisons import Comparison
from sam_ft.reporting.headline import build_headline
from sam_ft.reporting.html_report import RunDetails, as_page
from sam_ft.reporting.metric_table import Column, as_markdown, as_plain, best_of, phrases_of


BASE = Column(
    "base <1>",
    {"mask_AP50": 0.5, "loss": 2.0, "false_positives_per_absent": 0.1, "mask_APs": -1},
    {"mask_AP50": (0.4, 0.6)},
    phrases={"cat": {"images": 3, "instances": 4, "mask_AP50": 0.5}, "dog": {"images": 0, "instances": 0}},
    curves={"cat": [1.0] * 51 + [0.0] * 50},
)
TUNED = Column(
    "tuned",
    {"mask_AP50": 0.7, "loss": 1.0, "false_positives_per_absent": 0.3, "mask_APs": -1},
    {"mask_AP50": (0.6, 0.8)},
    {"mask_AP50": (0.2, 0.1, 0.3)},
    {"cat": {"images": 3, "instances": 4, "mask_AP50": 0.7}, "a & b": {"images": 5, "instances": 5, "mask_AP50": 0.1}},
    {"cat": [1.0] * 101},
    ["REGRESSION: something", "  ✗ worse"],
)


class Balanced(HTMLParser):
    """Parser that checks that elements are closed in the reverse order of their opening."""

    VOID = {"meta", "img", "br", "line", "polyline", "circle"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page() -> str:
    picture = Image.new("RGB", (40, 30), "teal")
    entry = Comparison('a "quoted" <name>', [("before: 1", picture), ("ground truth: 1", picture)], ["a & b"])
    history = [{"step": 1, "loss": 3.0, "lr_heads": 1e-3}, {"step": 2, "loss": float("nan")}, {"step": 9, "loss": 1.0}]
    history += [{"step": 9, "eval_mask_AP50": 0.7}, {"step": 9, "train_runtime": 1.0}]
    pictures = {"Worst images": [entry] * 3, "Best images": []}
    return as_page([BASE, TUNED], pictures, "Report <x>", ["footer"], run=RunDetails(history))


def test_page_is_self_contained_and_well_formed():
    text = page()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http" not in text
    assert "<name>" not in text
    assert "<1>" not in text
    assert "1 more</summary>" in text
    assert "a &amp; b</bdi>" in text
    assert "prefers-color-scheme: dark" in text


def test_gain_and_retention_come_first_then_pictures_curves_and_tables():
    text = page()
    parts = [
        "rose from 0.50 to 0.70", "Predictions for other phrases have degraded", "0.60 to 0.80", "REGRESSION",
        "Worst images", "Loss: training from 3 to 1", "Learning rate: heads", "Precision and recall", "<th>mask AP50",
    ]  # fmt: skip
    assert parts == sorted(parts, key=text.index)
    assert "Best images" not in text


def test_the_headline_of_other_evaluations():
    only = build_headline([TUNED], is_run=True, unchanged_pairs=1200)
    assert only.sentences[0].endswith("0.70. The model was not evaluated before training.")
    assert only.sentences[1].endswith("bit-identical to those before training.")
    assert [tile["value"] for tile in only.tiles] == ["0.70", "unchanged"]
    assert "1,200 (image, phrase) pairs" in only.tiles[1]["change"]
    compared = build_headline([BASE, TUNED], is_run=False)
    assert compared.sentences == ["Mask AP50: base <1> 0.50, tuned 0.70."]
    assert compared.tiles[0]["change"] == "base <1>: 0.50, change +0.20 (+0.10 to +0.30)"
    assert build_headline([Column("after", {"loss": 1.0})], is_run=True).tiles == []
    unsure = Column("after", {"mask_AP50": 0.52}, {}, {"mask_AP50": (0.02, -0.1, 0.1)})
    assert "may be chance" in build_headline([BASE, unsure], is_run=True).sentences[0]
    objects = build_headline([Column("after", {"object_IoU": 0.8})], is_run=True)
    assert len(objects.sentences) == 1  # SAM 2 takes no phrases


def test_notes_come_before_the_metrics():
    text = page()
    assert text.index("REGRESSION") < text.index("<th>mask AP50")
    markdown = as_markdown([BASE, TUNED], "Report")
    assert markdown.index("REGRESSION") < markdown.index("mask AP50")


def test_cells_contain_intervals_differences_and_mark_the_best():
    markdown = as_markdown([BASE, TUNED], "Report")
    assert "| mask AP50 | 0.500 (0.400–0.600) | **0.700** (0.600–0.800) Δ +0.200 (+0.100–+0.300) |" in markdown
    assert "| false positives per absent phrase | **0.100** | 0.300 |" in markdown
    assert "small" not in markdown  # the metric is undefined in both columns
    assert "| cat | 3 | 4 | 0.500 | 0.700 |" in markdown
    assert best_of("loss", [BASE, TUNED]) == {1}
    assert best_of("mask_AP50", [TUNED]) == set()
    assert phrases_of([BASE, TUNED]) == ["a & b", "cat"]


def test_plain_values_are_json():
    plain = json.loads(json.dumps(as_plain([BASE, TUNED])))
    assert plain["columns"][1]["differences"]["mask_AP50"] == [0.2, 0.1, 0.3]
    assert plain["rows"][0] == "mask_AP50"


def test_names_are_escaped_in_tables():
    odd = Column("a|b", {"loss": 1.0}, phrases={"x | y\n<z>": {"images": 1, "instances": 1, "mask_AP50": 0.5}})
    lines = [line for line in as_markdown([odd], "Report").splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (3, 5) for line in lines)


def test_phrases_are_text_in_markdown():
    """A phrase with the syntax of an image would make a reader's viewer load a foreign URL."""
    column = Column(
        "a", {"mask_AP50": 0.5}, phrases={"![x](http://there/a.png)": {"images": 1, "instances": 1, "mask_AP50": 0.1}}
    )
    text = as_markdown([column], "title")
    assert "![x]" not in text
    assert "\\!\\[x\\](http://there/a.png)" in text
