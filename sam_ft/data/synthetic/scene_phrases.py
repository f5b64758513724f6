"""
Scene phrases: positive phrases of several attributes, and negative phrases that differ from them in one word.

A concept maps attributes to values: `{"size": "small", "color": "red", "shape": "square"}` is "small red square".
Without a shape, its noun is "shape".
"""

import numpy as np

from ...options.scenes import SceneOptions
from .scenes import SceneObject


ATTRIBUTES = ("size", "fill", "color", "shape")  # in the order of their words
NOUN = ("shape", "object")
# The first word is the name of the value; the others are synonyms.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
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
# Probability of each set of attributes. The shape alone is frequent, because it is rarely needed beside a colour.
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
    """
    Return `LEVELS` with the share of shape-only phrases of a world.

    Args:
        world (`SceneOptions`): Options of the scenes.
    """
    if world.shape_alone is None:
        return LEVELS
    (first, shape), *others = LEVELS
    return (
        (world.shape_alone, shape),
        *((share * (1 - world.shape_alone) / (1 - first), names) for share, names in others),
    )


# Nouns that no scene contains, so that an unusual word does not predict presence.
_FOREIGN = (
    "dog", "cat", "car", "person", "tree", "bottle", "chair", "bird", "house", "flower", "phone", "cup", "shoe",
    "boat", "bicycle", "apple",
)  # fmt: skip
_SYNONYM_SHARE = 0.2


def attribute_values(attribute: str, world: SceneOptions | None = None) -> tuple[str, ...]:
    """
    Return the values of an attribute that phrases of a world use.

    Args:
        attribute (`str`): One of `ATTRIBUTES`.
        world (`SceneOptions`, *optional*): Options of the scenes.
    """
    world = world or SceneOptions()
    if attribute == "size":
        return tuple(size for size in WORDS["size"] if size in world.sizes)
    chosen = {"fill": world.fills, "color": world.colors, "shape": world.shapes}[attribute]
    return tuple(dict.fromkeys(chosen))


def words_for(attribute: str, value: str) -> tuple[str, ...]:
    """
    Return all words for a value, its name first.

    Args:
        attribute (`str`): One of `ATTRIBUTES`.
        value (`str`): Value of the attribute.
    """
    return WORDS[attribute].get(value, (value,))


def concept_text(concept: dict[str, str], rng: np.random.Generator | None = None) -> str:
    """
    Convert a concept to text.

    Args:
        concept (`dict[str, str]`): Attribute to value.
        rng (`np.random.Generator`, *optional*): Replaces a fifth of the words by synonyms.
    """
    words = []
    for attribute in ATTRIBUTES:
        if attribute in concept:
            value = concept[attribute]
            words.append(_choose_word(words_for(attribute, value), rng))
    return " ".join(words if "shape" in concept else [*words, _choose_word(NOUN, rng)])


def matches(concept: dict[str, str], scene_object: SceneObject) -> bool:
    """
    Return whether an object matches a concept; tiny objects are also small.

    Args:
        concept (`dict[str, str]`): Attribute to value.
        scene_object (`SceneObject`): Object of a scene.
    """
    return all(
        value in (("tiny", "small") if scene_object.size == "tiny" else (scene_object.size,))
        if attribute == "size"
        else getattr(scene_object, attribute) == value
        for attribute, value in concept.items()
    )


def scene_phrases(
    objects: list[SceneObject],
    rng: np.random.Generator,
    number: int = 3,
    levels: tuple[tuple, ...] = LEVELS,
    world: SceneOptions | None = None,
) -> list[dict]:
    """
    Generate the phrases of one scene: up to `number` positive phrases and as many negative ones.

    Three of five negative phrases are hard negatives: a positive phrase with one word replaced ("red square" for a
    scene of a red circle and a blue square). One in ten is a noun that no scene contains; the rest are other concepts.

    Args:
        objects (`list[SceneObject]`): Objects of the scene.
        rng (`np.random.Generator`): Random generator.
        number (`int`): Maximum number of positive phrases. Default: 3.
        levels (`tuple`): `(probability, attributes)` pairs.
        world (`SceneOptions`, *optional*): Options that negative phrases are drawn from, so that every word occurs in
            positive and negative phrases.

    Returns:
        `list[dict]`: `text`, `instances` and `exhaustive` as in `row_schema.py`. Texts are unique.
    """
    phrases: dict[str, list[int]] = {}
    present: list[dict[str, str]] = []
    text: str | None
    for _ in range(4 * number):
        if len(present) == number or not objects:
            break
        concept = _concept_of(objects[rng.integers(len(objects))], _level(rng, levels))
        text = concept_text(concept, rng)
        if concept and concept not in present and text not in phrases:
            present.append(concept)
            phrases[text] = _find_matches(concept, objects)
    total = len(phrases) + max(len(phrases), 1)
    texts = list(phrases)
    for _ in range(10 * number):
        if len(phrases) == total:
            break
        kind = rng.random()
        if kind < 0.6 and present:
            text = _near_miss(present, texts, objects, rng, world)
        elif kind < 0.7:
            text = _FOREIGN[rng.integers(len(_FOREIGN))]
        else:
            concept = {a: v for a in _level(rng, levels) if (v := _any_value(a, world, rng))}
            text = None if not concept or _find_matches(concept, objects) else concept_text(concept, rng)
        if text and text not in phrases:
            phrases[text] = []
    return [{"text": text, "instances": indices, "exhaustive": True} for text, indices in phrases.items()]


def _choose_word(words: tuple[str, ...], rng: np.random.Generator | None) -> str:
    if rng is None or len(words) == 1 or rng.random() >= _SYNONYM_SHARE:
        return words[0]
    return words[1 + rng.integers(len(words) - 1)]


def _level(rng: np.random.Generator, levels: tuple[tuple, ...]) -> tuple[str, ...]:
    return levels[rng.choice(len(levels), p=[share for share, _ in levels])][1]


def _concept_of(scene_object: SceneObject, level: tuple[str, ...]) -> dict[str, str]:
    """Return the concept of an object with the attributes of a level; a medium size has no word."""
    concept = {attribute: getattr(scene_object, attribute) for attribute in level}
    return {a: v for a, v in concept.items() if v != "medium"}


def _find_matches(concept: dict[str, str], objects: list[SceneObject]) -> list[int]:
    return [i for i, scene_object in enumerate(objects) if matches(concept, scene_object)]


def _any_value(attribute: str, world: SceneOptions | None, rng: np.random.Generator) -> str | None:
    values = attribute_values(attribute, world)
    return values[rng.integers(len(values))] if values else None


def _near_miss(
    present: list[dict[str, str]],
    texts: list[str],
    objects: list[SceneObject],
    rng: np.random.Generator,
    world: SceneOptions | None,
) -> str | None:
    """Replace one word of a positive phrase so that no object matches it; `None` if that is not possible."""
    chosen = int(rng.integers(len(present)))
    concept, words = present[chosen], texts[chosen].split()
    attributes = [a for a in ATTRIBUTES if a in concept]
    position = int(rng.integers(len(attributes)))
    attribute = attributes[position]
    others = [v for v in attribute_values(attribute, world) if v != concept[attribute]]
    if not others:
        return None
    value = others[rng.integers(len(others))]
    if _find_matches({**concept, attribute: value}, objects):
        return None
    return " ".join([*words[:position], _choose_word(words_for(attribute, value), rng), *words[position + 1 :]])
