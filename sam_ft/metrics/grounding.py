"""Is what a phrase names found, and is it what the phrase names."""

from collections.abc import Callable, Iterable

from .metric import CocoMetric, given
from .pairs import SCORE, Pair, overlaps, pairs_of
from .presence import is_near_miss, presence_accuracy, refusal_rate


IOU = 0.5


def concept_recall(pairs: Iterable[Pair], kind: str = "mask", threshold: float = SCORE) -> float | None:
    """Share of present pairs in which one of the objects is found, at IoU 0.5 by a detection of `threshold` or more."""
    answers = [
        bool((overlaps(pair.kept(threshold), pair.objects, kind) >= IOU).any()) for pair in pairs if pair.is_present
    ]
    return _share(answers)


def grounding_accuracy(pairs: Iterable[Pair]) -> float | None:
    """
    Share of present pairs whose best-scored box, whatever its score, is on an object of the phrase at IoU 0.5 (Recall@1 of phrase
    grounding, Plummer et al. 2015).
    """
    answers = [bool((overlaps(pair.found[:1], pair.objects, "box") >= IOU).any()) for pair in pairs if pair.is_present]
    return _share(answers)


def attribute_accuracy(pairs: Iterable[Pair]) -> float | None:
    """
    Of a present phrase and an absent one of the same image that differ in one word ("red square", "blue square"): how often the
    present one is taken to be more likely. Equal probabilities count half.
    """
    images: dict[int, list[Pair]] = {}
    for pair in pairs:
        if pair.presence is not None:
            images.setdefault(pair.image_id, []).append(pair)
    answers = [
        (there.presence > gone.presence) + 0.5 * (there.presence == gone.presence)
        for asked in images.values()
        for there in asked
        if there.is_present
        for gone in asked
        if gone.is_absent and is_near_miss(gone.phrase, [there.phrase])
    ]
    return _share(answers)


def false_positives_per_absent(pairs: Iterable[Pair], threshold: float = SCORE) -> float | None:
    """Detections of `threshold` or more in a pair whose phrase is absent, on average."""
    return _share([len(pair.kept(threshold)) for pair in pairs if pair.is_absent])


def answers_of(
    pairs: Iterable[Pair],
    kind: str = "mask",
    threshold: float = SCORE,
    counted: Callable[[str], bool] = lambda phrase: True,
) -> dict[str, float]:
    """
    All numbers of this file, and those of presence. Near misses are told from the present phrases of their image.

    Args:
        pairs (`Iterable[Pair]`). kind (`str`): `mask` or `box`. threshold (`float`): of scores and probabilities.
        counted (`Callable[[str], bool]`): which phrases count; the others still make near misses.

    Returns:
        `dict[str, float]`: `presence_accuracy`, `near_miss_refusal`, `false_positives_per_absent`, `concept_recall`,
        `grounding_accuracy`, `attribute_accuracy`; those that do not exist are left out.
    """
    pairs = list(pairs)
    known = [pair for pair in pairs if pair.is_present or pair.is_absent]
    present: dict[int, list[str]] = {}
    for pair in known:
        if pair.is_present:
            present.setdefault(pair.image_id, []).append(pair.phrase)
    known = [pair for pair in known if counted(pair.phrase)]
    near = [p for p in known if p.is_absent and is_near_miss(p.phrase, present.get(p.image_id, []))]
    asked = [p for p in known if p.presence is not None]
    numbers = {
        "presence_accuracy": presence_accuracy([(p.presence, p.is_present) for p in asked], threshold),
        "near_miss_refusal": refusal_rate([p.presence for p in near if p.presence is not None], threshold),
        "false_positives_per_absent": false_positives_per_absent(known, threshold),
        "concept_recall": concept_recall([p for p in known if p.has(kind)], kind, threshold),
        "grounding_accuracy": grounding_accuracy(known),
        "attribute_accuracy": attribute_accuracy(known),
    }
    return {name: number for name, number in numbers.items() if number is not None}


def _share(answers: list) -> float | None:
    return sum(answers) / len(answers) if answers else None


class ConceptGrounding(CocoMetric):
    """[`answers_of`] as an `evaluate.Metric`; see [`CocoMetric`]. `presence`: (image id, category id) -> probability."""

    description = "Presence, recall, grounding and attributes of phrases."
    citation = "Plummer et al. 2015, Flickr30k Entities"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE, presence=None):
        return answers_of(pairs_of(ground_truth, given(predictions), presence), kind, threshold)
