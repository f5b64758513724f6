"""Escaping of untrusted names for terminals, log files and Arrow columns."""

import unicodedata

from ..utils.text import escape_control_characters


_JOINERS = "\u200c\u200d"  # part of the spelling in Persian, Indic scripts and emoji


def to_printable(text: str) -> str:
    """
    Replace control characters and lone surrogates, which stand for bytes that are not UTF-8, by their escapes.

    Args:
        text (`str`): Text, for example a file name or a message that contains one.
    """
    return escape_control_characters(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def clean_name(name: str) -> str:
    """
    Normalise a class name to Unicode's composed form (NFC) and escape its control characters.

    Args:
        name (`str`): Class name as in the data. Joiners that belong to the spelling remain.
    """
    composed = unicodedata.normalize("NFC", name)
    if not any(c in composed for c in _JOINERS):
        return to_printable(composed)
    return "".join(c if c in _JOINERS else to_printable(c) for c in composed)


def is_valid_utf8(text: str) -> bool:
    """
    Return whether a text can be stored as UTF-8.

    Args:
        text (`str`): Text, for example a path.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
