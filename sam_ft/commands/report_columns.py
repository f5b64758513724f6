"""Columns of a report: metrics of evaluations with confidence intervals, and differences from the first one."""

from collections.abc import Callable

import numpy as np

from ..arguments import EvalArguments
from ..evaluation.predictions import ScoredEvaluation, select_annotations_with_masks
from ..metrics.bootstrap import (
    image_weights,
    interval,
    resampled_means,
    resampled_pairs,
    resampled_precision,
)
from ..metrics.objects import resampled_objects
from ..metrics.summary import measure, summarize
from ..metrics.thresholds import at_thresholds
from ..reporting.metric_specs import AT_THRESHOLDS, METRICS, MetricGroup, metrics_in
from ..reporting.metric_table import Column
from ..reporting.retention_summary import describe_retention
from .candidates import CandidateEvaluation
from .retention_probe import PairValues, average_agreement, list_agreement


def build_columns(evaluated: list[CandidateEvaluation], eval_args: EvalArguments) -> list[Column]:
    """
    Build the columns of a report: metrics, confidence intervals, and differences to the first evaluation.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        eval_args (`EvalArguments`): Keys of the evaluation.
    """
    images = sorted({pair.image_id for pair in evaluated[0].scored.pairs})
    samples = eval_args.bootstrap_samples if len(images) > 1 else 0  # One image has no interval.
    weights = image_weights(len(images), samples) if samples else []
    columns, first = [], evaluated[0]
    for candidate in evaluated:
        scored = candidate.scored
        metrics = {name.removeprefix("eval_"): value for name, value in candidate.metrics.items()}
        if candidate.thresholds is not None:
            measured = measure(at_thresholds(scored.pairs, candidate.thresholds), scored.kind)
            summary = summarize(measured)
            names = [name.removesuffix(AT_THRESHOLDS) for name in metrics_in(MetricGroup.THRESHOLD)]
            metrics |= {f"{name}{AT_THRESHOLDS}": summary[name] for name in names if name in summary}
        resampled = _resample(scored, images, weights)
        if candidate is not first and candidate.probe is not None and first.probe is not None:
            agreement = list_agreement(first.probe, candidate.probe, candidate.kinds, candidate.sizes)
            metrics |= average_agreement(agreement)
            resampled |= _resample_agreement(agreement, list(candidate.sizes), samples)
        column = Column(candidate.name, metrics, phrases=scored.phrases, curves=scored.curves)
        column.intervals = {
            name: interval(values) for name, values in resampled.items() if metrics.get(name, -1) != -1
        }
        if candidate is first:
            first_metrics, first_resampled = metrics, resampled
        else:
            column.differences = _differences(metrics, resampled, first_metrics, first_resampled)
            column.notes = describe_retention(metrics, first_metrics)
        columns.append(column)
    return columns


def _resample(scored: ScoredEvaluation, images: list[int], weights) -> dict[str, np.ndarray]:
    if not len(weights):
        return {}
    pair_metrics = metrics_in(MetricGroup.CONCEPT, MetricGroup.REGION, MetricGroup.PHRASE)
    pair_metrics = [name for name in pair_metrics if METRICS[name].is_resampled]
    numbers: list[Callable] = [resampled_pairs(scored.measured, images, pair_metrics)]
    for kind in ("mask", "box"):
        if f"{kind}_AP" in scored.metrics:
            truth = scored.ground_truth
            if kind == "mask":
                truth = select_annotations_with_masks(truth)
            numbers.append(resampled_precision(truth, scored.results, kind, images, scored.groups))
    if scored.objects:
        index_of_example = {
            image["example_id"]: images.index(image["id"])
            for image in scored.ground_truth["images"]
            if image["id"] in images
        }
        objects = [
            (score, index_of_example[example])
            for (example, _), score in sorted(scored.objects.items())
            if example in index_of_example
        ]
        numbers.append(resampled_objects(*zip(*objects, strict=True)))
    rows = [{name: value for part in numbers for name, value in part(row).items()} for row in weights]
    return {name: np.array([row[name] for row in rows]) for name in rows[0] if METRICS[name].is_resampled}


def _resample_agreement(agreement: PairValues, images: list[str], samples: int) -> dict[str, np.ndarray]:
    """Resample the images of the retention probe."""
    if not samples or len(images) < 2:
        return {}
    compute = resampled_means({name: pairs for name, pairs in agreement.items() if name in METRICS}, images)
    rows = [compute(row) for row in image_weights(len(images), samples)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _differences(
    metrics: dict, resampled: dict, first_metrics: dict, first_resampled: dict
) -> dict[str, tuple[float, float, float]]:
    return {
        name: (metrics[name] - first_metrics[name], *interval(values - first_resampled[name]))
        for name, values in resampled.items()
        if name in first_resampled and metrics.get(name, -1) != -1 and first_metrics.get(name, -1) != -1
    }
