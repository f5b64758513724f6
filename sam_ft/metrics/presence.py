"""Rejection of near misses: absent phrases that differ from a present one in one word."""

from collections.abc import Iterable


def rejection_rate(probabilities: Iterable[float], threshold: float = 0.5) -> float | None:
    """
    Compute the share of absent phrases that are predicted absent.

    Args:
        probabilities (`Iterable[float]`): Presence probabilities of absent phrases.
        threshold (`float`): Lowest probability of a phrase that counts as present, default 0.5.

    Returns:
        `float`: In `[0, 1]`; `None` without any phrase.
    """
    rejected = [probability < threshold for probability in probabilities]
    return sum(rejected) / len(rejected) if rejected else None


def is_near_miss(absent: str, present: Iterable[str]) -> bool:
    """
    Test whether an absent phrase differs from a present one in exactly one word at the same position.

    "red square" is a near miss next to a red circle or a blue square. A model that ignores attributes, or nouns,
    predicts such phrases as present.

    Args:
        absent (`str`): Absent phrase; a phrase of a single word is no near miss.
        present (`Iterable[str]`): Phrases that are present in the same image.
    """
    words = absent.split()
    return len(words) > 1 and any(
        len(other) == len(words) and sum(a != b for a, b in zip(words, other)) == 1
        for other in (text.split() for text in present)
    )
