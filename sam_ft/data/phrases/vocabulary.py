"""From class names to noun phrases: the default normalizer and the phrase map of the user."""

import re

from ...options.phrases import PhraseMap
from ...utils.text import phrase_words, short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..safe_text import clean_name


def read_phrase_map(path: str) -> PhraseMap:
    """
    Read a phrase map from a YAML or JSON file.

    Args:
        path (`str`): File of `class name: phrase`, `class name: [phrase, synonym, …]` or `class name: null`.

    Raises:
        `ValueError`: If a value has another form. The message names the file and the entry.
    """
    entries = read_yaml_mapping(path, "phrase_map")
    result = PhraseMap()
    for name, value in entries.items():
        phrases = value if isinstance(value, list) else [value]
        if value is not None and not (phrases and all(isinstance(p, str) and p.strip() for p in phrases)):
            raise ValueError(
                f"`phrase_map`: {path} maps {short_repr(name)} to {short_repr(value)}; expected a phrase, a list of "
                'phrases, or null to drop the class (quote words that YAML reads as booleans, such as "no" and "on")'
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
                f"`phrase_map`: {path} has the synonym {shared.pop()!r} for {phrase!r}, and it is the phrase of "
                "another class. Remove the synonym"
            )
    return result


def normalize_phrase(name: str) -> str:
    """
    Convert a class name to a phrase: `traffic_light` to `traffic light`, `bat_(animal)` to `bat`.

    Phrases are lower case, as those of SAM 3. Composed and decomposed spellings (NFC and NFD of Unicode) give the same
    phrase; control characters are escaped.

    Args:
        name (`str`): Class name as in the data.
    """
    name = clean_name(name)
    without_brackets = re.sub(r"\([^)]*\)", " ", name)
    return phrase_words(without_brackets) or phrase_words(name)


def name_phrases(names: list[str], phrase_map: PhraseMap) -> dict[str, str | None]:
    """
    Assign a phrase to each class name.

    Names that differ only in case and outer blanks share a phrase. Names that differ otherwise and that the normalizer
    would merge (`bat_(animal)`, `bat_(sports)`) keep the words in their brackets.

    Args:
        names (`list[str]`): Class names as in the data.
        phrase_map (`PhraseMap`): Phrases of the user; they take precedence over the normalizer.

    Returns:
        `dict[str, str | None]`: Class name to phrase; `None` for a class that the map drops.
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(normalize_phrase(name), set()).add(clean_name(name).strip().casefold())
    chosen = {clean_name(name): phrase for name, phrase in phrase_map.names.items()}
    phrases = {}
    for name in names:
        composed = clean_name(name)
        if composed in chosen:
            phrases[name] = chosen[composed]
        else:
            short = normalize_phrase(name)
            phrases[name] = phrase_words(composed) if len(spellings[short]) > 1 else short
    return phrases
