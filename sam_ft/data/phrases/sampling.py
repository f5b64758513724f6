"""Sampling of the phrases of a training step: positives first, then negative phrases that are proven absent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class PhraseOptions:
    """
    Options of phrase sampling.

    Attributes:
        negative_ratio (`float`): Share of negative phrases among the phrases per image, on average over images.
        negatives_per_image (`int`, *optional*): Fixed number of negative phrases instead of a share.
        max_phrases_per_image (`int`): Maximum number of phrases per image; positives take precedence.
        soft (`list[str]`): Unlabelled phrases for which the teacher of a distillation predicts the targets.
        soft_per_image (`int`): Number of them that is drawn for each image.
        synonyms (`Mapping[str, list[str]]`): Phrase to other texts for it; one of all texts is drawn each time.
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
            raise ValueError(f"`max_phrases_per_image` is {self.max_phrases_per_image}; it must be at least 1")


@dataclass
class AskedPhrase:
    """
    Phrase of a row that is used as a prompt.

    Attributes:
        text (`str`): Text for the text encoder, possibly a synonym.
        name (`str`): Text in the row.
        instances (`list[int]`): Indices of the objects among the instances of the row.
        crowds (`list[int]`): Indices of the crowd regions, which the losses ignore.
        exhaustive (`bool`): `False` if other instances may be unlabelled.
    """

    text: str
    name: str
    instances: list[int]
    crowds: list[int]
    exhaustive: bool


def all_phrases(row: dict) -> list[AskedPhrase]:
    """
    Return every phrase of a row, as an evaluation uses them, with crowd regions separate from objects.

    Args:
        row (`dict`): A row as in `row_schema.py`.
    """
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
    Sample the phrases of one training example.

    A phrase with crowd regions alone is neither present nor absent and is never sampled. An image without a positive
    phrase gets at least one negative phrase if it has one and `negative_ratio` is above 0.

    Args:
        row (`dict`): A row as in `row_schema.py`.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        options (`PhraseOptions`): Options of the sampling.
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
    """
    Sample phrases for distillation that the row does not label as present or absent.

    Args:
        row (`dict`): A row as in `row_schema.py`.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        options (`PhraseOptions`): Options of the sampling.
    """
    labelled = {phrase["text"] for phrase in row["phrases"]}
    unlabelled = [text for text in options.soft if text not in labelled]
    return [unlabelled[i] for i in rng.permutation(len(unlabelled))[: options.soft_per_image]]


def _number_of_negatives(positives: int, rng: np.random.Generator, options: PhraseOptions) -> int:
    if options.negatives_per_image is not None:
        return options.negatives_per_image
    expected = positives * options.negative_ratio / (1 - options.negative_ratio)
    number = int(expected) + int(rng.random() < expected - int(expected))
    return max(number, 1) if options.negative_ratio > 0 and not positives else number


def _pick(phrases: list[AskedPhrase], number: int, rng: np.random.Generator) -> list[AskedPhrase]:
    return [phrases[i] for i in sorted(rng.permutation(len(phrases))[:number])]
