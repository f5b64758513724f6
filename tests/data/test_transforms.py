"""Geometry and colour transforms of training samples."""

import numpy as np
import pytest
import torch
from datasets import Image as ImageFeature
from PIL import Image

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.row_schema import open_image_value, to_dataset
from sam_ft.data.samples.pipeline import TrainingSamples
from sam_ft.data.samples.transforms import Geometry, draw_geometry, jitter_colors
from sam_ft.ops.masks import decode_mask_box, encode_mask
from sam_ft.options.augmentation import TransformOptions
from sam_ft.options.phrases import PhraseOptions, PromptOptions


def test_image_mask_and_box_move_together():
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[12:36, 20:40] = 255
    mask = image[..., 0] > 0
    for flip in (False, True):
        geometry = Geometry((8, 6, 64, 48), flip, (10, 20, 128, 96), 160)
        canvas = geometry.image(Image.fromarray(image))[0] > 127
        moved = geometry.mask(mask)
        assert np.array_equal(canvas, moved)
        x1, y1, x2, y2 = geometry.box_xyxy([20, 12, 20, 24])
        ys, xs = np.nonzero(moved)
        assert (x1, y1, x2, y2) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_whole_image_equals_the_resize_of_the_processor():
    from sam_ft.models.sam3.config import build_tiny_processor

    noise = Image.fromarray((np.random.rand(90, 120, 3) * 255).astype(np.uint8))
    canvas = Geometry.whole(120, 90, 112).image(noise)
    expected = build_tiny_processor(112)(images=noise, return_tensors="pt").pixel_values[0]
    expected = (expected + 1) * 127.5
    torch.testing.assert_close(torch.from_numpy(canvas).float(), expected, rtol=0, atol=1e-4)
    mirrored = Geometry((0, 0, 120, 90), True, (0, 0, 112, 112), 112).image(noise)
    assert np.array_equal(mirrored, canvas[:, :, ::-1])


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


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [(0, 0, 40, 30), (7, 5, 20, 18)])
def test_part_of_a_mask_is_drawn_like_the_whole(flip, window):
    mask = np.zeros((30, 40), dtype=bool)
    mask[2:20, 10:36] = np.random.default_rng(0).random((18, 26)) < 0.3
    geometry = Geometry(window, flip, (3, 6, 45, 33), 64)
    part, *corner = decode_mask_box(encode_mask(mask), 30, 40)
    whole, drawn = np.zeros((64, 64), dtype=bool), np.zeros((64, 64), dtype=bool)
    assert geometry.paint(mask, whole) == geometry.paint(part, drawn, corner)
    assert np.array_equal(whole, drawn)
    assert geometry.visible_share(mask) == geometry.visible_share(part, corner)
    # Nearest pixel: the centre of a pixel of the canvas lies in the pixel of the image that it copies.
    x, y, w, h = window
    rows = y + ((np.arange(33) + 0.5) * h / 33).astype(int)
    columns = x + ((np.arange(45) + 0.5) * w / 45).astype(int)
    assert np.array_equal(whole[6:39, 3:48], mask[np.ix_(rows, columns[::-1] if flip else columns)])
    assert whole.sum() == whole[6:39, 3:48].sum()


def test_jitter_changes_colours_within_bounds_or_not_at_all():
    image = Image.new("RGB", (8, 8), (100, 150, 200))
    assert jitter_colors(image, np.random.default_rng(0), 0.0) is image
    changed = np.asarray(jitter_colors(image, np.random.default_rng(0), 0.2)).astype(int)
    assert 0 < np.abs(changed - np.asarray(image)).max() <= 255 * 0.5


def test_unknown_resize_is_refused():
    with pytest.raises(ValueError, match="`resize` must be one of official, plain, got 'square'"):
        TransformOptions(resize="square")


@pytest.mark.parametrize("orientation", [1, 6])
def test_drafts_of_large_jpeg_files_are_smaller_and_look_alike(tmp_path, orientation):
    rows, columns = np.indices((600, 900))
    waves = np.stack([np.sin(rows / 50), np.cos(columns / 70), np.sin((rows + columns) / 90)], -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray((127 * (1 + waves)).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    width, height = (900, 600) if orientation == 1 else (600, 900)
    row = {"example_id": "0", "image": str(tmp_path / "photo.jpg"), "width": width, "height": height}
    photos = to_dataset([{**row, "instances": [], "phrases": [{"text": "wave", "instances": [], "exhaustive": True}]}])
    options = {"resolution": 112, "crop_probability": 0.5, "color_jitter": 0.1}

    def samples(**more):
        return TrainingSamples(photos, seed=0, phrases=PhraseOptions(), prompts=PromptOptions(),
                               transforms=TransformOptions(**options, **more))  # fmt: skip

    exact, drafts = samples(), samples(draft_decoding=True)
    for epoch in range(8):
        difference = exact[epoch, 0].image.float() - drafts[epoch, 0].image.float()
        assert 0 < difference.abs().mean() < 1.5  # grey levels
        assert torch.equal(drafts[epoch, 0].image, drafts.view(0, epoch))
    assert exact.describe_view(photos[0], 0) != drafts.describe_view(photos[0], 0)
    value = photos.cast_column("image", ImageFeature(decode=False))[0]["image"]
    assert open_image_value(value, 5.0).size == (width // 4, height // 4)
    assert open_image_value(value, 1.9).size == (width, height)
