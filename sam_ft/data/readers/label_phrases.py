"""Phrases of the labels of a split: their normalized names, the phrase map, background, and regions to ignore."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from ...options.data import ReadOptions
from ..phrases.vocabulary import find_classes_without_objects, name_phrases
from ..safe_text import clean_name


@dataclass
class LabelPhrases:
    """
    Phrases of the labels of a split.

    Attributes:
        phrase_of (`dict[Hashable, str | None]`): Phrase of each label; `None` for background, for regions to ignore,
            and for classes that the phrase map drops.
        ignored (`set[Hashable]`): Labels of regions to ignore.
        category_ids (`dict[str, Hashable]`): First label of each phrase.
        notes (`list[str]`): Assumptions.
    """

    phrase_of: dict[Hashable, str | None] = field(default_factory=dict)
    ignored: set[Hashable] = field(default_factory=set)
    category_ids: dict[str, Hashable] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def name_labels(names: dict[Hashable, str], options: ReadOptions, *, are_final: bool = False) -> LabelPhrases:
    """
    Assign a phrase to each label.

    Args:
        names (`dict[Hashable, str]`): Class name of each label.
        options (`ReadOptions`): Options of the conversion.
        are_final (`bool`): The names are phrases, which are neither changed nor left out. Default: `False`.

    Returns:
        `LabelPhrases`: The phrases, with a note on every name that is changed, merged or left out.
    """
    result, phrase_map = LabelPhrases(), options.phrase_map
    phrases = name_phrases(list(names.values()), phrase_map, are_final=are_final)
    background, ignored = find_classes_without_objects(() if are_final else names.values(), options)
    unknown = {clean_name(name) for name in phrase_map.names} - {clean_name(name) for name in names.values()}
    if unknown and options.phrase_source != "noun_phrase":
        listing = ", ".join(map(repr, sorted(unknown)))
        result.notes.append(f"`phrase_map` contains {listing}, which are no classes of this file")
    for label, name in names.items():
        phrase = result.phrase_of[label] = None if name in background | ignored else phrases[name]
        category = repr(name) if label == name else f"{label} {name!r}"
        if name in background:
            result.notes.append(f"category {name!r} is background and is left out; `phrase_map` can give it a phrase")
        elif name in ignored:
            result.ignored.add(label)
            result.notes.append(
                f"category {name!r} marks regions to ignore: they are crowd regions of every phrase, so no phrase is "
                "absent in their images. `phrase_map` can give it a phrase, or null to leave the regions out"
            )
        elif phrase is None:
            result.notes.append(f"category {name!r} is dropped by the phrase map")
        elif phrase in result.category_ids:
            result.notes.append(f"category {category} has the phrase {phrase!r} of another; merged")
        else:
            result.category_ids[phrase] = label
            if phrase != name:
                result.notes.append(f"category {name!r} is used as the phrase {phrase!r}")
    return result
