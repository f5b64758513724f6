"""Grounding metrics: recall, grounding accuracy and false positives of phrases."""

from collections.abc import Callable, Iterable

from .metric import CocoMetric, drop_null_fields
from .pairs import SCORE, Pair, overlaps, pairs_of
from .presence import is_near_miss, presence_accuracy, rejection_rate


IOU = 0.5


def concept_recall(pairs: Iterable[Pair], kind: str = "mask", threshold: float = SCORE) -> float | None:
    """
    Compute the share of present pairs in which a detection overlaps an object with IoU of at least 0.5.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Lowest score of a detection that counts, default 0.5.

    Returns:
        `float`: In `[0, 1]`; `None` without any present pair.
    """
    hits = [
        bool((overlaps(pair.detections_above(threshold), pair.objects, kind) >= IOU).any())
        for pair in pairs
        if pair.is_present
    ]
    return _mean(hits)


def grounding_accuracy(pairs: Iterable[Pair]) -> float | None:
    """
    Compute the share of present pairs whose highest-scored box overlaps an object with IoU of at least 0.5.

    This is Recall@1 of phrase grounding; no score threshold applies.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.

    Returns:
        `float`: In `[0, 1]`; `None` without any present pair.

    Source:
        Plummer et al. 2015.
    """
    hits = [
        bool((overlaps(pair.detections[:1], pair.objects, "box") >= IOU).any()) for pair in pairs if pair.is_present
    ]
    return _mean(hits)


def attribute_accuracy(pairs: Iterable[Pair]) -> float | None:
    """
    Compute how often a present phrase has a higher presence probability than its near miss in the same image.

    Two phrases such as "red square" and "blue square" differ in one word. Equal probabilities count half.

    Args:
        pairs (`Iterable[Pair]`): Pairs with presence probabilities; others are left out.

    Returns:
        `float`: In `[0, 1]`; `None` without any near miss.
    """
    images: dict[int, list[Pair]] = {}
    for pair in pairs:
        if pair.presence is not None:
            images.setdefault(pair.image_id, []).append(pair)
    wins = [
        (present.presence > absent.presence) + 0.5 * (present.presence == absent.presence)
        for group in images.values()
        for present in group
        if present.is_present
        for absent in group
        if absent.is_absent and is_near_miss(absent.phrase, [present.phrase])
    ]
    return _mean(wins)


def false_positives_per_absent(pairs: Iterable[Pair], threshold: float = SCORE) -> float | None:
    """
    Compute the mean number of detections in pairs whose phrase is absent.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        threshold (`float`): Lowest score of a detection that counts, default 0.5.

    Returns:
        `float`: Detections per absent pair; `None` without any absent pair.
    """
    return _mean([len(pair.detections_above(threshold)) for pair in pairs if pair.is_absent])


def compute_phrase_metrics(
    pairs: Iterable[Pair],
    kind: str = "mask",
    threshold: float = SCORE,
    is_counted: Callable[[str], bool] = lambda _: True,
) -> dict[str, float]:
    """
    Compute all grounding and presence metrics.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        kind (`str`): `mask` or `box`.
        threshold (`float`): Threshold of scores and presence probabilities, default 0.5.
        is_counted (`Callable[[str], bool]`): Predicate of phrases that count, default all. The others still define
            near misses.

    Returns:
        `dict[str, float]`: `presence_accuracy`, `near_miss_rejection`, `false_positives_per_absent`, `concept_recall`,
        `grounding_accuracy`, `attribute_accuracy`; undefined metrics are left out.
    """
    pairs = list(pairs)
    labelled = [pair for pair in pairs if pair.is_present or pair.is_absent]
    present: dict[int, list[str]] = {}
    for pair in labelled:
        if pair.is_present:
            present.setdefault(pair.image_id, []).append(pair.phrase)
    labelled = [pair for pair in labelled if is_counted(pair.phrase)]
    near = [p for p in labelled if p.is_absent and is_near_miss(p.phrase, present.get(p.image_id, []))]
    with_presence = [p for p in labelled if p.presence is not None]
    numbers = {
        "presence_accuracy": presence_accuracy([(p.presence, p.is_present) for p in with_presence], threshold),
        "near_miss_rejection": rejection_rate([p.presence for p in near if p.presence is not None], threshold),
        "false_positives_per_absent": false_positives_per_absent(labelled, threshold),
        "concept_recall": concept_recall([p for p in labelled if p.has(kind)], kind, threshold),
        "grounding_accuracy": grounding_accuracy(labelled),
        "attribute_accuracy": attribute_accuracy(labelled),
    }
    return {name: number for name, number in numbers.items() if number is not None}


def _mean(values: list) -> float | None:
    return sum(values) / len(values) if values else None


class ConceptGrounding(CocoMetric):
    """
    [`compute_phrase_metrics`] as an `evaluate.Metric`; see [`CocoMetric`].

    `compute` also accepts `presence`, a mapping from (image id, category id) to a probability.
    """

    description = "Presence, recall, grounding and attributes of phrases."
    citation = "Plummer et al. 2015, Flickr30k Entities"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE, presence=None):
        return compute_phrase_metrics(pairs_of(ground_truth, drop_null_fields(predictions), presence), kind, threshold)
