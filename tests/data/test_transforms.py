"""Geometry and colour transforms of training samples."""

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.samples.transforms import Geometry, draw_geometry, jitter_colors
from sam_ft.options.augmentation import TransformOptions


def test_image_mask_and_box_move_together():
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[12:36, 20:40] = 255
    mask = image[..., 0] > 0
    for flip in (False, True):
        geometry = Geometry((8, 6, 64, 48), flip, (10, 20, 128, 96), 160)
        canvas = geometry.image(Image.fromarray(image))[..., 0] > 127
        moved = geometry.mask(mask)
        assert np.array_equal(canvas, moved)
        x1, y1, x2, y2 = geometry.box_xyxy([20, 12, 20, 24])
        ys, xs = np.nonzero(moved)
        assert (x1, y1, x2, y2) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_whole_image_equals_the_resize_of_the_processor():
    import torch

    from sam_ft.models.sam3.config import build_tiny_processor

    noise = Image.fromarray((np.random.rand(90, 120, 3) * 255).astype(np.uint8))
    canvas = Geometry.whole(120, 90, 112).image(noise)
    expected = build_tiny_processor(112)(images=noise, return_tensors="pt").pixel_values[0]
    expected = ((expected + 1) * 127.5).permute(1, 2, 0)
    # Both are bilinear with antialiasing; rounding differs by a grey level.
    assert (torch.from_numpy(canvas).float() - expected).abs().max() < 1.5


def test_official_geometry_pads_a_square_at_a_random_offset():
    options = TransformOptions(resolution=1008)
    drawn = [draw_geometry(640, 480, [], keyed_draws(0, 0, str(i), "geometry"), options) for i in range(300)]
    sides = {g.target[2] for g in drawn}
    assert sides == set(range(480, 993, 32))
    assert all(g.target[2] == g.target[3] for g in drawn)
    assert all(0 <= g.target[k] <= 1008 - g.target[2] for g in drawn for k in (0, 1))
    assert 0.4 < np.mean([g.flip for g in drawn]) < 0.6
    assert all(g.window == (0, 0, 640, 480) for g in drawn)


def test_left_and_right_prevent_the_flip():
    options = TransformOptions(resolution=112, flip_probability=1.0)
    rng = np.random.default_rng(0)
    assert draw_geometry(64, 64, ["cat"], rng, options).flip
    assert not draw_geometry(64, 64, ["cat", "the Left shoe"], rng, options).flip
    assert draw_geometry(64, 64, ["bright cat"], rng, options).flip  # "right" as a part of a word


def test_crops_stay_inside_and_keep_their_share():
    options = TransformOptions(resolution=112, crop_probability=1.0, min_crop=0.5)
    for i in range(100):
        x, y, w, h = draw_geometry(64, 48, [], keyed_draws(0, 0, str(i), "g"), options).window
        assert w >= 32
        assert h >= 24
        assert 0 <= x <= 64 - w
        assert 0 <= y <= 48 - h


def test_visible_share_and_cut_boxes():
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, 4:8] = True
    geometry = Geometry((0, 0, 6, 10), False, (0, 0, 6, 10), 10)
    assert geometry.visible_share(mask) == 0.5
    assert geometry.box_xyxy([4, 0, 4, 10]).tolist() == [4, 0, 6, 10]


def test_jitter_changes_colours_within_bounds_or_not_at_all():
    image = Image.new("RGB", (8, 8), (100, 150, 200))
    assert jitter_colors(image, np.random.default_rng(0), 0.0) is image
    changed = np.asarray(jitter_colors(image, np.random.default_rng(0), 0.2)).astype(int)
    assert 0 < np.abs(changed - np.asarray(image)).max() <= 255 * 0.5


def test_unknown_resize_is_refused():
    with pytest.raises(ValueError, match="`resize` must be one of official, plain, got 'square'"):
        TransformOptions(resize="square")
