"""Presence and grounding metrics of phrases: means over pairs, and comparisons of the phrases of an image."""

from collections.abc import Callable, Iterable

from .metric import CocoMetric, drop_null_fields
from .pair_metrics import average_pair_metrics, compute_pair_metrics
from .pairs import SCORE, Pair, pairs_of
from .presence import is_near_miss, rejection_rate


def attribute_accuracy(pairs: Iterable[Pair]) -> float | None:
    """
    Compute how often a present phrase has a higher presence probability than its near miss in the same image.

    Two phrases such as "red square" and "blue square" differ in one word. Equal probabilities count half.

    Args:
        pairs (`Iterable[Pair]`): Pairs with presence probabilities; others are left out.

    Returns:
        `float`: In `[0, 1]`; `None` without any near miss.
    """
    images: dict[int, list[tuple[Pair, float]]] = {}
    for pair in pairs:
        if pair.presence is not None:
            images.setdefault(pair.image_id, []).append((pair, pair.presence))
    wins = [
        (high > low) + 0.5 * (high == low)
        for group in images.values()
        for present, high in group
        if present.is_present
        for absent, low in group
        if absent.is_absent and is_near_miss(absent.phrase, [present.phrase])
    ]
    return sum(wins) / len(wins) if wins else None


def compare_phrases(
    pairs: Iterable[Pair], threshold: float = SCORE, is_counted: Callable[[str], bool] = lambda _: True
) -> dict[str, float]:
    """
    Compute the metrics that compare the phrases of an image.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and presence probabilities.
        threshold (`float`): Lowest probability of a phrase that counts as present, default 0.5.
        is_counted (`Callable[[str], bool]`): Predicate of phrases that count, default all. The others still define
            near misses.

    Returns:
        `dict[str, float]`: `near_miss_rejection` and `attribute_accuracy`; undefined metrics are left out.
    """
    labelled = [pair for pair in pairs if pair.is_present or pair.is_absent]
    present: dict[int, list[str]] = {}
    for pair in labelled:
        if pair.is_present:
            present.setdefault(pair.image_id, []).append(pair.phrase)
    labelled = [pair for pair in labelled if is_counted(pair.phrase)]
    near = [p for p in labelled if p.is_absent and is_near_miss(p.phrase, present.get(p.image_id, []))]
    numbers = {
        "near_miss_rejection": rejection_rate([p.presence for p in near if p.presence is not None], threshold),
        "attribute_accuracy": attribute_accuracy(labelled),
    }
    return {name: number for name, number in numbers.items() if number is not None}


def compute_phrase_metrics(pairs: Iterable[Pair], kind: str = "mask", threshold: float = SCORE) -> dict[str, float]:
    """
    Compute all presence and grounding metrics.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Threshold of scores and presence probabilities, default 0.5.

    Returns:
        `dict[str, float]`: Metrics of `PAIR_METRICS` and of [`compare_phrases`]; undefined metrics are left out.
    """
    pairs = list(pairs)
    means = average_pair_metrics(compute_pair_metrics(pair, kind, threshold) for pair in pairs)
    return means | compare_phrases(pairs, threshold)


class ConceptGrounding(CocoMetric):
    """
    [`compute_phrase_metrics`] as an `evaluate.Metric`; see [`CocoMetric`].

    `compute` also accepts `presence`, a mapping from (image id, category id) to a probability.
    """

    description = "Presence, recall, grounding and attributes of phrases."
    citation = "Plummer et al. 2015, Flickr30k Entities"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE, presence=None):
        return compute_phrase_metrics(pairs_of(ground_truth, drop_null_fields(predictions), presence), kind, threshold)
