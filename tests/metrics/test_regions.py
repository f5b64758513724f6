"""Region metrics, compared with closed forms, and boundaries with a brute-force search."""

import numpy as np
import pytest

from sam_ft.metrics.pairs import Pair
from sam_ft.metrics.regions import boundary_f1, dice, mask_iou, region_quality

from .saco_files import HEIGHT, WIDTH, disc, shape_of


def rectangle(x, y, w, h) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return mask


@pytest.mark.parametrize("shift", [0, 3, 10, 20, 25])
def test_shifted_rectangles(shift):
    """Two rectangles of 20 px width at a distance of s share 20 − s of 20 + s columns."""
    first, second = rectangle(5, 5, 20, 10), rectangle(5 + shift, 5, 20, 10)
    shared = max(20 - shift, 0)
    assert mask_iou(first, second) == pytest.approx(shared / (40 - shared), abs=1e-12)
    assert dice(first, second) == pytest.approx(shared / 20, abs=1e-12)


def test_empty_masks():
    empty, filled = rectangle(0, 0, 0, 0), rectangle(3, 3, 5, 5)
    assert mask_iou(empty, empty) == dice(empty, empty) == boundary_f1(empty, empty, 1) == 1
    assert mask_iou(empty, filled) == dice(empty, filled) == boundary_f1(empty, filled, 1) == 0


def brute_force_boundary_f1(found, truth, tolerance):
    def boundary_pixels(mask):
        return [
            (y, x)
            for y, x in np.argwhere(mask)
            if any(
                0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH and not mask[y + dy, x + dx]
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
            )
        ]

    def share_within_tolerance(pixels, others):
        return np.mean([min((y - v) ** 2 + (x - u) ** 2 for v, u in others) <= tolerance**2 for y, x in pixels])

    predicted, true = boundary_pixels(found), boundary_pixels(truth)
    precision, recall = share_within_tolerance(predicted, true), share_within_tolerance(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_boundary_f1_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    found, truth = (disc(rng, rng.uniform(15, 30, 2), rng.uniform(6, 14)) for _ in range(2))
    if seed % 3 == 0:  # at the image border, which is no boundary
        found, truth = np.roll(found, -15, axis=1), np.roll(truth, -15, axis=1)
        found[:, -15:] = truth[:, -15:] = False
    for tolerance in (0, 1, 2.5):
        assert boundary_f1(found, truth, tolerance) == pytest.approx(brute_force_boundary_f1(found, truth, tolerance))


def pair(truth, found, crowds=(), **more) -> Pair:
    shapes = [shape_of(mask) | {"iscrowd": 0} for mask in truth] + [shape_of(mask) | {"iscrowd": 1} for mask in crowds]
    found = [{"score": score, **shape_of(mask)} for mask, score in found]
    return Pair(1, "thing", (HEIGHT, WIDTH), shapes, found, **more)


def test_region_quality_compares_unions():
    """The second detection covers half of its object; IoU is computed for the union of both."""
    a, b = rectangle(2, 2, 20, 10), rectangle(30, 20, 20, 10)
    quality = region_quality([pair([a, b], [(a, 0.9), (rectangle(30, 20, 10, 10), 0.8)])])
    assert quality["mean_IoU"] == pytest.approx(300 / 400)
    assert quality["dice"] == pytest.approx(600 / 700)
    assert region_quality([pair([a], [(a, 0.9)]), pair([b], [(b, 0.4)])])["mean_IoU"] == pytest.approx(0.5)


def test_crowd_regions_and_non_exhaustive_pairs_are_excluded():
    a, crowd = rectangle(2, 2, 20, 10), rectangle(30, 20, 20, 10)
    assert region_quality([pair([a], [(a | crowd, 0.9)], [crowd])])["mean_IoU"] == 1
    half = rectangle(2, 2, 10, 10)
    assert region_quality([pair([a], [(half | crowd, 0.9)], [crowd])])["mean_IoU"] == pytest.approx(0.5)
    assert region_quality([pair([a], [(a, 0.9)], exhaustive=False), pair([], [])]) == {}


@pytest.mark.parametrize("seed", range(5))
def test_cropping_does_not_change_boundary_f1(seed):
    """`region_quality` crops both masks to their common window."""
    rng = np.random.default_rng(seed)
    truth, found = (disc(rng, rng.uniform(0, 48, 2), rng.uniform(4, 20)) for _ in range(2))
    expected = boundary_f1(found, truth, np.ceil(0.008 * np.hypot(HEIGHT, WIDTH)))
    assert region_quality([pair([truth], [(found, 0.9)])])["boundary_F1"] == pytest.approx(expected)
