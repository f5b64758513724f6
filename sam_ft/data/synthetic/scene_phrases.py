"""
Phrases about a scene: present ones at several levels, absent ones that differ from them in one word.

A concept is a mapping from attribute to value, `{"size": "small", "color": "red", "shape": "square"}`, spoken as "small red
square". Without a shape its noun is "shape".
"""

import numpy as np

from .scenes import SceneOptions, Thing


ATTRIBUTES = ("size", "fill", "color", "shape")  # in the order they are spoken
NOUN = ("shape", "object")
# the first word is the attribute's own name; the others mean the same
WORDS = {
    "size": {"tiny": ("tiny",), "small": ("small", "little"), "large": ("large", "big")},
    "fill": {
        "solid": ("solid", "plain"),
        "outlined": ("outlined", "hollow"),
        "striped": ("striped",),
        "dotted": ("dotted", "spotted"),
    },
    "color": {"purple": ("purple", "violet")},
    "shape": {
        "circle": ("circle", "disc"),
        "rectangle": ("rectangle", "bar"),
        "crescent": ("crescent", "moon"),
    },
}
# how often a concept names which attributes; the shape alone, since beside a colour it is seldom needed to find the thing
LEVELS = (
    (0.34, ("shape",)),
    (0.22, ("color", "shape")),
    (0.12, ("fill", "shape")),
    (0.08, ("size", "shape")),
    (0.08, ("fill", "color", "shape")),
    (0.05, ("size", "color", "shape")),
    (0.03, ("size", "fill", "color", "shape")),
    (0.05, ("color",)),
    (0.03, ("fill",)),
)
PLAIN_LEVELS = ((0.5, ("shape",)), (0.3, ("color", "shape")), (0.2, ("color",)))


def levels_of(world: SceneOptions) -> tuple[tuple[float, tuple[str, ...]], ...]:
    """`LEVELS`, with a world's own share of phrases that name the shape alone."""
    if world.shape_alone is None:
        return LEVELS
    (first, shape), *others = LEVELS
    return (
        (world.shape_alone, shape),
        *((share * (1 - world.shape_alone) / (1 - first), names) for share, names in others),
    )


# what no scene shows: a word is not a sign of something present
_FOREIGN = ("dog", "cat", "car", "person", "tree", "bottle", "chair", "bird", "house", "flower", "phone", "cup", "shoe", "boat", "bicycle", "apple")  # fmt: skip
_SYNONYM_SHARE = 0.2


def attribute_values(attribute: str, world: SceneOptions | None = None) -> tuple[str, ...]:
    """The values of an attribute that phrases about a world name."""
    world = world or SceneOptions()
    if attribute == "size":
        return tuple(size for size in WORDS["size"] if size in world.sizes)
    chosen = {"fill": world.fills, "color": world.colors, "shape": world.shapes}[attribute]
    return tuple(dict.fromkeys(chosen))


def words_for(attribute: str, value: str) -> tuple[str, ...]:
    """All words for a value, its own name first."""
    return WORDS[attribute].get(value, (value,))


def concept_text(concept: dict[str, str], rng: np.random.Generator | None = None) -> str:
    """The words of a concept; with `rng`, a fifth of them are synonyms."""
    words = []
    for attribute in ATTRIBUTES:
        if attribute in concept:
            value = concept[attribute]
            words.append(_say(words_for(attribute, value), rng))
    return " ".join(words if "shape" in concept else [*words, _say(NOUN, rng)])


def matches(concept: dict[str, str], thing: Thing) -> bool:
    """Whether a concept is true of a thing; what is tiny is also small."""
    return all(
        value in (("tiny", "small") if thing.size == "tiny" else (thing.size,))
        if attribute == "size"
        else getattr(thing, attribute) == value
        for attribute, value in concept.items()
    )


def scene_phrases(
    things: list[Thing],
    rng: np.random.Generator,
    number: int = 3,
    levels: tuple[tuple, ...] = LEVELS,
    world: SceneOptions | None = None,
) -> list[dict]:
    """
    Phrases of one scene: up to `number` present ones and as many absent ones, each true of the picture.

    Three of five absent phrases are a present one with one word exchanged ("red square" beside a red circle and a blue square, or
    "square" beside a circle). One in ten is of something no scene shows; the rest is another concept of the world.

    Args:
        things (`list[Thing]`), rng (`np.random.Generator`).
        number (`int`): of present phrases.
        levels (`tuple`): `(share, attributes)` pairs: how often which attributes are named.
        world (`SceneOptions`, *optional*): what absent phrases are drawn from: every word of it occurs in both kinds.

    Returns:
        `list[dict]`: `text`, `instances`, `exhaustive` as in `example.py`. Texts are unique.
    """
    phrases: dict[str, list[int]] = {}
    present: list[dict[str, str]] = []
    for _ in range(4 * number):
        if len(present) == number or not things:
            break
        concept = _about(things[rng.integers(len(things))], _level(rng, levels))
        text = concept_text(concept, rng)
        if concept and concept not in present and text not in phrases:
            present.append(concept)
            phrases[text] = _where(concept, things)
    wanted = len(phrases) + max(len(phrases), 1)
    texts = list(phrases)
    for _ in range(10 * number):
        if len(phrases) == wanted:
            break
        kind = rng.random()
        if kind < 0.6 and present:
            text = _near_miss(present, texts, things, rng, world)
        elif kind < 0.7:
            text = _FOREIGN[rng.integers(len(_FOREIGN))]
        else:
            concept = {a: v for a in _level(rng, levels) if (v := _any_value(a, world, rng))}
            text = None if not concept or _where(concept, things) else concept_text(concept, rng)
        if text and text not in phrases:
            phrases[text] = []
    return [{"text": text, "instances": found, "exhaustive": True} for text, found in phrases.items()]


def _say(words: tuple[str, ...], rng: np.random.Generator | None) -> str:
    if rng is None or len(words) == 1 or rng.random() >= _SYNONYM_SHARE:
        return words[0]
    return words[1 + rng.integers(len(words) - 1)]


def _level(rng: np.random.Generator, levels: tuple[tuple, ...]) -> tuple[str, ...]:
    return levels[rng.choice(len(levels), p=[share for share, _ in levels])][1]


def _about(thing: Thing, level: tuple[str, ...]) -> dict[str, str]:
    """The concept that a thing gives at a level; a medium size has no word."""
    concept = {attribute: getattr(thing, attribute) for attribute in level}
    return {a: v for a, v in concept.items() if v != "medium"}


def _where(concept: dict[str, str], things: list[Thing]) -> list[int]:
    return [i for i, thing in enumerate(things) if matches(concept, thing)]


def _any_value(attribute: str, world: SceneOptions | None, rng: np.random.Generator) -> str | None:
    values = attribute_values(attribute, world)
    return values[rng.integers(len(values))] if values else None


def _near_miss(
    present: list[dict[str, str]],
    texts: list[str],
    things: list[Thing],
    rng: np.random.Generator,
    world: SceneOptions | None,
) -> str | None:
    """One word of a present phrase exchanged for another value of its attribute that makes it untrue; `None` if none does."""
    chosen = int(rng.integers(len(present)))
    concept, words = present[chosen], texts[chosen].split()
    spoken = [a for a in ATTRIBUTES if a in concept]
    place = int(rng.integers(len(spoken)))
    attribute = spoken[place]
    others = [v for v in attribute_values(attribute, world) if v != concept[attribute]]
    if not others:
        return None
    value = others[rng.integers(len(others))]
    if _where({**concept, attribute: value}, things):
        return None
    return " ".join([*words[:place], _say(words_for(attribute, value), rng), *words[place + 1 :]])
