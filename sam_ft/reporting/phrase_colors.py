"""Colours of phrases in pictures: a phrase has the same colour in all pictures of the same set of phrases."""

import zlib
from collections.abc import Iterable


# Bright enough for black text and for objects on photographs.
_HUES = (
    (255, 92, 92), (255, 159, 28), (255, 226, 51), (74, 214, 109), (45, 212, 218), (92, 160, 255), (178, 120, 255),
    (255, 110, 190),
)  # fmt: skip
_STEP = 3  # between hues of colliding phrases; has no common divisor with their number
_TONES = ((1.0, 0.0), (0.72, 0.0), (0.5, 0.5))  # factor of a hue and share of white, for more phrases than hues
NUM_COLORS = len(_HUES) * len(_TONES)  # more phrases share colours


def assign_colors(phrases: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """
    Assign a colour to each phrase, in the order of the phrases.

    The colour follows from the text, so that most phrases have the same colour in different sets of phrases, too. Only
    phrases of one set that would share a colour have others, independently of the order of the set.

    Args:
        phrases (`Iterable[str]`): Phrases.

    Returns:
        `dict[str, tuple[int, int, int]]`: RGB colour by phrase.
    """
    phrases = list(dict.fromkeys(phrases))
    used: set[int] = set()
    chosen = {}
    for text in sorted(phrases):
        first = zlib.crc32(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass")) % len(_HUES)
        hues = [(first + _STEP * i) % len(_HUES) for i in range(len(_HUES))]
        order = [tone * len(_HUES) + hue for tone in range(len(_TONES)) for hue in hues]
        if len(used) == NUM_COLORS:
            used = set()
        chosen[text] = next(color for color in order if color not in used)
        used.add(chosen[text])
    return {text: _compute_color(chosen[text]) for text in phrases}


def _compute_color(number: int) -> tuple[int, int, int]:
    factor, white = _TONES[number // len(_HUES)]
    red, green, blue = (round(value * factor * (1 - white) + 255 * white) for value in _HUES[number % len(_HUES)])
    return red, green, blue


def contrasting_color(color: tuple[int, int, int]) -> str:
    """Return the colour of a text on a ground, black or white, by the relative luminance of the ground (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return "black" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 else "white"


def css_color(color: tuple[int, int, int]) -> str:
    """Return an RGB colour as CSS, such as `#ff8000`."""
    return "#{:02x}{:02x}{:02x}".format(*color)
