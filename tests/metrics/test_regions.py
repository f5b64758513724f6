"""Regions against closed forms, and boundaries against brute force."""

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
    """20 px wide, moved by s: they share 20 − s columns of 20 + s."""
    first, second = rectangle(5, 5, 20, 10), rectangle(5 + shift, 5, 20, 10)
    shared = max(20 - shift, 0)
    assert mask_iou(first, second) == pytest.approx(shared / (40 - shared), abs=1e-12)
    assert dice(first, second) == pytest.approx(shared / 20, abs=1e-12)


def test_nothing_against_nothing_and_something():
    nothing, something = rectangle(0, 0, 0, 0), rectangle(3, 3, 5, 5)
    assert mask_iou(nothing, nothing) == dice(nothing, nothing) == boundary_f1(nothing, nothing, 1) == 1
    assert mask_iou(nothing, something) == dice(nothing, something) == boundary_f1(nothing, something, 1) == 0


def by_brute_force(found, truth, tolerance):
    def rim(mask):
        return [
            (y, x)
            for y, x in np.argwhere(mask)
            if any(
                0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH and not mask[y + dy, x + dx]
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
            )
        ]

    def near(some, others):
        return np.mean([min((y - v) ** 2 + (x - u) ** 2 for v, u in others) <= tolerance**2 for y, x in some])

    precision, recall = near(rim(found), rim(truth)), near(rim(truth), rim(found))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_boundaries_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    found, truth = (disc(rng, rng.uniform(15, 30, 2), rng.uniform(6, 14)) for _ in range(2))
    if seed % 3 == 0:  # at the image's edge, which is no boundary
        found, truth = np.roll(found, -15, axis=1), np.roll(truth, -15, axis=1)
        found[:, -15:] = truth[:, -15:] = False
    for tolerance in (0, 1, 2.5):
        assert boundary_f1(found, truth, tolerance) == pytest.approx(by_brute_force(found, truth, tolerance))


def pair(truth, found, crowds=(), **more) -> Pair:
    shapes = [shape_of(mask) | {"iscrowd": 0} for mask in truth] + [shape_of(mask) | {"iscrowd": 1} for mask in crowds]
    found = [{"score": score, **shape_of(mask)} for mask, score in found]
    return Pair(1, "thing", (HEIGHT, WIDTH), shapes, found, **more)


def test_of_a_phrase_counts_the_union():
    """Two objects and two detections, one half of another: IoU is that of all of them at once."""
    a, b = rectangle(2, 2, 20, 10), rectangle(30, 20, 20, 10)
    quality = region_quality([pair([a, b], [(a, 0.9), (rectangle(30, 20, 10, 10), 0.8)])])
    assert quality["mean_IoU"] == pytest.approx(300 / 400)
    assert quality["dice"] == pytest.approx(600 / 700)
    assert region_quality([pair([a], [(a, 0.9)]), pair([b], [(b, 0.4)])])["mean_IoU"] == pytest.approx(0.5)


def test_crowds_are_cut_out_and_doubtful_pairs_left_out():
    a, crowd = rectangle(2, 2, 20, 10), rectangle(30, 20, 20, 10)
    assert region_quality([pair([a], [(a | crowd, 0.9)], [crowd])])["mean_IoU"] == 1
    assert region_quality([pair([a], [(a, 0.9)], exhaustive=False), pair([], [])]) == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_window_changes_nothing(seed):
    """Only the part of the image that holds anything is looked at."""
    rng = np.random.default_rng(seed)
    truth, found = (disc(rng, rng.uniform(0, 48, 2), rng.uniform(4, 20)) for _ in range(2))
    whole = boundary_f1(found, truth, np.ceil(0.008 * np.hypot(HEIGHT, WIDTH)))
    assert region_quality([pair([truth], [(found, 0.9)])])["boundary_F1"] == pytest.approx(whole)
