"""Phrases from attributes: templates such as `"{ripeness} {color} {label}"` filled with what each instance has."""

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
class Thing:
    """An instance as templates see it: its place in the row, its class's phrase, its attributes."""

    index: int
    label: str
    attributes: dict[str, str]


@dataclass
class AttributeTemplates:
    """
    Attributes:
        templates (`list[str]`): `{label}` is the class's phrase, `{KEY}` an attribute; what stands in brackets may be left out, so
            that `[{ripeness} ]{color} {label}` is two levels. An instance gets the phrases of which it has all attributes.
        synonyms (`dict[str, list[str]]`): word -> other words that training may use for it.
        plurals (`dict[str, str]`): class's phrase -> its plural, which training may use too.
    """

    templates: list[str]
    synonyms: dict[str, list[str]] = field(default_factory=dict)
    plurals: dict[str, str] = field(default_factory=dict)

    def phrases(self, things: list[Thing], values: dict[str, dict[str, set[str]]]) -> Iterator[dict]:
        """
        What the templates ask of one image whose classes are all labelled.

        A phrase is exhaustive unless some thing of its class, which agrees in all that is known of it, lacks one of its attributes.
        Absent phrases are near misses: they differ from a present one in one attribute or in the class, and nothing in the image
        can be meant by them.

        Args:
            things (`list[Thing]`): all instances of the image.
            values (`dict[str, dict[str, set[str]]]`): class -> attribute -> values, over the data set.

        Yields:
            `dict`: phrases of `example.py`; those of the class alone are left to the caller.
        """
        for template in self.templates:
            for keys, form in _forms(template):
                if keys:
                    yield from _phrases_of_form(form, keys, things, values)

    def compare(self, values: dict[str, dict[str, set[str]]]) -> list[str]:
        """
        What should be said of templates and the values that a data set has.

        Raises:
            `ValueError`: where a synonym is another value of the same attribute, which would then be taught as the same.
        """
        known: dict[str, set[str]] = {}
        for attributes in values.values():
            for key, found in attributes.items():
                known.setdefault(key, set()).update(map(normalize_phrase, found))
        for word, others in self.synonyms.items():
            for key, found in known.items():
                both = found & {normalize_phrase(other) for other in others}
                if word in found and both:
                    raise ValueError(
                        f"`attribute_templates`: {sorted(both)[0]!r} is given as a synonym of {word!r}, but both are values of {key!r}"
                    )
        asked = {key for template in self.templates for key in _SLOT.findall(template) if key != LABEL}
        lacking = sorted(asked - known.keys())
        if not lacking:
            return []
        listed = ", ".join(sorted(known)) or "none"
        return [f"attribute templates name {', '.join(lacking)}, which no object has (known: {listed})"]

    def spoken(self, text: str) -> list[str]:
        """Other texts for a phrase: one word replaced by a synonym, or the class by its plural."""
        texts = []
        for word, others in self.synonyms.items():
            if re.search(rf"\b{re.escape(word)}\b", text):
                texts += [re.sub(rf"\b{re.escape(word)}\b", other, text) for other in others]
        for label, plural in self.plurals.items():
            if re.search(rf"\b{re.escape(label)}\b", text):
                texts.append(re.sub(rf"\b{re.escape(label)}\b", plural, text))
        return texts


class SpokenPhrases(Mapping):
    """
    Phrase -> other texts for it, worked out when they are asked for: a stream's phrases are not known beforehand.

    Args:
        templates (`AttributeTemplates`). given (`dict[str, list[str]]`): synonyms of the phrase map.
        known (`Iterable[str]`): phrases that are known; it is these that iterating goes over.
    """

    def __init__(self, templates: AttributeTemplates, given: dict[str, list[str]], known: Iterable[str]):
        self.templates, self.given, self.known = templates, given, list(dict.fromkeys([*given, *known]))
        self._spoken: dict[str, list[str]] = {}

    def __getitem__(self, phrase: str) -> list[str]:
        if phrase not in self._spoken:
            self._spoken[phrase] = [*self.given.get(phrase, []), *self.templates.spoken(phrase)]
        return self._spoken[phrase]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def read_attribute_templates(path: str) -> AttributeTemplates:
    """
    Reads a YAML file of `templates` (a list), and optionally `synonyms` (word: [word, …]) and `plurals` (class: plural).

    Raises:
        `ValueError`: naming the file and entry, where something else stands there.
    """
    entries = read_yaml_mapping(path, "attribute_templates")
    unknown = entries.keys() - {"templates", "synonyms", "plurals"}
    if unknown:
        raise ValueError(
            f"`attribute_templates`: {path} has {short_repr(min(unknown, key=str))}; expected templates, synonyms, "
            "plurals"
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
                f"`attribute_templates`: {path} has {template!r}; a template names {{label}} and attributes in braces, optional parts "
                "in brackets"
            )
    synonyms, plurals = entries.get("synonyms") or {}, entries.get("plurals") or {}
    for name, given in (("synonyms", synonyms), ("plurals", plurals)):
        if not isinstance(given, dict) or not all(str(word).strip() for word in given):
            raise ValueError(
                f"`attribute_templates`: {path} has `{name}: {short_repr(given)}`; expected words and what they stand "
                "for"
            )
    for word, others in synonyms.items():
        if not isinstance(others, list) or not all(isinstance(o, str) and o.strip() for o in others):
            raise ValueError(
                f"`attribute_templates`: {path} gives {short_repr(word)} the synonyms {short_repr(others)}; expected "
                "a list of words"
            )
    for label, plural in plurals.items():
        if not isinstance(plural, str) or not plural.strip():
            raise ValueError(
                f"`attribute_templates`: {path} gives {short_repr(label)} the plural {short_repr(plural)}; expected a "
                "text"
            )
    return AttributeTemplates(
        templates, {str(k): v for k, v in synonyms.items()}, {str(k): v for k, v in plurals.items()}
    )


def attribute_values(things: Iterator[Thing]) -> dict[str, dict[str, set[str]]]:
    """Class -> attribute -> values, of all things of a data set."""
    values: dict[str, dict[str, set[str]]] = {}
    for thing in things:
        for key, value in thing.attributes.items():
            values.setdefault(thing.label, {}).setdefault(key, set()).add(value)
    return values


def _forms(template: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """A template with each choice of its optional parts: (attributes that it needs, text with slots), fullest first."""
    parts = re.split(r"(\[[^\]]*\])", template)
    optional = [i for i, part in enumerate(parts) if part.startswith("[")]
    for kept in itertools.product((True, False), repeat=len(optional)):
        chosen = dict(zip(optional, kept, strict=True))
        form = "".join(part.strip("[]") if chosen.get(i, True) else "" for i, part in enumerate(parts))
        yield tuple(dict.fromkeys(k for k in _SLOT.findall(form) if k != LABEL)), form


def _fill(form: str, label: str, values: tuple[tuple[str, str], ...]) -> str:
    words = dict(values) | {LABEL: label}
    return normalize_phrase(_SLOT.sub(lambda slot: words[slot[1]], form))


def _phrases_of_form(form: str, keys: tuple[str, ...], things: list[Thing], values) -> Iterator[dict]:
    present: dict[tuple, list[int]] = {}
    for thing in things:
        if all(key in thing.attributes for key in keys):
            slots = thing.label, tuple((key, thing.attributes[key]) for key in keys)
            present.setdefault(slots, []).append(thing.index)
    for slots, indices in present.items():
        yield {"text": _fill(form, *slots), "instances": indices, "exhaustive": not _may_be_meant(slots, keys, things)}
    absent = dict.fromkeys(near for slots in present for near in _near_misses(*slots, values) if near not in present)
    for slots in absent:
        if not _may_be_meant(slots, keys, things):
            yield {"text": _fill(form, *slots), "instances": [], "exhaustive": True}


def _may_be_meant(slots: tuple, keys: tuple[str, ...], things: list[Thing]) -> bool:
    """Whether a thing of the class lacks one of the attributes and agrees in the others."""
    label, wanted = slots[0], dict(slots[1])
    return any(
        thing.label == label
        and any(key not in thing.attributes for key in keys)
        and all(thing.attributes.get(key, wanted[key]) == wanted[key] for key in keys)
        for thing in things
    )


def _near_misses(label: str, slots: tuple, values) -> Iterator[tuple]:
    """The same with one attribute changed, or of another class that can have these attributes."""
    for i, (key, value) in enumerate(slots):
        for other in sorted(values.get(label, {}).get(key, set()) - {value}):
            yield label, (*slots[:i], (key, other), *slots[i + 1 :])
    for other in values:
        if other != label and all(value in values[other].get(key, set()) for key, value in slots):
            yield other, slots
