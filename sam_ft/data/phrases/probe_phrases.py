"""Phrases that a run does not train: for measuring retention, and for self-distillation from the initial model."""

import re

from .vocabulary import normalize_phrase


# The two lists of common nouns are disjoint, so that retention is not measured on the phrases that are distilled.
PROBE_PHRASES = (
    "person", "car", "dog", "tree", "chair", "bottle", "book", "window", "shoe", "bird", "flower", "table", "bag",
    "clock", "plate", "boat",
)  # fmt: skip
DISTILLATION_PHRASES = (
    "man", "woman", "bicycle", "truck", "cat", "horse", "cup", "bowl", "door", "lamp", "phone", "hat", "bench", "bus",
    "fruit", "sign", "leaf", "box", "wheel", "hand",
)  # fmt: skip
NONSENSE_PHRASES = ("glorpy flim", "zibbet", "colorless green idea")
UNTRAINED, RECOLORED, NONSENSE = "untrained", "recolored", "nonsense"  # kinds of phrases
COLORS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")


def recolor_phrases(phrases: list[str], max_phrases: int = 8) -> list[str]:
    """
    Replace the colour of phrases: "red apple" becomes "blue apple".

    A model that ignores adjectives still predicts the trained objects for them.

    Args:
        phrases (`list[str]`): Trained phrases.
        max_phrases (`int`): Maximum number of phrases that are returned. Default: 8.

    Returns:
        `list[str]`: Phrases with another colour that are not trained.
    """
    replaced = []
    for phrase in phrases:
        color = next((word for word in phrase.split() if word in COLORS), None)
        if color is not None:
            other = COLORS[(COLORS.index(color) + 1) % len(COLORS)]
            replaced.append(re.sub(rf"\b{color}\b", other, phrase, count=1))
    return [phrase for phrase in dict.fromkeys(replaced) if phrase not in phrases][:max_phrases]


def probe_kinds(phrases: list[str], trained: set[str] | None) -> dict[str, str]:
    """
    Choose the phrases of the retention probe, which are evaluated beside the trained ones.

    Args:
        phrases (`list[str]`): Phrases of the user, instead of sixteen common nouns; trained ones are left out.
        trained (`set[str]` or `None`): Phrases that the run trains.

    Returns:
        `dict[str, str]`: Phrase to kind. `untrained`: not trained; `recolored`: trained with another colour;
            `nonsense`: made of invented words.
    """
    trained = trained or set()
    texts = [normalize_phrase(text) for text in phrases or PROBE_PHRASES]
    kinds = dict.fromkeys((text for text in texts if text not in trained), UNTRAINED)
    kinds |= dict.fromkeys((text for text in recolor_phrases(sorted(trained)) if text not in kinds), RECOLORED)
    return kinds | dict.fromkeys((text for text in NONSENSE_PHRASES if text not in trained), NONSENSE)
