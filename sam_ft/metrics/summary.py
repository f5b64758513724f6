"""Metrics over (image, phrase) pairs: measured once per pair, averaged over any subset of pairs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .concept_f1 import PairCounts, concept_f1, count_pair
from .grounding import compare_phrases
from .pair_metrics import average_pair_metrics, compute_pair_metrics
from .pairs import SCORE, Pair
from .regions import mean_quality, pair_quality


@dataclass
class Measured:
    """
    Measurements of one (image, phrase) pair.

    Attributes:
        pair (`Pair`): The pair with ground truth and detections.
        counts (`PairCounts`, *optional*): Counts of an exhaustive pair.
        quality (`tuple[float, ...]`, *optional*): Values of `regions.NAMES` of a present pair whose objects have
            masks.
        values (`dict[str, float]`): Values of the metrics of `PAIR_METRICS`.
    """

    pair: Pair
    counts: PairCounts | None
    quality: tuple[float, ...] | None
    values: dict[str, float]


def measure(pairs: Iterable[Pair], kind: str, threshold: float = SCORE) -> list[Measured]:
    """
    Measure each pair.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Lowest score of a detection that counts, default 0.5.

    Returns:
        `list[Measured]`: Measurements in the order of the pairs.
    """
    return [
        Measured(
            pair,
            count_pair(pair, kind, threshold) if pair.exhaustive and pair.has(kind) else None,
            pair_quality(pair, threshold) if kind == "mask" and pair.has(kind) else None,
            compute_pair_metrics(pair, kind, threshold),
        )
        for pair in pairs
    ]


def summarize(measured: Iterable[Measured], is_counted: Callable[[str], bool] = lambda _: True) -> dict[str, float]:
    """
    Average measurements over pairs.

    Args:
        measured (`Iterable[Measured]`): Measurements of [`measure`].
        is_counted (`Callable[[str], bool]`): Predicate of phrases that count, default all. The others still define
            near misses.

    Returns:
        `dict[str, float]`: Metrics of [`concept_f1`], [`mean_quality`], `PAIR_METRICS` and [`compare_phrases`];
        undefined metrics are left out.
    """
    measured = list(measured)
    chosen = [item for item in measured if is_counted(item.pair.phrase)]
    numbers = {}
    counts = [item.counts for item in chosen if item.counts is not None]
    if counts:
        numbers = concept_f1(counts)
    numbers |= mean_quality([item.quality for item in chosen])
    numbers |= average_pair_metrics(item.values for item in chosen)
    return numbers | compare_phrases([item.pair for item in measured], is_counted=is_counted)
