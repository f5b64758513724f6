"""
SA-Co's cgF1 and its parts (SAM 3 paper, section "Metrics"; definitions as in the official `sam3/eval/cgf1_eval.py`).

Where paper and evaluator differ, this is the evaluator: detections count from a score of 0.5 on; IoU thresholds are 0.5, 0.55, … 0.95 and the
numbers their mean; crowds are no objects, and what is found on them counts as false; values are in `[0, 1]` (the paper's times 100).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .metric import CocoMetric, given
from .pairs import SCORE, Pair, overlaps, pairs_of


THRESHOLDS = np.linspace(0.5, 0.95, 10)
_COUNT, _RATE = 1e-4, 1e-6  # what the evaluator adds to its divisors


@dataclass
class PairCounts:
    """
    What one (image, phrase) pair counts.

    Attributes:
        hits (`np.ndarray` of shape `(10,)`): objects found, at each IoU threshold.
        num_found (`int`), num_truth (`int`): detections of a score of 0.5 or more, and objects.
    """

    hits: np.ndarray
    num_found: int
    num_truth: int

    @property
    def f1(self) -> np.ndarray:
        """F1 at each threshold, `(10,)`."""
        return _f1(self.hits, self.num_found - self.hits, self.num_truth - self.hits)


def count_pair(pair: Pair, kind: str = "mask", threshold: float = SCORE) -> PairCounts:
    """
    Matches detections to objects so that the sum of IoU is largest (Hungarian). With several annotators the one that agrees best counts
    (the evaluator's "oracle").

    Args:
        pair (`Pair`). kind (`str`): `mask` or `box`. threshold (`float`): score from which on a detection counts.
    """
    found = pair.kept(threshold)
    best, *others = (_count(found, truth, kind) for truth in (pair.truth, *pair.others))
    for other in others:
        if not other.num_truth and not other.num_found:
            best = other
        elif (best.num_truth or best.num_found) and other.f1.mean() > best.f1.mean():
            best = other
    return best


def _count(found: list[dict], truth: list[dict], kind: str) -> PairCounts:
    objects = [one for one in truth if not one.get("iscrowd")]
    ious = overlaps(found, objects, kind)
    matched = ious[linear_sum_assignment(-ious)]
    return PairCounts((matched[:, None] >= THRESHOLDS).sum(0), len(found), len(objects))


def concept_f1(counts: Sequence[PairCounts], weights: np.ndarray | None = None) -> dict[str, float]:
    """
    Args:
        counts (`Sequence[PairCounts]`): of all exhaustive pairs.
        weights (`np.ndarray` of shape `(len(counts),)`, *optional*): how often each counts, for bootstrap samples.

    Returns:
        `dict[str, float]`: `IL_MCC`: Matthews correlation of "something is found" with "something is there", over pairs;
        `pmF1`: F1 of objects over all pairs, false ones of pairs that show and find something; `cgF1 = pmF1 · IL_MCC`; further
        `precision`, `recall`, `F1`, `pm_precision`, `positive_macro_F1`, `IL_precision`, `IL_recall`, `IL_F1`, `IL_FPR`; those of
        objects also at IoU 0.5 and 0.75, as `cgF1@0.5`. -1 where a number does not exist.
    """
    return weighted_concept_f1(counts)(np.ones(len(counts)) if weights is None else weights)


def weighted_concept_f1(counts: Sequence[PairCounts]) -> Callable[[np.ndarray], dict[str, float]]:
    """[`concept_f1`] of the same pairs with one set of weights after another."""
    hits = np.array([c.hits for c in counts], dtype=np.float64).reshape(-1, len(THRESHOLDS))
    found, truth = (np.array([getattr(c, n) for c in counts], dtype=np.float64) for n in ("num_found", "num_truth"))
    local = np.array([c.f1 for c in counts], dtype=np.float64).reshape(-1, len(THRESHOLDS))
    return lambda weights: _weighted(np.asarray(weights, dtype=np.float64), hits, found, truth, local)


def _weighted(weights, hits, found, truth, local) -> dict[str, float]:
    both = (found > 0) & (truth > 0)
    tp, fp, fn = (weights @ part for part in (hits, found[:, None] - hits, truth[:, None] - hits))
    positive_fp = (weights * both) @ (found[:, None] - hits)
    with np.errstate(invalid="ignore"):
        macro = (weights * both) @ local / (weights * both).sum()
    il = _image_level(*(float(weights @ part) for part in _confusion(found, truth)))
    objects = {
        "pmF1": _f1(tp, positive_fp, fn),
        "precision": tp / (tp + fp + _COUNT),
        "recall": tp / (tp + fn + _COUNT),
        "F1": _f1(tp, fp, fn),
        "pm_precision": tp / (tp + positive_fp + _COUNT),
        "positive_macro_F1": macro,
    }
    objects = {"cgF1": objects["pmF1"] * il["IL_MCC"], **objects}
    numbers = {name: _mean(values) for name, values in objects.items()} | il
    for at in (0.5, 0.75):
        place = int(np.argmin(np.abs(THRESHOLDS - at)))
        numbers |= {f"{name}@{at}": _mean(values[place : place + 1]) for name, values in objects.items()}
    return numbers


def concept_f1_of(pairs: Iterable[Pair], kind: str = "mask", threshold: float = SCORE) -> dict[str, float]:
    """[`concept_f1`] of all exhaustive pairs."""
    return concept_f1([count_pair(pair, kind, threshold) for pair in pairs if pair.exhaustive])


def _f1(tp, fp, fn):
    precision, recall = tp / (tp + fp + _COUNT), tp / (tp + fn + _COUNT)
    return 2 * precision * recall / (precision + recall + _COUNT)


def _confusion(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
    """TP, FP, TN, FN of "something is found"."""
    some, there = found > 0, truth > 0
    return some & there, some & ~there, ~some & ~there, ~some & there


def _image_level(tp: float, fp: float, tn: float, fn: float) -> dict[str, float]:
    precision, recall = tp / (tp + fp + _RATE), tp / (tp + fn + _RATE)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "IL_precision": precision,
        "IL_recall": recall,
        "IL_F1": 2 * precision * recall / (precision + recall + _RATE),
        "IL_FPR": fp / (fp + tn + _RATE),
        "IL_MCC": (tp * tn - fp * fn) / (product**0.5 + _RATE),
    }


def _mean(values: np.ndarray) -> float:
    """Of the values that exist."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else -1.0


class ConceptF1(CocoMetric):
    """[`concept_f1_of`] as an `evaluate.Metric`; see [`CocoMetric`]."""

    description = "SA-Co's cgF1 and its parts."
    citation = "Carion et al. 2025, SAM 3: Segment Anything with Concepts"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE):
        return concept_f1_of(pairs_of(ground_truth, given(predictions)), kind, threshold)
