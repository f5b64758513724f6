"""The report: one file that needs nothing else, with what should be read first at its top."""

import json
import re
from html.parser import HTMLParser

from PIL import Image

from sam_ft.reporting.html_report import as_page
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
    ["FORGOTTEN: something", "  ✗ worse"],
)


class Balanced(HTMLParser):
    """Every element that is opened is closed, in its order."""

    VOID = {"meta", "img", "br", "line", "polyline"}

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
    return as_page([BASE, TUNED], {"Worst pictures": [('a "quoted" <name>', picture)]}, "Report <x>", ["made here"])


def test_a_page_needs_no_other_file_and_is_well_formed():
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


def test_what_was_forgotten_comes_before_the_numbers():
    text = page()
    assert text.index("FORGOTTEN") < text.index("mask AP50")
    markdown = as_markdown([BASE, TUNED], "Report")
    assert markdown.index("FORGOTTEN") < markdown.index("mask AP50")


def test_cells_say_intervals_differences_and_what_is_best():
    markdown = as_markdown([BASE, TUNED], "Report")
    assert "| mask AP50 | 0.500 (0.400–0.600) | **0.700** (0.600–0.800) Δ +0.200 (+0.100–+0.300) |" in markdown
    assert "| false detections an absent phrase | **0.100** | 0.300 |" in markdown
    assert "small" not in markdown  # no image has one
    assert "| cat | 3 | 4 | 0.500 | 0.700 |" in markdown
    assert best_of("loss", [BASE, TUNED]) == {1}
    assert best_of("mask_AP50", [TUNED]) == set()
    assert phrases_of([BASE, TUNED]) == ["a & b", "cat"]


def test_plain_values_are_json():
    plain = json.loads(json.dumps(as_plain([BASE, TUNED])))
    assert plain["columns"][1]["differences"]["mask_AP50"] == [0.2, 0.1, 0.3]
    assert plain["rows"][0] == "mask_AP50"


def test_odd_names_break_no_table():
    odd = Column("a|b", {"loss": 1.0}, phrases={"x | y\n<z>": {"images": 1, "instances": 1, "mask_AP50": 0.5}})
    lines = [line for line in as_markdown([odd], "Report").splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (3, 5) for line in lines)


def test_phrases_are_text_in_markdown():
    """A phrase that is an image or a link in Markdown would be loaded by whoever reads the report."""
    column = Column(
        "a", {"mask_AP50": 0.5}, phrases={"![x](http://there/a.png)": {"images": 1, "instances": 1, "mask_AP50": 0.1}}
    )
    text = as_markdown([column], "title")
    assert "![x]" not in text
    assert "\\!\\[x\\](http://there/a.png)" in text
