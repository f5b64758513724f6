"""All numbers that are sums over (image, phrase) pairs: measured once a pair, added up over any part of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from .concept_f1 import PairCounts, concept_f1, count_pair
from .grounding import answers_of
from .pairs import SCORE, Pair
from .regions import NAMES as REGION_NAMES
from .regions import mean_quality, pair_quality


CONCEPT_NAMES = ("cgF1", "cgF1@0.5", "pmF1", "IL_MCC", "precision", "recall", "F1")
ANSWER_NAMES = (
    "presence_accuracy",
    "near_miss_refusal",
    "false_positives_per_absent",
    "concept_recall",
    "grounding_accuracy",
    "attribute_accuracy",
)
SUMMARY_NAMES = (*CONCEPT_NAMES, *REGION_NAMES, *ANSWER_NAMES)


@dataclass
class Measured:
    """
    Attributes:
        pair (`Pair`). counts (`PairCounts`, *optional*): of an exhaustive pair. quality (`tuple[float, ...]`, *optional*): of a present
            one whose objects have masks, by `REGION_NAMES`.
    """

    pair: Pair
    counts: PairCounts | None
    quality: tuple[float, ...] | None


def measure(pairs: Iterable[Pair], kind: str, threshold: float = SCORE) -> list[Measured]:
    """
    Args:
        pairs (`Iterable[Pair]`). kind (`str`): `mask` or `box`. threshold (`float`): score from which on a detection counts.
    """
    return [
        Measured(
            pair,
            count_pair(pair, kind, threshold) if pair.exhaustive and pair.has(kind) else None,
            pair_quality(pair, threshold) if kind == "mask" and pair.has(kind) else None,
        )
        for pair in pairs
    ]


def summarize(measured: Iterable[Measured], kind: str, counted=lambda phrase: True) -> dict[str, float]:
    """
    Args:
        measured (`Iterable[Measured]`). kind (`str`): as they were measured.
        counted (`Callable[[str], bool]`): which phrases count; the others still make near misses.

    Returns:
        `dict[str, float]`: by `SUMMARY_NAMES`; numbers that do not exist are left out.
    """
    measured = list(measured)
    chosen = [one for one in measured if counted(one.pair.phrase)]
    numbers = {}
    counts = [one.counts for one in chosen if one.counts is not None]
    if counts:
        numbers = {name: value for name, value in concept_f1(counts).items() if name in CONCEPT_NAMES}
    numbers |= mean_quality([one.quality for one in chosen])
    return numbers | answers_of([one.pair for one in measured], kind, counted=counted)
