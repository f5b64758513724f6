"""Phrases that a run does not train: for measuring retention, and for self-distillation from the initial model."""

import re

from .vocabulary import normalize_phrase


# The two lists of common nouns are disjoint, so that retention is not measured on the phrases that are distilled.
PROBES = (
    "person", "car", "dog", "tree", "chair", "bottle", "book", "window", "shoe", "bird", "flower", "table", "bag",
    "clock", "plate", "boat",
)  # fmt: skip
TAUGHT = (
    "man", "woman", "bicycle", "truck", "cat", "horse", "cup", "bowl", "door", "lamp", "phone", "hat", "bench", "bus",
    "fruit", "sign", "leaf", "box", "wheel", "hand",
)  # fmt: skip
NONSENSE = ("glorpy flim", "zibbet", "colorless green idea")
UNTOUCHED, SWAPPED, INVENTED = "untouched", "swapped", "invented"
COLORS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")


def swapped(phrases: list[str], most: int = 8) -> list[str]:
    """
    Replace the colour of phrases: "red apple" becomes "blue apple".

    A model that ignores adjectives still predicts the trained objects for them.

    Args:
        phrases (`list[str]`): Trained phrases.
        most (`int`): Maximum number of phrases that are returned. Default: 8.

    Returns:
        `list[str]`: Phrases with another colour that are not trained.
    """
    replaced = []
    for phrase in phrases:
        color = next((word for word in phrase.split() if word in COLORS), None)
        if color is not None:
            other = COLORS[(COLORS.index(color) + 1) % len(COLORS)]
            replaced.append(re.sub(rf"\b{color}\b", other, phrase, count=1))
    return [phrase for phrase in dict.fromkeys(replaced) if phrase not in phrases][:most]


def probe_kinds(phrases: list[str], trained: set[str] | None) -> dict[str, str]:
    """
    Choose the phrases of the retention probe, which are evaluated beside the trained ones.

    Args:
        phrases (`list[str]`): Phrases of the user, instead of sixteen common nouns; trained ones are left out.
        trained (`set[str]` or `None`): Phrases that the run trains.

    Returns:
        `dict[str, str]`: Phrase to kind. `untouched`: not trained; `swapped`: trained with another colour;
            `invented`: nonsense.
    """
    trained = trained or set()
    texts = [normalize_phrase(text) for text in phrases or PROBES]
    kinds = dict.fromkeys((text for text in texts if text not in trained), UNTOUCHED)
    kinds |= dict.fromkeys((text for text in swapped(sorted(trained)) if text not in kinds), SWAPPED)
    return kinds | dict.fromkeys((text for text in NONSENSE if text not in trained), INVENTED)
