"""Metrics that are means over (image, phrase) pairs, one function for each."""

from collections.abc import Callable, Iterable

from .pairs import SCORE, Pair, overlaps


IOU = 0.5
PairMetric = Callable[[Pair, str, float], float | None]
PAIR_METRICS: dict[str, PairMetric] = {}  # by name


def pair_metric(function: PairMetric) -> PairMetric:
    """
    Register a metric under the name of its function; a decorator.

    Evaluations average it over pairs, and the bootstrap resamples it. `reporting/metric_specs.py` specifies its label,
    direction and use in reports.

    Args:
        function (`Callable[[Pair, str, float], float | None]`): `(pair, kind, threshold) -> value` of one present or
            absent pair, with `kind`, `mask` or `box`, and the lowest score of a detection that counts. `None` leaves
            the pair out.
    """
    PAIR_METRICS[function.__name__] = function
    return function


@pair_metric
def presence_accuracy(pair: Pair, _kind: str, threshold: float) -> float | None:
    """Return whether the predicted presence is correct."""
    return None if pair.presence is None else (pair.presence >= threshold) == pair.is_present


@pair_metric
def false_positives_per_absent(pair: Pair, _kind: str, threshold: float) -> float | None:
    """Return the number of detections of an absent phrase."""
    return len(pair.detections_above(threshold)) if pair.is_absent else None


@pair_metric
def concept_recall(pair: Pair, kind: str, threshold: float) -> float | None:
    """Return whether a detection of a present phrase overlaps an object with IoU of at least 0.5."""
    if not pair.is_present or not pair.has(kind):
        return None
    return bool((overlaps(pair.detections_above(threshold), pair.objects, kind) >= IOU).any())


@pair_metric
def grounding_accuracy(pair: Pair, _kind: str, _threshold: float) -> float | None:
    """
    Return whether the highest-scored box of a present phrase overlaps an object with IoU of at least 0.5.

    This is Recall@1 of phrase grounding; no score threshold applies.

    Source:
        Plummer et al. 2015.
    """
    if not pair.is_present:
        return None
    return bool((overlaps(pair.detections[:1], pair.objects, "box") >= IOU).any())


def compute_pair_metrics(pair: Pair, kind: str = "mask", threshold: float = SCORE) -> dict[str, float]:
    """
    Compute the metrics of `PAIR_METRICS` of one pair.

    Args:
        pair (`Pair`): Pair with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Threshold of scores and presence probabilities, default 0.5.

    Returns:
        `dict[str, float]`: Values by name; metrics that leave the pair out are missing. Empty for a pair that is
        neither present nor absent.
    """
    if not (pair.is_present or pair.is_absent):
        return {}
    values = {name: function(pair, kind, threshold) for name, function in PAIR_METRICS.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def average_pair_metrics(pairs: Iterable[dict[str, float]]) -> dict[str, float]:
    """Average the results of [`compute_pair_metrics`]; a metric without any value is missing."""
    values: dict[str, list[float]] = {}
    for numbers in pairs:
        for name, value in numbers.items():
            values.setdefault(name, []).append(value)
    return {name: sum(values[name]) / len(values[name]) for name in PAIR_METRICS if name in values}
