"""
SA-Co's cgF1 and its components (SAM 3 paper, section "Metrics"; official `sam3/eval/cgf1_eval.py`).

Where paper and evaluator differ, this module follows the evaluator: detections count from a score of 0.5; metrics are
means over the IoU thresholds 0.5, 0.55, … 0.95; crowd regions are no objects, and detections on them are false
positives; values are in `[0, 1]` (the paper multiplies them by 100).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .metric import CocoMetric, drop_null_fields
from .pairs import SCORE, Pair, overlaps, pairs_of


THRESHOLDS = np.linspace(0.5, 0.95, 10)
_COUNT_EPSILON, _RATE_EPSILON = 1e-4, 1e-6  # the evaluator adds these to its divisors


@dataclass
class PairCounts:
    """
    Counts of one (image, phrase) pair.

    Attributes:
        hits (`np.ndarray` of shape `(10,)`): True positives at each IoU threshold.
        num_detections (`int`): Detections with a score of at least 0.5.
        num_objects (`int`): Objects.
    """

    hits: np.ndarray
    num_detections: int
    num_objects: int

    @property
    def f1(self) -> np.ndarray:
        """F1 at each IoU threshold, of shape `(10,)`."""
        return _f1(self.hits, self.num_detections - self.hits, self.num_objects - self.hits)


def count_pair(pair: Pair, kind: str = "mask", threshold: float = SCORE) -> PairCounts:
    """
    Match detections to objects with the largest sum of IoU (Hungarian matching).

    With several annotators, the one with the best agreement counts (the evaluator's "oracle").

    Args:
        pair (`Pair`): Pair with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Lowest score of a detection that counts, default 0.5.

    Returns:
        `PairCounts`: Counts of the pair.
    """
    predicted = pair.detections_above(threshold)
    best, *others = (_count(predicted, truth, kind) for truth in (pair.truth, *pair.other_truths))
    for other in others:
        is_empty = not other.num_objects and not other.num_detections
        if is_empty or ((best.num_objects or best.num_detections) and other.f1.mean() > best.f1.mean()):
            best = other
    return best


def _count(predicted: list[dict], truth: list[dict], kind: str) -> PairCounts:
    objects = [annotation for annotation in truth if not annotation.get("iscrowd")]
    ious = overlaps(predicted, objects, kind)
    matched = ious[linear_sum_assignment(-ious)]
    return PairCounts((matched[:, None] >= THRESHOLDS).sum(0), len(predicted), len(objects))


def concept_f1(counts: Sequence[PairCounts], weights: np.ndarray | None = None) -> dict[str, float]:
    """
    Compute cgF1 and its components from the counts of all pairs.

    Args:
        counts (`Sequence[PairCounts]`): Counts of all exhaustive pairs.
        weights (`np.ndarray` of shape `(len(counts),)`, *optional*): Weight of each pair, for bootstrap resamples.

    Returns:
        `dict[str, float]`: `IL_MCC`, the Matthews correlation of predicted and true presence over pairs; `pmF1`, the
        F1 of objects, with the false positives of pairs that have both objects and detections; `cgF1 = pmF1 · IL_MCC`;
        `precision`, `recall`, `F1`, `pm_precision`, `positive_macro_F1`, `IL_precision`, `IL_recall`, `IL_F1`,
        `IL_FPR`. Object metrics also exist at IoU 0.5 and 0.75, as `cgF1@0.5`. An undefined metric is -1.
    """
    return weighted_concept_f1(counts)(np.ones(len(counts)) if weights is None else weights)


def weighted_concept_f1(counts: Sequence[PairCounts]) -> Callable[[np.ndarray], dict[str, float]]:
    """Build a function of pair weights that computes [`concept_f1`] of the same pairs."""
    hits = np.array([c.hits for c in counts], dtype=np.float64).reshape(-1, len(THRESHOLDS))
    predicted, truth = (
        np.array([getattr(c, n) for c in counts], dtype=np.float64) for n in ("num_detections", "num_objects")
    )
    local = np.array([c.f1 for c in counts], dtype=np.float64).reshape(-1, len(THRESHOLDS))
    return lambda weights: _compute_metrics(np.asarray(weights, dtype=np.float64), hits, predicted, truth, local)


def _compute_metrics(weights, hits, predicted, truth, local) -> dict[str, float]:
    both = (predicted > 0) & (truth > 0)
    tp, fp, fn = (weights @ part for part in (hits, predicted[:, None] - hits, truth[:, None] - hits))
    positive_fp = (weights * both) @ (predicted[:, None] - hits)
    with np.errstate(invalid="ignore"):
        macro = (weights * both) @ local / (weights * both).sum()
    il = _image_level(*(float(weights @ part) for part in _confusion(predicted, truth)))
    objects = {
        "pmF1": _f1(tp, positive_fp, fn),
        "precision": tp / (tp + fp + _COUNT_EPSILON),
        "recall": tp / (tp + fn + _COUNT_EPSILON),
        "F1": _f1(tp, fp, fn),
        "pm_precision": tp / (tp + positive_fp + _COUNT_EPSILON),
        "positive_macro_F1": macro,
    }
    objects = {"cgF1": objects["pmF1"] * il["IL_MCC"], **objects}
    numbers = {name: _mean(values) for name, values in objects.items()} | il
    for at in (0.5, 0.75):
        index = int(np.argmin(np.abs(THRESHOLDS - at)))
        numbers |= {f"{name}@{at}": _mean(values[index : index + 1]) for name, values in objects.items()}
    return numbers


def concept_f1_of(pairs: Iterable[Pair], kind: str = "mask", threshold: float = SCORE) -> dict[str, float]:
    """Compute [`concept_f1`] of all exhaustive pairs; arguments as in [`count_pair`]."""
    return concept_f1([count_pair(pair, kind, threshold) for pair in pairs if pair.exhaustive])


def _f1(tp, fp, fn):
    precision, recall = tp / (tp + fp + _COUNT_EPSILON), tp / (tp + fn + _COUNT_EPSILON)
    return 2 * precision * recall / (precision + recall + _COUNT_EPSILON)


def _confusion(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return TP, FP, TN, FN of image-level presence."""
    is_predicted, is_present = predicted > 0, truth > 0
    return (
        is_predicted & is_present,
        is_predicted & ~is_present,
        ~is_predicted & ~is_present,
        ~is_predicted & is_present,
    )


def _image_level(tp: float, fp: float, tn: float, fn: float) -> dict[str, float]:
    precision, recall = tp / (tp + fp + _RATE_EPSILON), tp / (tp + fn + _RATE_EPSILON)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "IL_precision": precision,
        "IL_recall": recall,
        "IL_F1": 2 * precision * recall / (precision + recall + _RATE_EPSILON),
        "IL_FPR": fp / (fp + tn + _RATE_EPSILON),
        "IL_MCC": (tp * tn - fp * fn) / (product**0.5 + _RATE_EPSILON),
    }


def _mean(values: np.ndarray) -> float:
    """Compute the mean of the defined values; -1 without any."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else -1.0


class ConceptF1(CocoMetric):
    """
    [`concept_f1_of`] as an `evaluate.Metric`; see [`CocoMetric`].

    `compute` also accepts `other_annotators`, ground truths of further annotators for the same pairs; for each pair,
    the annotator with the best agreement counts.
    """

    description = "SA-Co's cgF1 and its components."
    citation = "Carion et al. 2025, SAM 3: Segment Anything with Concepts"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE, other_annotators=()):
        pairs = pairs_of(ground_truth, drop_null_fields(predictions), other_annotators=other_annotators)
        return concept_f1_of(pairs, kind, threshold)
