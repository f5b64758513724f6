"""Benchmark of the label review: planted errors, and metrics of perfect predictions."""

import numpy as np
import pytest

from benchmarks.label_review import MORE_KINDS, PLANTED, as_label, auroc, measure, plant_errors
from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.synthetic.scenes import draw_scene
from sam_ft.metrics.label_review import MISSING
from sam_ft.options.scenes import SceneOptions


@pytest.fixture(scope="module")
def scenes():
    options = SceneOptions(width=96, height=96)
    return [draw_scene(keyed_draws(0, 0, str(i), "test"), options)[1] for i in range(40)]


def test_errors_are_planted_once_and_found_with_perfect_predictions(scenes):
    kinds = PLANTED + MORE_KINDS
    planted = plant_errors(scenes, list(SceneOptions().shapes), 0.05, 0, kinds)
    number = round(0.05 * sum(map(len, scenes)))
    errors = [label["planted"] for scene in planted for label in scene.image.labels if label["planted"]]
    assert sum(len(scene.removed) for scene in planted) == number
    for kind in set(kinds) - {MISSING}:
        assert errors.count(kind) == number * (2 if kind == "merged_or_split" else 1)
    for scene, objects in zip(planted, scenes, strict=True):
        scene.image.detections = [as_label(o.mask, o.shape) | {"score": 0.9} for o in objects]
    result = measure(planted)
    assert all(values.get("AUROC", 1) > 0.95 for values in result.values())
    assert result["all"]["precision"] > 0.9


def test_auroc_counts_equal_scores_half():
    assert auroc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True])) == pytest.approx(7 / 8)
    assert auroc(np.zeros(4), np.array([False, True, True, False])) == pytest.approx(0.5)
