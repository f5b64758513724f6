"""From class names to noun phrases: a default normaliser and the user's phrase map."""

import re
from dataclasses import dataclass, field

from ..utils.yaml_files import read_yaml_mapping


@dataclass
class PhraseMap:
    """
    The user's own names for classes.

    Attributes:
        names (`dict[str, str | None]`): class name as in the data -> phrase; `None` drops the class.
        synonyms (`dict[str, list[str]]`): phrase -> other phrases that training may use for it.
    """

    names: dict[str, str | None] = field(default_factory=dict)
    synonyms: dict[str, list[str]] = field(default_factory=dict)


def read_phrase_map(path: str) -> PhraseMap:
    """
    Reads a YAML or JSON file of `class name: phrase`, `class name: [phrase, synonym, …]` or `class name: null`.

    Raises:
        `ValueError`: naming file and entry, where a value is something else.
    """
    entries = read_yaml_mapping(path, "phrase_map")
    result = PhraseMap()
    for name, value in entries.items():
        phrases = value if isinstance(value, list) else [value]
        if value is not None and not (phrases and all(isinstance(p, str) and p.strip() for p in phrases)):
            raise ValueError(
                f"`phrase_map`: {path} gives {name!r} the value {value!r}; expected a phrase, a list of phrases, or null to "
                'drop the class (quote words that YAML reads otherwise, such as "no" and "on")'
            )
        if value is None:
            result.names[str(name)] = None
            continue
        phrase, *synonyms = (" ".join(p.lower().split()) for p in phrases)
        result.names[str(name)] = phrase
        if synonyms:
            result.synonyms[phrase] = synonyms
    for phrase, synonyms in result.synonyms.items():
        shared = set(synonyms) & set(result.names.values())
        if shared:
            raise ValueError(
                f"`phrase_map`: {path} gives {phrase!r} the synonym {shared.pop()!r}, which is another class's phrase; one "
                "word cannot mean both"
            )
    return result


def normalize_phrase(name: str) -> str:
    """`traffic_light` -> `traffic light`, `bat_(animal)` -> `bat`; lower case, as SAM 3's phrases are."""
    without = re.sub(r"\([^)]*\)", " ", name)
    return _words(without) or _words(name)


def _words(name: str) -> str:
    return " ".join(re.sub(r"[_\-/()]+", " ", name).lower().split())


def name_phrases(names: list[str], phrase_map: PhraseMap) -> dict[str, str | None]:
    """
    The phrase of each class name. Names that differ only in case and outer blanks share a phrase; names that the
    normaliser would merge although they differ otherwise (`bat_(animal)`, `bat_(sports)`) keep their brackets' words.

    Args:
        names (`list[str]`): class names as in the data.
        phrase_map (`PhraseMap`): wins over the normaliser.

    Returns:
        `dict[str, str | None]`: `None` for a class that the map drops.
    """
    kinds: dict[str, set[str]] = {}
    for name in names:
        kinds.setdefault(normalize_phrase(name), set()).add(name.strip().casefold())
    phrases = {}
    for name in names:
        if name in phrase_map.names:
            phrases[name] = phrase_map.names[name]
        else:
            short = normalize_phrase(name)
            phrases[name] = _words(name) if len(kinds[short]) > 1 else short
    return phrases
