"""Pictures in the output of a notebook cell."""

import io

import numpy as np
import pytest
from PIL import Image

from sam_ft import show_pictures
from sam_ft.reporting.notebook_pictures import MAX_BYTES


def test_files_and_images_are_shown_side_by_side_as_a_small_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 4), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    shown = show_pictures(tmp_path / "noise.png", Image.new("L", (400, 600)), width=604)
    assert shown.picture.size == (604, 300)
    data = shown._repr_jpeg_()
    jpeg = Image.open(io.BytesIO(data))
    assert jpeg.format == "JPEG"
    assert len(data) <= MAX_BYTES < 2 * len(data)
    assert jpeg.width / jpeg.height == pytest.approx(604 / 300, rel=0.01)


def test_a_small_picture_keeps_its_size():
    assert show_pictures(Image.new("RGB", (40, 30))).picture.size == (40, 30)


def test_no_picture_is_refused():
    with pytest.raises(ValueError, match="`pictures` is empty"):
        show_pictures()
