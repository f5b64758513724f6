"""Simplified outlines: few points, near the mask."""

import numpy as np
import pytest

from sam_ft.ops.masks import decode_mask, polygons_to_counts
from sam_ft.ops.outline import outlines


def rasterise(parts, mask):
    return decode_mask(polygons_to_counts(parts, *mask.shape), *mask.shape)


def disc(radius, size=(80, 100), centre=(40, 45)):
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def test_a_disc_has_few_points_and_the_same_shape():
    mask = disc(30)
    parts, has_holes = outlines(mask)
    assert not has_holes
    assert len(parts) == 1
    assert 6 < len(parts[0]) // 2 < 40
    rasterised = rasterise(parts, mask)
    # An outline of 190 px deviates by up to 1 px, for an area of 2,800 px.
    assert (rasterised & mask).sum() / (rasterised | mask).sum() > 0.93


def test_pieces_are_sorted_by_size_and_holes_reported():
    mask = disc(10, centre=(15, 80))
    mask |= disc(25) & ~disc(8)
    parts, has_holes = outlines(mask)
    assert has_holes
    assert len(parts) == 2
    sizes = [rasterise([part], mask).sum() for part in parts]
    assert sizes[0] > sizes[1] > 200
    assert outlines(np.zeros((5, 5), dtype=bool)) == ([], False)


@pytest.mark.parametrize("mask", [np.eye(6, dtype=bool), np.ones((1, 1), dtype=bool), np.ones((3, 4), dtype=bool)])
def test_small_and_touching_pieces(mask):
    parts, _ = outlines(mask)
    assert all(len(part) >= 6 for part in parts)
    assert (rasterise(parts, mask) == mask).all()
