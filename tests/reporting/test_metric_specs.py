"""Registry of metrics: complete, consistent with the computations, and used for every selection by name."""

from types import SimpleNamespace

import numpy as np
import pytest

from sam_ft.commands.build import check_metric, set_metric
from sam_ft.commands.retention_probe import list_agreement
from sam_ft.evaluation.predictions import PredictionStore, score_results
from sam_ft.metrics.bootstrap import resampled_pairs, resampled_precision
from sam_ft.metrics.objects import names_of
from sam_ft.reporting.metric_specs import (
    AT_THRESHOLDS,
    MAX_CLICKS,
    METRICS,
    RENAMED_METRICS,
    MetricGroup,
    metrics_in,
    selectable_metrics,
)


BOX = {"bbox": [1, 1, 10, 10], "area": 100}


@pytest.fixture(scope="module")
def scored():
    """Score two images with a present phrase, its near miss, and a phrase that was not trained."""
    names = {1: "red car", 2: "blue car", 3: "dog"}
    truth = {
        "images": [{"id": i, "example_id": str(i), "height": 20, "width": 20} for i in (1, 2)],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **BOX},
            {"id": 2, "image_id": 2, "category_id": 3, "iscrowd": 0, **BOX},
        ],
        "pairs": [{"image_id": i, "category_id": c, "exhaustive": True} for i in (1, 2) for c in names],
    }
    results = [{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": BOX["bbox"]}]
    presence = {(i, c): 0.9 if (i, c) == (1, 1) else 0.1 for i in (1, 2) for c in names}
    return score_results(truth, results, presence, with_masks=False, trained={"red car", "blue car"})


def test_every_metric_of_an_evaluation_is_registered(scored):
    groups = (MetricGroup.PRECISION, MetricGroup.CONCEPT, MetricGroup.PHRASE)
    expected = {name for name in metrics_in(*groups) if not name.startswith("mask_")}
    assert set(scored.metrics) == expected
    assert set(names_of(MAX_CLICKS)) == set(metrics_in(MetricGroup.OBJECT))
    names_at_thresholds = metrics_in(MetricGroup.THRESHOLD)
    assert {name.removesuffix(AT_THRESHOLDS) for name in names_at_thresholds} <= set(scored.metrics)


def test_resampled_metrics_are_computed_by_the_bootstrap(scored):
    resampled = {name for name, spec in METRICS.items() if spec.is_resampled}
    empty = PredictionStore()
    computed = {*names_of(MAX_CLICKS), *(list_agreement(empty, empty, {}, {}).keys() & METRICS.keys())}
    for kind in ("mask", "box"):
        numbers = resampled_precision(scored.ground_truth, scored.results, kind, [1, 2], scored.groups)(np.ones(2))
        computed |= numbers.keys()
        for name, value in numbers.items():
            if name in scored.metrics:
                assert value == pytest.approx(scored.metrics[name])
    of_pairs = [name for name in metrics_in(MetricGroup.CONCEPT, MetricGroup.PHRASE) if name in resampled]
    numbers = resampled_pairs(scored.measured, [1, 2], of_pairs)(np.ones(2))
    for name in of_pairs:
        assert numbers[name] == pytest.approx(scored.metrics[name])
    assert resampled == computed | set(of_pairs) | {"mean_IoU"}


def test_names_are_unique_and_old_names_are_not_registered():
    labels = [spec.label for spec in METRICS.values()]
    assert len(set(labels)) == len(labels)
    assert not RENAMED_METRICS.keys() & METRICS.keys()
    new_names = {name.removesuffix("_before") for name in RENAMED_METRICS.values()}
    assert new_names <= METRICS.keys()


@pytest.mark.parametrize("old, new", RENAMED_METRICS.items())
def test_old_names_of_metrics_are_refused_with_the_new_name(old, new):
    arguments = SimpleNamespace(metric_for_best_model=f"eval_{old}")
    with pytest.raises(ValueError, match=f"'eval_{old}', which was renamed to `eval_{new}`. Choose .*`eval_loss`"):
        check_metric(arguments, selectable_metrics(MetricGroup.PRECISION), "`eval_loss`")


@pytest.mark.parametrize(
    "metric, message",
    [
        ("mask_AP50_untrained", "which not every evaluation gives. Choose `eval_loss`"),
        ("retention_IoU", "which no evaluation gives. Did you mean `eval_mask_AP`"),
        ("eval_box_AB", "which no evaluation gives. Did you mean `eval_box_AP`"),
    ],
)
def test_metrics_that_cannot_select_a_checkpoint_are_refused(metric, message):
    arguments = SimpleNamespace(metric_for_best_model=metric)
    with pytest.raises(ValueError, match=message):
        check_metric(arguments, selectable_metrics(MetricGroup.PRECISION, MetricGroup.LOSS), "`eval_loss`")


@pytest.mark.parametrize("metric, greater_is_better", [("mask_AP", True), ("loss", False), ("IoU_error", False)])
def test_the_direction_of_a_metric_selects_the_checkpoint(metric, greater_is_better):
    arguments = SimpleNamespace(metric_for_best_model=metric)
    set_metric(arguments, metric)
    assert arguments.metric_for_best_model == f"eval_{metric}"
    assert arguments.greater_is_better is greater_is_better
