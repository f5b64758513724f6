"""Metrics of prompted objects, compared with hand-written means."""

import numpy as np
import pytest

from sam_ft.metrics.objects import ObjectScore, names_of, object_numbers, resampled_objects


def score(area, clicks, **more):
    values = {"box": 0.5, "best": 0.6, "iou": clicks[0], "dice": 0.7, "boundary_f1": 0.2, "predicted": 0.9} | more
    return ObjectScore(area, clicks, **values)


SCORES = [
    score(100, [0.2, 0.4], predicted=0.5),
    score(1023.9, [0.4, 0.6], box=0.9, predicted=0.1),
    score(1024, [0.6, 0.9], best=0.8, predicted=0.6),
    ObjectScore.missing(4, 2),
]


def test_means_over_objects():
    numbers = object_numbers(SCORES)
    assert set(numbers) == set(names_of(2)) - {"object_IoU_large"}  # no object is large
    assert numbers["object_IoU"] == pytest.approx((0.2 + 0.4 + 0.6) / 4)
    assert numbers["IoU@2"] == pytest.approx((0.4 + 0.6 + 0.9) / 4)
    assert numbers["IoU@box"] == pytest.approx((0.5 + 0.9 + 0.5) / 4)
    assert numbers["object_IoU_small"] == pytest.approx((0.2 + 0.4) / 3)
    assert numbers["object_IoU_medium"] == pytest.approx(0.6)
    # The mean covers prompted objects only.
    assert numbers["IoU_error"] == pytest.approx((0.3 + 0.3 + 0.0) / 3)
    assert numbers["objects_missing"] == 0.25


def test_no_metrics_without_objects():
    assert object_numbers([]) == {}


def test_resampling_weights_each_image_by_its_count():
    numbers = resampled_objects(SCORES, [0, 0, 1, 1])
    assert numbers(np.array([1, 1])) == pytest.approx(
        object_numbers(SCORES) | {"object_IoU_large": np.nan}, nan_ok=True
    )
    assert numbers(np.array([2, 0]))["object_IoU"] == pytest.approx(object_numbers(SCORES[:2])["object_IoU"])
    twice = object_numbers([*SCORES[:2], *SCORES[2:], *SCORES[2:]])
    assert numbers(np.array([1, 2]))["IoU@1"] == pytest.approx(twice["IoU@1"])
