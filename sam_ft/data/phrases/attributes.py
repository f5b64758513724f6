"""Phrases from attributes: templates such as `"{ripeness} {color} {label}"`, filled from each instance."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...utils.text import short_repr
from ...utils.yaml_files import read_yaml_mapping
from .vocabulary import normalize_phrase


LABEL = "label"
_SLOT = re.compile(r"\{(\w[\w -]*)\}")


@dataclass
class LabelledInstance:
    """
    Instance with the values that templates use.

    Attributes:
        index (`int`): Index of the instance in its row.
        label (`str`): Phrase of its class.
        attributes (`dict[str, str]`): Attribute to value.
    """

    index: int
    label: str
    attributes: dict[str, str]


@dataclass
class AttributeTemplates:
    """
    Templates of phrases, with synonyms and plurals.

    Attributes:
        templates (`list[str]`): `{label}` is the phrase of the class and `{KEY}` an attribute. A part in brackets is
            optional, so that `[{ripeness} ]{color} {label}` gives two levels. An instance gets the phrases for which
            it has all attributes.
        synonyms (`dict[str, list[str]]`): Word to other words that training may use for it.
        plurals (`dict[str, str]`): Phrase of a class to its plural, which training may use too.
    """

    templates: list[str]
    synonyms: dict[str, list[str]] = field(default_factory=dict)
    plurals: dict[str, str] = field(default_factory=dict)

    def phrases(self, instances: list[LabelledInstance], values: dict[str, dict[str, set[str]]]) -> Iterator[dict]:
        """
        Generate the phrases of one image whose classes are all labelled.

        A phrase is exhaustive unless an instance of its class lacks one of its attributes and agrees in all others.
        Absent phrases are near misses: they differ from a present phrase in one attribute or in the class, and no
        instance of the image can match them.

        Args:
            instances (`list[LabelledInstance]`): All instances of the image.
            values (`dict[str, dict[str, set[str]]]`): Class to attribute to values, over the data set.

        Yields:
            `dict`: Phrases as in `row_schema.py`. The caller adds those of the class alone.
        """
        for template in self.templates:
            for keys, form in _forms(template):
                if keys:
                    yield from _phrases_of_form(form, keys, instances, values)

    def compare(self, values: dict[str, dict[str, set[str]]]) -> list[str]:
        """
        Compare the templates with the attribute values of a data set.

        Args:
            values (`dict[str, dict[str, set[str]]]`): Class to attribute to values, over the data set.

        Returns:
            `list[str]`: A note about attributes that no object has, or nothing.

        Raises:
            `ValueError`: If a synonym is another value of the same attribute: training would confuse the two values.
        """
        values_of: dict[str, set[str]] = {}
        for attributes in values.values():
            for key, texts in attributes.items():
                values_of.setdefault(key, set()).update(map(normalize_phrase, texts))
        for word, others in self.synonyms.items():
            for key, texts in values_of.items():
                both = texts & {normalize_phrase(other) for other in others}
                if word in texts and both:
                    raise ValueError(
                        f"`attribute_templates`: {sorted(both)[0]!r} is listed as a synonym of {word!r}, but both are "
                        f"values of {key!r}. Remove the synonym"
                    )
        required = {key for template in self.templates for key in _SLOT.findall(template) if key != LABEL}
        missing = sorted(required - values_of.keys())
        if not missing:
            return []
        available = ", ".join(sorted(values_of)) or "none"
        return [f"attribute templates use {', '.join(missing)}, which no object has (available: {available})"]

    def alternatives(self, text: str) -> list[str]:
        """
        Generate other texts for a phrase: one word replaced by a synonym, or the class by its plural.

        Args:
            text (`str`): The phrase.
        """
        texts = []
        for word, others in self.synonyms.items():
            if re.search(rf"\b{re.escape(word)}\b", text):
                texts += [re.sub(rf"\b{re.escape(word)}\b", other, text) for other in others]
        for label, plural in self.plurals.items():
            if re.search(rf"\b{re.escape(label)}\b", text):
                texts.append(re.sub(rf"\b{re.escape(label)}\b", plural, text))
        return texts


class SynonymMapping(Mapping):
    """
    Mapping of a phrase to other texts for it, computed on access because a stream has no list of its phrases.

    Args:
        templates (`AttributeTemplates`): Templates with synonyms and plurals.
        synonyms (`dict[str, list[str]]`): Synonyms of the phrase map.
        phrases (`Iterable[str]`): Phrases of the data set; iteration covers these and those with synonyms.
    """

    def __init__(self, templates: AttributeTemplates, synonyms: dict[str, list[str]], phrases: Iterable[str]):
        self.templates, self.synonyms = templates, synonyms
        self.phrases = list(dict.fromkeys([*synonyms, *phrases]))
        self._alternatives: dict[str, list[str]] = {}

    def __getitem__(self, phrase: str) -> list[str]:
        if phrase not in self._alternatives:
            self._alternatives[phrase] = [*self.synonyms.get(phrase, []), *self.templates.alternatives(phrase)]
        return self._alternatives[phrase]

    def __iter__(self) -> Iterator[str]:
        return iter(self.phrases)

    def __len__(self) -> int:
        return len(self.phrases)


def read_attribute_templates(path: str) -> AttributeTemplates:
    """
    Read attribute templates from a YAML file.

    Args:
        path (`str`): File with `templates` (a list), and optionally `synonyms` (`word: [word, …]`) and `plurals`
            (`class: plural`).

    Raises:
        `ValueError`: If an entry has another form. The message names the file and the entry.
    """
    entries = read_yaml_mapping(path, "attribute_templates")
    unknown = entries.keys() - {"templates", "synonyms", "plurals"}
    if unknown:
        raise ValueError(
            f"`attribute_templates`: {path} has {short_repr(min(unknown, key=str))}; expected `templates`, `synonyms` "
            "and `plurals`"
        )
    templates = entries.get("templates")
    if not isinstance(templates, list) or not templates or not all(isinstance(t, str) for t in templates):
        raise ValueError(
            f'`attribute_templates`: {path} needs `templates`, a list such as ["{{label}}", "{{color}} {{label}}"]'
        )
    for template in templates:
        if (
            f"{{{LABEL}}}" not in template
            or re.search(r"[{}]", _SLOT.sub("", template))
            or re.search(r"[\[\]]", re.sub(r"\[[^\[\]]*\]", "", template))
        ):
            raise ValueError(
                f"`attribute_templates`: {path} has {template!r}; a template contains {{label}} and attributes in "
                "braces, and optional parts in brackets"
            )
    synonyms, plurals = entries.get("synonyms") or {}, entries.get("plurals") or {}
    for name, entry in (("synonyms", synonyms), ("plurals", plurals)):
        if not isinstance(entry, dict) or not all(str(word).strip() for word in entry):
            raise ValueError(
                f"`attribute_templates`: {path} has `{name}: {short_repr(entry)}`; expected a mapping of words"
            )
    for word, others in synonyms.items():
        if not isinstance(others, list) or not all(isinstance(o, str) and o.strip() for o in others):
            raise ValueError(
                f"`attribute_templates`: {path} has the synonyms {short_repr(others)} for {short_repr(word)}; "
                "expected a list of words"
            )
    for label, plural in plurals.items():
        if not isinstance(plural, str) or not plural.strip():
            raise ValueError(
                f"`attribute_templates`: {path} has the plural {short_repr(plural)} for {short_repr(label)}; "
                "expected a text"
            )
    return AttributeTemplates(
        templates, {str(k): v for k, v in synonyms.items()}, {str(k): v for k, v in plurals.items()}
    )


def attribute_values(instances: Iterator[LabelledInstance]) -> dict[str, dict[str, set[str]]]:
    """
    Collect the attribute values of a data set.

    Args:
        instances (`Iterator[LabelledInstance]`): All instances.

    Returns:
        `dict[str, dict[str, set[str]]]`: Class to attribute to values.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for instance in instances:
        for key, value in instance.attributes.items():
            values.setdefault(instance.label, {}).setdefault(key, set()).add(value)
    return values


def _forms(template: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Expand the optional parts of a template to `(required attributes, text with slots)`, the longest text first."""
    parts = re.split(r"(\[[^\]]*\])", template)
    optional = [i for i, part in enumerate(parts) if part.startswith("[")]
    for selection in itertools.product((True, False), repeat=len(optional)):
        chosen = dict(zip(optional, selection, strict=True))
        form = "".join(part.strip("[]") if chosen.get(i, True) else "" for i, part in enumerate(parts))
        yield tuple(dict.fromkeys(k for k in _SLOT.findall(form) if k != LABEL)), form


def _fill(form: str, label: str, values: tuple[tuple[str, str], ...]) -> str:
    words = dict(values) | {LABEL: label}
    return normalize_phrase(_SLOT.sub(lambda slot: words[slot[1]], form))


def _phrases_of_form(form: str, keys: tuple[str, ...], instances: list[LabelledInstance], values) -> Iterator[dict]:
    present: dict[tuple, list[int]] = {}
    for instance in instances:
        if all(key in instance.attributes for key in keys):
            slots = instance.label, tuple((key, instance.attributes[key]) for key in keys)
            present.setdefault(slots, []).append(instance.index)
    for slots, indices in present.items():
        yield {"text": _fill(form, *slots), "instances": indices, "exhaustive": not _may_match(slots, keys, instances)}
    absent = dict.fromkeys(near for slots in present for near in _near_misses(slots, values) if near not in present)
    for slots in absent:
        if not _may_match(slots, keys, instances):
            yield {"text": _fill(form, *slots), "instances": [], "exhaustive": True}


def _may_match(slots: tuple, keys: tuple[str, ...], instances: list[LabelledInstance]) -> bool:
    """Return whether an instance of the class lacks one of the attributes and agrees in the others."""
    label, expected = slots[0], dict(slots[1])
    return any(
        instance.label == label
        and any(key not in instance.attributes for key in keys)
        and all(instance.attributes.get(key, expected[key]) == expected[key] for key in keys)
        for instance in instances
    )


def _near_misses(present: tuple, values) -> Iterator[tuple]:
    """Generate slots that differ in one attribute, or in the class where it can have these attributes."""
    label, slots = present
    for i, (key, value) in enumerate(slots):
        for other in sorted(values.get(label, {}).get(key, set()) - {value}):
            yield label, (*slots[:i], (key, other), *slots[i + 1 :])
    for other in values:
        if other != label and all(value in values[other].get(key, set()) for key, value in slots):
            yield other, slots
