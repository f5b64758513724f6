"""Text for messages: bounded representations, no control characters."""

import itertools
import re
import reprlib
import unicodedata


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxtuple = 3, 6, 6, 6
_SHORT.maxlong = 40


def short_repr(value) -> str:
    """
    Represent a value in at most a few hundred characters, whatever its size or depth.

    Args:
        value: Any object, for example a node of an untrusted YAML or JSON file.
    """
    return _SHORT.repr(value)


def escape_control_characters(text: str) -> str:
    r"""
    Replace characters that change a terminal's state, such as the escape of ANSI codes, by their `\x1b` notation.

    Args:
        text (`str`): Line breaks and tabs are kept.
    """
    if not any(unicodedata.category(c) in ("Cc", "Cf") for c in text):
        return text
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") else c.encode("unicode_escape").decode()
        for c in text
    )


def phrase_words(text: str) -> str:
    """Reduce a name to lower-case words: `Traffic_light` -> `traffic light`, `bat_(animal)` -> `bat animal`."""
    return " ".join(re.sub(r"[_\-/()]+", " ", unicodedata.normalize("NFC", text)).lower().split())


def phrase_spellings(text: str) -> list[str]:
    """List the normalised phrases that a name may stand for: with and without its words in brackets."""
    return list(dict.fromkeys([phrase_words(text), phrase_words(re.sub(r"\([^)]*\)", " ", text))]))


def list_some(values, number: int = 3) -> str:
    """Join the first values of an iterable with commas, and add how many more there are."""
    values = iter(values)
    first = [str(value) for value in itertools.islice(values, number)]
    more = sum(1 for _ in values)
    return ", ".join(first) + (f" and {more} more" if more else "")


def count_noun(number: int, noun: str) -> str:
    """Format a number with a regular noun in the singular or plural, such as `1 image` and `2,000 images`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
