"""Clicks, compared with the official samplers: exact centres, and the distribution of random clicks."""

import numpy as np
import pytest
import torch

from sam_ft.ops.clicks import center_click, tight_box, uniform_clicks


def rectangle(side, top, bottom, left, right):
    mask = np.zeros((side, side), dtype=bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def ellipse(cy, cx, ry, rx):
    y, x = np.mgrid[:64, :64]
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


SQUARE, TALL, EMPTY = rectangle(32, 8, 23, 8, 23), ellipse(30, 22, 20, 10), np.zeros((64, 64), dtype=bool)


@pytest.mark.parametrize(
    ("target", "mask", "expected"),
    [
        (SQUARE, rectangle(32, 8, 23, 12, 29), ([26.0, 10.0], 0)),
        (SQUARE, None, ([15.0, 15.0], 1)),
        (TALL, None, ([22.0, 30.0], 1)),
        (TALL, ellipse(26, 30, 20, 12), ([35.0, 16.0], 0)),
        (TALL, TALL, ([0.0, 0.0], 0)),
        (EMPTY, None, ([0.0, 0.0], 0)),
        (~EMPTY, None, ([31.0, 31.0], 1)),
    ],
)
def test_center_clicks_equal_official_code(target, mask, expected):
    """The expected values are those of `sample_one_point_from_error_center` with OpenCV 5."""
    assert center_click(target, mask) == expected


def test_boxes_end_on_the_last_pixel():
    assert tight_box(SQUARE) == [8, 8, 23, 23]


def clicks(target, mask, draws, from_truth=None):
    number = len(draws)
    target, mask = (None if m is None else torch.from_numpy(m).expand(number, -1, -1) for m in (target, mask))
    return uniform_clicks(target, mask, torch.as_tensor(draws), from_truth)


def test_random_clicks_are_uniform_over_wrong_pixels():
    mask = rectangle(32, 8, 23, 12, 29)
    wrong = SQUARE ^ mask
    draws = (torch.arange(wrong.sum()) + 0.5) / wrong.sum()
    points, labels = clicks(SQUARE, mask, draws)
    x, y = points.long().unbind(1)
    assert sorted(zip(y.tolist(), x.tolist(), strict=True)) == sorted(map(tuple, np.argwhere(wrong).tolist()))
    assert (labels == torch.from_numpy(SQUARE)[y, x].long()).all()
    # P(negative) = |surplus| / |wrong|
    assert float((labels == 0).float().mean()) == pytest.approx((mask & ~SQUARE).sum() / wrong.sum())


def test_the_largest_draw_is_inside_a_large_canvas():
    target = np.ones((1024, 1024), dtype=bool)
    points, labels = clicks(target, None, [float(np.nextafter(np.float32(1), 0)), 0.0])
    assert points.tolist() == [[1023, 1023], [0, 0]]
    assert labels.tolist() == [1, 1]


def test_without_wrong_pixels_clicks_are_on_the_background():
    points, labels = clicks(SQUARE, SQUARE, [0.0, 0.3, 0.999])
    x, y = points.long().unbind(1)
    assert not SQUARE[y, x].any()
    assert labels.tolist() == [0, 0, 0]
    full = np.ones_like(SQUARE)
    points, labels = clicks(full, full, [0.7])
    assert (points.tolist(), labels.tolist()) == ([[0, 0]], [0])


def test_clicks_from_the_target_ignore_the_prediction():
    points, labels = clicks(SQUARE, SQUARE, [0.2, 0.2], torch.tensor([True, False]))
    assert labels.tolist() == [1, 0]
    x, y = points[0].long().tolist()
    assert SQUARE[y, x]
