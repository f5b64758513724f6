"""Sampling of the phrases of a training step: positives first, then negative phrases that are proven absent."""

from dataclasses import dataclass

import numpy as np

from ...options.phrases import PhraseOptions


@dataclass
class PromptedPhrase:
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


def all_phrases(row: dict) -> list[PromptedPhrase]:
    """
    Return every phrase of a row, as an evaluation uses them, with crowd regions separate from objects.

    Args:
        row (`dict`): A row as in `row_schema.py`.
    """
    crowd = [instance["is_crowd"] for instance in row["instances"]]
    return [
        PromptedPhrase(
            phrase["text"],
            phrase["text"],
            [i for i in phrase["instances"] if not crowd[i]],
            [i for i in phrase["instances"] if crowd[i]],
            phrase["exhaustive"],
        )
        for phrase in row["phrases"]
    ]


def choose_phrases(row: dict, rng: np.random.Generator, options: PhraseOptions) -> list[PromptedPhrase]:
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


def choose_distill_phrases(row: dict, rng: np.random.Generator, options: PhraseOptions) -> list[str]:
    """
    Sample phrases for distillation that the row does not label as present or absent.

    Args:
        row (`dict`): A row as in `row_schema.py`.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        options (`PhraseOptions`): Options of the sampling.
    """
    labelled = {phrase["text"] for phrase in row["phrases"]}
    unlabelled = [text for text in options.distill_phrases if text not in labelled]
    return [unlabelled[i] for i in rng.permutation(len(unlabelled))[: options.distill_per_image]]


def _number_of_negatives(positives: int, rng: np.random.Generator, options: PhraseOptions) -> int:
    if options.negatives_per_image is not None:
        return options.negatives_per_image
    expected = positives * options.negative_ratio / (1 - options.negative_ratio)
    number = int(expected) + int(rng.random() < expected - int(expected))
    return max(number, 1) if options.negative_ratio > 0 and not positives else number


def _pick(phrases: list[PromptedPhrase], number: int, rng: np.random.Generator) -> list[PromptedPhrase]:
    return [phrases[i] for i in sorted(rng.permutation(len(phrases))[:number])]
