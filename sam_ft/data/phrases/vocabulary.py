"""From class names to noun phrases: the default normalizer and the phrase map of the user."""

import re
import unicodedata
from collections.abc import Container, Iterable

from ...options.data import ReadOptions
from ...options.phrases import PhraseMap
from ...utils.text import phrase_words, short_repr
from ...utils.yaml_files import read_yaml_mapping
from ..safe_text import clean_name


# Words of class names that stand for no object: pixels without a label, and regions without a known content.
_BACKGROUND_NAMES = frozenset({"background", "unlabeled", "unlabelled"})
_IGNORED_NAMES = frozenset({"ignore", "ignored", "void"})


def is_background_name(name: str) -> bool:
    """Return whether a class name stands for the absence of objects, such as `_background_` of LabelMe."""
    return phrase_words(clean_name(name)) in _BACKGROUND_NAMES


def is_ignored_name(name: str) -> bool:
    """Return whether a class name stands for regions to ignore, such as `__ignore__` of LabelMe."""
    return phrase_words(clean_name(name)) in _IGNORED_NAMES


def find_classes_without_objects(names: Iterable[str], options: ReadOptions) -> tuple[set[str], set[str]]:
    """
    Find the class names that are no phrases; a name that `phrase_map` or `class_name` contains is one.

    Args:
        names (`Iterable[str]`): Class names as in the data.
        options (`ReadOptions`): Options of the conversion.

    Returns:
        `tuple[set[str], set[str]]`: The names of background, and the names of regions to ignore.
    """
    chosen = {clean_name(name) for name in (*options.phrase_map.names, options.class_name) if name is not None}
    names = [name for name in names if clean_name(name) not in chosen]
    return {name for name in names if is_background_name(name)}, {name for name in names if is_ignored_name(name)}


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


def final_phrase(text: str) -> str:
    """
    Return a phrase of a file that contains final phrases: the text itself, with its control characters escaped.

    Args:
        text (`str`): Phrase as in the data.
    """
    cleaned = clean_name(text)
    return text if unicodedata.normalize("NFC", text) == cleaned else cleaned


def spell_phrases(texts: Iterable[str], vocabulary: Container[str]) -> list[str]:
    """
    Return requested phrases in the spelling of the data.

    Args:
        texts (`Iterable[str]`): Phrases of the user.
        vocabulary (`Container[str]`): Phrases of the data. A text that is none of them is normalized.
    """
    return [text if text in vocabulary else normalize_phrase(text) for text in texts]


def name_phrases(names: list[str], phrase_map: PhraseMap, *, are_final: bool = False) -> dict[str, str | None]:
    """
    Assign a phrase to each class name.

    Names that differ only in case and outer blanks share a phrase. Names that differ otherwise and that the normalizer
    would merge (`bat_(animal)`, `bat_(sports)`) keep the words in their brackets.

    Args:
        names (`list[str]`): Class names as in the data.
        phrase_map (`PhraseMap`): Phrases of the user; they take precedence over the normalizer.
        are_final (`bool`): The names are phrases, which are not normalized. Default: `False`.

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
        elif are_final:
            phrases[name] = final_phrase(name)
        else:
            short = normalize_phrase(name)
            phrases[name] = phrase_words(composed) if len(spellings[short]) > 1 else short
    return phrases
