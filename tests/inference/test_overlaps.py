"""Non-maximum suppression and tiling, against closed forms on rectangles."""

import numpy as np
import pytest

from sam_ft.inference.nms import Piece, compute_intersection_over_minimum, is_cut, move_to_image, suppress
from sam_ft.inference.tiling import compute_windows
from sam_ft.ops.masks import decode_mask, encode_mask


SIZE = (40, 60)


def box(x, y, w, h, score=0.9, masks=True):
    detection = {"score": score, "bbox": [float(x), float(y), float(w), float(h)]}
    if masks:
        mask = np.zeros(SIZE, dtype=bool)
        mask[y : y + h, x : x + w] = True
        detection["segmentation"] = {"size": list(SIZE), "counts": encode_mask(mask)}
    return detection


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "boxes"])
def test_intersection_over_minimum(masks):
    inner, outer, beside = (
        box(10, 10, 4, 4, masks=masks),
        box(8, 8, 10, 10, masks=masks),
        box(12, 10, 4, 4, masks=masks),
    )
    overlaps = compute_intersection_over_minimum([inner, outer], [outer, beside])
    assert overlaps == pytest.approx(np.array([[1.0, 0.5], [1.0, 1.0]]))
    assert compute_intersection_over_minimum([], [inner]).shape == (0, 1)


def test_the_highest_score_of_overlapping_detections_is_kept():
    inner, outer, apart = box(10, 10, 4, 4, 0.6), box(8, 8, 10, 10, 0.8), box(40, 10, 5, 5, 0.3)
    assert suppress([Piece(inner), Piece(apart), Piece(outer)], 0.5) == [outer, apart]
    touching = box(17, 8, 10, 10, 0.7)  # a tenth of each box overlaps
    assert suppress([Piece(outer), Piece(touching)], 0.5) == [outer, touching]


def test_cut_detections_are_merged_and_suppressed_by_a_whole_one():
    left, right = box(10, 10, 10, 5, 0.7), box(12, 10, 14, 5, 0.6)  # the tiles share 8 columns
    joined = suppress([Piece(left, cut=True), Piece(right, cut=True)], 0.5)
    assert len(joined) == 1
    assert joined[0]["bbox"] == [10, 10, 16, 5]
    assert decode_mask(joined[0]["segmentation"]["counts"], *SIZE).sum() == 16 * 5
    whole = box(10, 10, 16, 5, 0.5)
    assert suppress([Piece(left, cut=True), Piece(right, cut=True), Piece(whole)], 0.5) == [whole]


def test_move_to_image_and_is_cut():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 12:20] = True
    detection = {
        "score": 1.0,
        "bbox": [12.0, 5.0, 8.0, 10.0],
        "segmentation": {"size": [20, 20], "counts": encode_mask(mask)},
    }
    window = (30, 20, 20, 20)
    moved = move_to_image(detection, window, SIZE)
    assert moved["bbox"] == [42, 25, 8, 10]
    whole = decode_mask(moved["segmentation"]["counts"], *SIZE)
    assert whole[25:35, 42:50].all()
    assert whole.sum() == 80
    assert is_cut(moved["bbox"], window, SIZE)  # the right border lies within the image
    assert not is_cut([45.0, 25.0, 8.0, 15.0], (40, 20, 20, 20), SIZE)  # the bottom border is that of the image
    assert move_to_image(detection, (0, 0, 20, 20), (20, 20)) is detection


@pytest.mark.parametrize("width, height", [(100, 100), (101, 37), (250, 130), (40, 40)])
def test_tiles_cover_the_image_and_overlap(width, height):
    windows = compute_windows(width, height, 50, 0.2)
    assert windows[0] == (0, 0, width, height)
    if max(width, height) <= 50:
        assert len(windows) == 1
        return
    coverage = np.zeros((height, width), dtype=int)
    for x, y, w, h in windows[1:]:
        assert (w, h) == (min(50, width), min(50, height))
        coverage[y : y + h, x : x + w] += 1
    assert coverage.min() >= 1
    starts = sorted({x for x, *_ in windows[1:]})
    assert all(b - a <= 40 for a, b in zip(starts, starts[1:]))
