"""Detections of one thing: closed forms on rectangles."""

import numpy as np
import pytest

from sam_ft.inference.nms import Piece, intersection_over_minimum, is_cut, placed, suppress
from sam_ft.inference.tiling import windows_of
from sam_ft.ops.masks import decode_mask, encode_mask


SIZE = (40, 60)


def box(x, y, w, h, score=0.9, masks=True):
    found = {"score": score, "bbox": [float(x), float(y), float(w), float(h)]}
    if masks:
        mask = np.zeros(SIZE, dtype=bool)
        mask[y : y + h, x : x + w] = True
        found["segmentation"] = {"size": list(SIZE), "counts": encode_mask(mask)}
    return found


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "boxes"])
def test_intersection_over_minimum(masks):
    inner, outer, beside = (
        box(10, 10, 4, 4, masks=masks),
        box(8, 8, 10, 10, masks=masks),
        box(12, 10, 4, 4, masks=masks),
    )
    found = intersection_over_minimum([inner, outer], [outer, beside])
    assert found == pytest.approx(np.array([[1.0, 0.5], [1.0, 1.0]]))
    assert intersection_over_minimum([], [inner]).shape == (0, 1)


def test_the_best_of_what_overlaps_is_kept():
    inner, outer, apart = box(10, 10, 4, 4, 0.6), box(8, 8, 10, 10, 0.8), box(40, 10, 5, 5, 0.3)
    assert suppress([Piece(inner), Piece(apart), Piece(outer)], 0.5) == [outer, apart]
    touching = box(17, 8, 10, 10, 0.7)  # a tenth of each
    assert suppress([Piece(outer), Piece(touching)], 0.5) == [outer, touching]


def test_pieces_of_tiles_become_one_and_a_whole_beats_them():
    left, right = box(10, 10, 10, 5, 0.7), box(12, 10, 14, 5, 0.6)  # the tiles share 8 columns
    joined = suppress([Piece(left, cut=True), Piece(right, cut=True)], 0.5)
    assert len(joined) == 1
    assert joined[0]["bbox"] == [10, 10, 16, 5]
    assert decode_mask(joined[0]["segmentation"]["counts"], *SIZE).sum() == 16 * 5
    whole = box(10, 10, 16, 5, 0.5)
    assert suppress([Piece(left, cut=True), Piece(right, cut=True), Piece(whole)], 0.5) == [whole]


def test_placed_and_cut():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 12:20] = True
    found = {
        "score": 1.0,
        "bbox": [12.0, 5.0, 8.0, 10.0],
        "segmentation": {"size": [20, 20], "counts": encode_mask(mask)},
    }
    window = (30, 20, 20, 20)
    moved = placed(found, window, SIZE)
    assert moved["bbox"] == [42, 25, 8, 10]
    whole = decode_mask(moved["segmentation"]["counts"], *SIZE)
    assert whole[25:35, 42:50].all()
    assert whole.sum() == 80
    assert is_cut(moved["bbox"], window, SIZE)  # on the right, where the image goes on
    assert not is_cut([45.0, 25.0, 8.0, 15.0], (40, 20, 20, 20), SIZE)  # at the bottom, where it ends
    assert placed(found, (0, 0, 20, 20), (20, 20)) is found


@pytest.mark.parametrize("width, height", [(100, 100), (101, 37), (250, 130), (40, 40)])
def test_tiles_cover_the_image_and_overlap(width, height):
    windows = windows_of(width, height, 50, 0.2)
    assert windows[0] == (0, 0, width, height)
    if max(width, height) <= 50:
        assert len(windows) == 1
        return
    seen = np.zeros((height, width), dtype=int)
    for x, y, w, h in windows[1:]:
        assert (w, h) == (min(50, width), min(50, height))
        seen[y : y + h, x : x + w] += 1
    assert seen.min() >= 1
    starts = sorted({x for x, *_ in windows[1:]})
    assert all(b - a <= 40 for a, b in zip(starts, starts[1:]))
