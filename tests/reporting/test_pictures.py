"""Pictures of instances and of examples."""

import numpy as np
import pytest
from PIL import Image

from sam_ft.ops.masks import encode_mask
from sam_ft.reporting.comparisons import EXAMPLE_SIDE, append_legend, draw_examples, draw_legend
from sam_ft.reporting.label_fonts import find_font, shorten_label
from sam_ft.reporting.label_layout import find_leader, place_labels
from sam_ft.reporting.phrase_colors import NUM_COLORS, assign_colors
from sam_ft.reporting.pictures import draw_instances


RED = (255, 0, 0)


def instance(height, width, x, y, w, h):
    mask = np.zeros((height, width), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return ("", encode_mask(mask), [x, y, w, h], None)


def test_a_mask_is_an_outline_with_a_light_fill():
    picture = draw_instances(
        Image.new("RGB", (320, 320), "white"), [instance(320, 320, 100, 100, 80, 80)], {"": RED}, ""
    )
    pixels = np.asarray(picture).astype(int)
    assert (pixels[140, 101] == RED).all()
    assert (pixels[140, 140] == (255, 178, 178)).all()
    assert (pixels[140, 99] == (25, 25, 25)).all()
    assert (pixels[140, 98] == 255).all()


@pytest.mark.parametrize("size", [(3000, 2000), (719, 1441), (37, 11)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 1)], ids=["first corner", "last corner"])
def test_the_smallest_mask_is_drawn_at_every_scale(size, corner):
    width, height = size
    x, y = (width - 1) * corner[0], (height - 1) * corner[1]
    picture = draw_instances(Image.new("RGB", size, "white"), [instance(height, width, x, y, 1, 1)], {"": RED}, "")
    assert (np.asarray(picture) == RED).all(axis=-1).any()


def test_an_empty_mask_is_drawn_as_its_box():
    empty = ("", encode_mask(np.zeros((320, 320), dtype=bool)), [100, 100, 80, 80], None)
    pixels = np.asarray(draw_instances(Image.new("RGB", (320, 320), "white"), [empty], {"": RED}, ""))
    assert (pixels[140, 100] == RED).all()
    assert (pixels[140, 140] == 255).all()


def test_a_label_is_centred_above_the_top_of_a_mask():
    assert place_labels([[50, 50, 90, 90]], [(20, 12)], (0, 0, 200, 100), [70]) == [(60, 38)]


def test_a_phrase_has_one_colour_on_a_sheet():
    def row(name, phrases):
        instances = [{"segmentation": None, "bbox": [4.0, 4.0, 20.0, 20.0]}]
        phrases = [{"text": text, "instances": [0] if text == "star" else []} for text in phrases]
        image = Image.new("RGB", (32, 32), "white")
        return {"example_id": name, "image": image, "instances": instances, "phrases": phrases}

    phrases = ["star", "cross"]
    stages = {"before": {}, "after": {}}
    sheet = draw_examples([row("a", ["cross", "star"]), row("b", ["star"])], stages, phrases)
    assert sheet.width == 3 * EXAMPLE_SIDE + 16
    assert sheet.height > 2 * EXAMPLE_SIDE
    pixels, colors = np.asarray(sheet), assign_colors(phrases)
    for top in (0, sheet.height // 2):
        assert (pixels[top : top + 200, 2 * EXAMPLE_SIDE :] == colors["star"]).all(axis=-1).any()  # the ground truth
    assert not (pixels == colors["cross"]).all(axis=-1).any()  # Nothing of the phrase "cross" is drawn.


def test_colours_of_phrases_are_distinct_and_do_not_depend_on_their_order():
    phrases = [f"phrase {i}" for i in range(NUM_COLORS)]
    colors = assign_colors(phrases)
    assert len(set(colors.values())) == NUM_COLORS
    assert assign_colors(reversed(phrases)) == colors
    assert list(colors) == phrases
    assert len(assign_colors(f"phrase {i}" for i in range(80))) == 80


def test_labels_of_small_objects_in_a_row_are_beside_them_with_lines():
    boxes = [[90 + 12 * i, 100, 98 + 12 * i, 108] for i in range(4)]
    positions = place_labels(boxes, [(40, 12)] * 4, (0, 0, 300, 200))
    assert None not in positions
    leaders = [find_leader(box, position, (40, 12)) for box, position in zip(boxes, positions, strict=True)]
    assert leaders[0] is None
    assert any(leaders)


def test_long_and_foreign_phrases_have_short_legible_labels():
    text = "a very long phrase of a data set with sentences"
    assert shorten_label(text) == "a very long phrase of a data..."
    assert len(shorten_label(text)) <= 32
    plain, _ = find_font("caf\u00e9 \uffff", 13)
    assert plain == "cafe ?"
    assert find_font("star", 13)[0] == "star"


def test_a_legend_counts_the_phrases_that_it_leaves_out():
    colors = assign_colors(f"phrase {i}" for i in range(80))
    legend = draw_legend(colors, 320)
    assert legend.width == 320
    assert (np.asarray(legend) != 255).any()
    picture = append_legend(Image.new("RGB", (320, 100)), dict.fromkeys(colors, 0) | {"phrase 79": 3}, colors)
    assert picture.width == 320
    assert (np.asarray(picture)[100:] == colors["phrase 79"]).all(axis=-1).any()
