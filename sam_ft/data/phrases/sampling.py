"""Which phrases of a row are asked in one step: positives first, then absent ones that the row proves absent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class PhraseOptions:
    """
    Attributes:
        negative_ratio (`float`): share of absent phrases among those asked, on average over images.
        negatives_per_image (`int`, *optional*): a fixed number of absent phrases instead.
        max_phrases_per_image (`int`): cap on phrases an image; positives are kept before absent ones.
        soft (`list[str]`): unlabelled phrases that a teacher answers, `soft_per_image` (`int`) of them drawn for each image.
        synonyms (`Mapping[str, list[str]]`): phrase -> other texts for it, one of all being drawn each time.
    """

    negative_ratio: float = 0.2
    negatives_per_image: int | None = None
    max_phrases_per_image: int = 32
    soft: list[str] = field(default_factory=list)
    soft_per_image: int = 2
    synonyms: Mapping[str, list[str]] = field(default_factory=dict)

    def __post_init__(self):
        if not 0 <= self.negative_ratio < 1:
            raise ValueError(f"`negative_ratio` is {self.negative_ratio}; it must be at least 0 and below 1")
        if self.negatives_per_image is not None and self.negatives_per_image < 0:
            raise ValueError(f"`negatives_per_image` is {self.negatives_per_image}; it must be 0 or more")
        if self.max_phrases_per_image < 1:
            raise ValueError(
                f"`max_phrases_per_image` is {self.max_phrases_per_image}; at least 1 phrase must be asked"
            )


@dataclass
class AskedPhrase:
    """
    Attributes:
        text (`str`): as the model reads it. name (`str`): the row's own text, without synonyms.
        instances, crowds (`list[int]`): indices into the row's instances: objects, and regions to ignore.
        exhaustive (`bool`): `False` where other instances may be unlabelled.
    """

    text: str
    name: str
    instances: list[int]
    crowds: list[int]
    exhaustive: bool


def all_phrases(row: dict) -> list[AskedPhrase]:
    """Every phrase of a row, as evaluation asks them; crowds apart from objects."""
    crowd = [instance["is_crowd"] for instance in row["instances"]]
    return [
        AskedPhrase(
            phrase["text"],
            phrase["text"],
            [i for i in phrase["instances"] if not crowd[i]],
            [i for i in phrase["instances"] if crowd[i]],
            phrase["exhaustive"],
        )
        for phrase in row["phrases"]
    ]


def choose_phrases(row: dict, rng: np.random.Generator, options: PhraseOptions) -> list[AskedPhrase]:
    """
    The phrases that one training example asks.

    A phrase with crowd regions alone is neither present nor absent and is never asked. An image without any positive
    phrase asks one absent phrase at least, where it has one and absent phrases are wanted at all.

    Args:
        row (`dict`): see `example.py`.
        rng (`np.random.Generator`): from [`keyed_draws`].
        options (`PhraseOptions`).
    """
    phrases = all_phrases(row)
    positives = [p for p in phrases if p.instances]
    absent = [p for p in phrases if not p.instances and not p.crowds and p.exhaustive]
    cap = options.max_phrases_per_image
    chosen = _pick(positives, min(len(positives), cap), rng)
    chosen += _pick(absent, min(_number_of_negatives(len(chosen), rng, options), len(absent), cap - len(chosen)), rng)
    for phrase in chosen:
        texts = [phrase.name, *options.synonyms.get(phrase.name, [])]
        phrase.text = texts[int(rng.integers(len(texts)))]
    return chosen


def choose_soft(row: dict, rng: np.random.Generator, options: PhraseOptions) -> list[str]:
    """Unlabelled phrases for a row: none that its source says anything about."""
    known = {phrase["text"] for phrase in row["phrases"]}
    free = [text for text in options.soft if text not in known]
    return [free[i] for i in rng.permutation(len(free))[: options.soft_per_image]]


def _number_of_negatives(positives: int, rng: np.random.Generator, options: PhraseOptions) -> int:
    if options.negatives_per_image is not None:
        return options.negatives_per_image
    wanted = positives * options.negative_ratio / (1 - options.negative_ratio)
    number = int(wanted) + int(rng.random() < wanted - int(wanted))
    return max(number, 1) if options.negative_ratio > 0 and not positives else number


def _pick(phrases: list[AskedPhrase], number: int, rng: np.random.Generator) -> list[AskedPhrase]:
    return [phrases[i] for i in sorted(rng.permutation(len(phrases))[:number])]
