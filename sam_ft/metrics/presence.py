"""Does the model know whether a phrase is in the image: presence accuracy, and refusal of near misses."""

from collections.abc import Iterable


def presence_accuracy(answers: Iterable[tuple[float, bool]], threshold: float = 0.5) -> float | None:
    """
    Share of (image, phrase) pairs whose presence is judged right.

    Args:
        answers (`Iterable[tuple[float, bool]]`): probability that the phrase is in the image, and whether it is.
        threshold (`float`): a phrase counts as present from here on.

    Returns:
        `float`: in `[0, 1]`; `None` without any pair.
    """
    hits = [(probability >= threshold) == present for probability, present in answers]
    return sum(hits) / len(hits) if hits else None


def refusal_rate(probabilities: Iterable[float], threshold: float = 0.5) -> float | None:
    """
    Share of absent phrases that the model takes for absent.

    Args:
        probabilities (`Iterable[float]`): presence probabilities of phrases that are absent.
        threshold (`float`): as in [`presence_accuracy`].

    Returns:
        `float`: in `[0, 1]`; `None` without any phrase.
    """
    refused = [probability < threshold for probability in probabilities]
    return sum(refused) / len(refused) if refused else None


def is_near_miss(absent: str, present: Iterable[str]) -> bool:
    """
    Whether an absent phrase differs from one present in the same image in exactly one of at least two words, in place:
    "red square" beside a red circle or a blue square. These are the phrases that a model without a grasp of attributes, or
    of nouns, takes for present.
    """
    words = absent.split()
    return len(words) > 1 and any(
        len(other) == len(words) and sum(a != b for a, b in zip(words, other)) == 1
        for other in (text.split() for text in present)
    )
