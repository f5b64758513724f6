"""Folding of notes that differ in names and numbers alone."""

import re
from collections.abc import Iterable

from .safe_text import to_printable


_VARIABLE_PARTS = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|`[^`]*`|\S*[/\\]\S*|\S+\.\w{2,5}\b|-?\d[\d.,×%]*")


def message_form(text: str) -> str:
    """
    Reduce a message to its form: quoted texts, paths, file names and numbers become an ellipsis.

    Args:
        text (`str`): The message.
    """
    return _VARIABLE_PARTS.sub("…", text)


def fold_notes(notes: Iterable[tuple[str, int]], max_examples: int = 3) -> list[str]:
    """
    Fold notes of the same form to one line with their count.

    Args:
        notes (`Iterable[tuple[str, int]]`): Notes and the number of their occurrences.
        max_examples (`int`): Number of notes of a form that are listed as they are. Default: 3.

    Returns:
        `list[str]`: Lines without control characters.
    """
    by_form: dict[str, list[tuple[str, int]]] = {}
    for note, number in notes:
        by_form.setdefault(message_form(note), []).append((note, number))
    lines = []
    for same in by_form.values():
        lines += [note + (f" ({number}×)" if number > 1 else "") for note, number in same[:max_examples]]
        if len(same) > max_examples:
            lines.append(f"… {len(same) - max_examples} more notes of this form")
    return [to_printable(line) for line in lines]
