"""Page of a data check: self-contained, escaped, with pictures and charts; and the positions of labels."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.samples.pipeline import EvaluationSamples
from sam_ft.data.validation.inspection import inspect_splits
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.reporting.charts import MAX_POINTS, Line, Series, column_chart, draw_charts, line_chart
from sam_ft.reporting.check_page import CheckPage, write_check_page
from sam_ft.reporting.label_layout import place_labels
from sam_ft.reporting.pictures import draw_instances, draw_marks

from ..conftest import square
from .test_page import Balanced


RESOLUTION = 56


def render(file, num_samples: int = 1, make_sample=None) -> str:
    splits, _ = find_phrase_splits(DatasetOptions(str(file.parent.parent)))
    inspection = inspect_splits(splits, ReadOptions(), RESOLUTION, lambda _: [])

    def make(split, index):
        return EvaluationSamples(inspection.splits[split], resolution=RESOLUTION, geometry_token=True)[index]

    return CheckPage(inspection, make_sample or make, "Check <x>").render(list(range(num_samples)))


def sections(page: str) -> dict[str, str]:
    """Return the section of each finding by its kind."""
    parts = re.findall(r'<section class="finding.*?</section>', page, re.DOTALL)
    return {re.search(r"<h3>(.*?)<b>", part).group(1): part for part in parts}


@pytest.fixture
def faulty(coco, tmp_path):
    """Return a COCO file with duplicates, a bad annotation, a bad row, a copy, and names that are markup."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 400, "height": 300} for i in (1, 2, 3)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "<script>alert('x')</script>"}]
    annotations = [
        square(side=12), square(annotation_id=2, side=12), square(annotation_id=3, x=200, side=50, category_id=2),
        square(annotation_id=4, segmentation=[[1, 1, 5, 5]]), square(2, 5), square(3, 6),
    ]  # fmt: skip
    coco(annotations, images, categories)
    smooth = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)))
    for name in ("1.png", "2.png"):
        Image.fromarray(smooth).resize((400, 300)).save(tmp_path / "train" / name)
    (tmp_path / "train" / "2.png").open("ab").write(b" ")  # looks the same, other bytes
    images[2]["width"] = 500
    return coco(annotations, images, categories, draw=False)


def test_the_page_is_self_contained_and_well_formed(faulty):
    page = render(faulty)
    parser = Balanced()
    parser.VOID = {*Balanced.VOID, "rect"}
    parser.feed(page)
    assert parser.open == []
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http" not in page
    assert "<title>Check &lt;x&gt;</title>" in page
    assert "<script>alert" not in page
    assert page.count("<script>") == 1


def test_findings_have_pictures_of_the_original_and_of_the_model_input(faulty):
    found = sections(render(faulty))
    assert list(found)[:3] == ["rows that cannot be used", "annotations that cannot be used", "duplicate instance"]
    captions = {kind: re.findall(r'<img src="[^"]*" alt="(.*?) of [^"]*"', part) for kind, part in found.items()}
    assert captions["rows that cannot be used"] == ["as listed in the file"]
    assert captions["duplicate instance"] == ["original", "detail", "model input"]
    assert captions["annotations that cannot be used"][-1] == "model input"
    assert captions["duplicate image"] == ["train: 2", "train: 1"]  # the copies side by side
    for part in found.values():
        assert "<b>Fix:</b>" in part


def test_a_class_has_one_colour_and_its_pictures_can_be_selected(faulty):
    page = render(faulty)
    colors = set(re.findall(r'background:(#[0-9a-f]{6})"></i><bdi>cat<', page))
    assert len(colors) == 1
    assert f'fill="{colors.pop()}"' in page
    assert '<option value="0">cat</option>' in page
    assert 'data-classes=" 0 1 "' in page
    assert re.search(r'<option value="\d">duplicate instance \(1\)</option>', page)


def test_a_warning_about_more_instances_than_queries(coco):
    boxes = [square(annotation_id=i + 1, x=2 + i % 30 * 12, y=2 + i // 30 * 12) for i in range(201)]
    page = render(coco(boxes, [{"id": 1, "file_name": "a.png", "width": 400, "height": 300}]))
    assert "1 (image, phrase) pairs have more than 200 instances. Cut the images into tiles" in page
    assert 'class="warning">201–500</text>' in page


def test_data_without_findings_have_charts_and_samples(coco):
    page = render(coco([square()]))
    assert "No defects found." in page
    assert page.count("<svg viewBox") == 4
    assert page[page.index('<section id="samples">') :].count("<img src=") == 2


def test_a_sample_that_cannot_be_made_is_named(coco):
    def refuse(split, index):
        raise ValueError("too many masks")

    page = render(coco([square()]), make_sample=refuse)
    assert "1: the model&#39;s input cannot be made: too many masks" in page


def test_the_page_replaces_the_files_of_an_earlier_check_alone(coco, tmp_path):
    splits, _ = find_phrase_splits(DatasetOptions(str(coco([square()]).parent.parent)))
    inspection = inspect_splits(splits, ReadOptions(), RESOLUTION, lambda _: [])
    page = CheckPage(inspection, None, "title")
    for _ in range(2):
        file = write_check_page(page, [], tmp_path / "page")
        assert "No defects found." in file.read_text()
    file.write_text("mine")
    with pytest.raises(ValueError, match=r"`gallery_dir`: .* already contains index.html"):
        write_check_page(page, [], tmp_path / "page")


def test_labels_do_not_hide_small_objects():
    area = (0, 0, 200, 100)
    assert place_labels([[50, 50, 60, 60]], [(40, 12)], area) == [(50, 38)]  # above
    grid = [[x, y, x + 8, y + 8] for x in range(2, 190, 12) for y in range(2, 90, 12)]
    for position in place_labels(grid, [(40, 12)] * len(grid), area):
        assert position is None
    large = [[0, 0, 200, 100], [100, 40, 110, 50]]
    first, second = place_labels(large, [(40, 12)] * 2, area)
    assert first == (0, 0)  # inside the large object
    assert second == (100, 28)


def test_marks_are_drawn_around_an_object():
    image = Image.new("RGB", (400, 400), "teal")
    plain = np.asarray(draw_instances(image, [], {}, ""))
    marked = np.asarray(draw_marks(Image.fromarray(plain), 720 / 400, [[100, 100, 20, 20]]))
    changed = (plain != marked).any(axis=-1)
    assert changed[170:230, 170:230].sum() == changed.sum() > 0
    assert not changed[182:214, 182:214].any()  # the object itself


def test_lines_of_a_chart_are_inside_its_frame_and_have_few_points():
    points = [(float(step), -1.0 + step / 100) for step in range(1, 1001)]
    chart = line_chart("Loss", "step", [Line("training", "#000000", points), Line("one", "#fff", [(5.0, 3.0)])])
    first, second = chart["lines"]
    assert len(first["points"]) <= MAX_POINTS
    assert not first["dots"]
    assert second["dots"] == second["points"]
    for x, y in [*first["points"], *second["points"]]:
        assert chart["left"] <= x <= chart["right"]
        assert chart["top"] <= y <= chart["bottom"]
    assert [tick["label"] for tick in chart["ticks_y"]] == ["-2", "0", "2", "4", "6", "8", "10"]
    assert chart["description"] == "Loss: training from -0.99 to 9; one from 3 to 3"
    assert line_chart("Loss", "step", [Line("a", "#000000", [(0.0, 0.0)])])["ticks_y"]


def test_columns_have_the_height_of_their_values():
    chart = column_chart(
        "title", "images", ["a", "b"], [Series("train", "#000000", [4, 1]), Series("v", "#fff", [0, 2])]
    )
    heights = {bar["tip"]: bar["height"] for bar in chart["bars"]}
    assert heights.keys() == {"train, a: 4 images", "train, b: 1 images", "v, b: 2 images"}
    assert heights["train, a: 4 images"] == 4 * heights["train, b: 1 images"]
    assert json.dumps(chart)


def test_charts_are_drawn_to_a_stand_alone_svg_file():
    series = [Series("train & more", "#000000", [4, 1]), Series("val", "#ffffff", [0, 2])]
    chart = column_chart("title", "images", ["a", "b"], series)
    svg = ElementTree.fromstring(draw_charts([chart, chart], series))
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["train & more", "val"]
    assert texts.count("title") == 2
    assert int(svg.get("width")) == 2 * chart["width"]
