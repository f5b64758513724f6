"""Phrases that a run does not train: asked to see what a model keeps, or taught by what it was."""

import re

from .vocabulary import normalize_phrase


# what a model of the world is expected to know; the two lists share nothing, so that what is taught is not what is measured
PROBES = (
    "person", "car", "dog", "tree", "chair", "bottle", "book", "window", "shoe", "bird", "flower", "table", "bag", "clock", "plate", "boat",
)  # fmt: skip
TAUGHT = (
    "man", "woman", "bicycle", "truck", "cat", "horse", "cup", "bowl", "door", "lamp", "phone", "hat", "bench", "bus", "fruit", "sign",
    "leaf", "box", "wheel", "hand",
)  # fmt: skip
NONSENSE = ("glorpy flim", "zibbet", "colorless green idea")
UNTOUCHED, SWAPPED, INVENTED = "untouched", "swapped", "invented"
COLORS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")


def swapped(phrases: list[str], most: int = 8) -> list[str]:
    """
    Phrases with another colour ("red apple": "blue apple"), which a model that has lost its adjectives still finds.

    Args:
        phrases (`list[str]`): that are trained. most (`int`): of those that are swapped.
    """
    found = []
    for phrase in phrases:
        color = next((word for word in phrase.split() if word in COLORS), None)
        if color is not None:
            other = COLORS[(COLORS.index(color) + 1) % len(COLORS)]
            found.append(re.sub(rf"\b{color}\b", other, phrase, count=1))
    return [phrase for phrase in dict.fromkeys(found) if phrase not in phrases][:most]


def probe_kinds(phrases: list[str], trained: set[str] | None) -> dict[str, str]:
    """
    What a run's model is asked beside what it trains.

    Args:
        phrases (`list[str]`): the user's own, instead of sixteen common nouns; those that are trained are left out.
        trained (`set[str]` or `None`): phrases that the run trains.

    Returns:
        `dict[str, str]`: phrase -> `untouched`: not trained; `swapped`: trained with another colour; `invented`: nonsense.
    """
    trained = trained or set()
    texts = [normalize_phrase(text) for text in phrases or PROBES]
    kinds = dict.fromkeys((text for text in texts if text not in trained), UNTOUCHED)
    kinds |= dict.fromkeys((text for text in swapped(sorted(trained)) if text not in kinds), SWAPPED)
    return kinds | dict.fromkeys((text for text in NONSENSE if text not in trained), INVENTED)
