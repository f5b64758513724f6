"""From class names to noun phrases: a default normaliser and the user's phrase map."""

import re
from dataclasses import dataclass, field

from ...utils.text import short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..safe_text import clean_name


@dataclass
class PhraseMap:
    """
    The user's own names for classes.

    Attributes:
        names (`dict[str, str | None]`): class name as in the data, composed (NFC) -> phrase; `None` drops the class.
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
                f"`phrase_map`: {path} gives {short_repr(name)} the value {short_repr(value)}; expected a phrase, a "
                "list of phrases, or null to "
                'drop the class (quote words that YAML reads otherwise, such as "no" and "on")'
            )
        name = clean_name(str(name))
        if value is None:
            result.names[name] = None
            continue
        phrase, *synonyms = (" ".join(clean_name(p).lower().split()) for p in phrases)
        result.names[name] = phrase
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
    """
    Turn a class name into a phrase: `traffic_light` -> `traffic light`, `bat_(animal)` -> `bat`.

    Phrases are lower case, as SAM 3's are. Composed and decomposed spellings (Unicode's NFC and NFD) give one phrase;
    control characters are escaped.
    """
    name = clean_name(name)
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
        kinds.setdefault(normalize_phrase(name), set()).add(clean_name(name).strip().casefold())
    chosen = {clean_name(name): phrase for name, phrase in phrase_map.names.items()}
    phrases = {}
    for name in names:
        composed = clean_name(name)
        if composed in chosen:
            phrases[name] = chosen[composed]
        else:
            short = normalize_phrase(name)
            phrases[name] = _words(composed) if len(kinds[short]) > 1 else short
    return phrases
