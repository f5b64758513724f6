"""Splits of rows by image or by phrase, for evaluation on phrases that are not in the training data."""

import difflib

from datasets import Dataset, concatenate_datasets

from ..utils.text import list_some
from .keyed_random import keyed_draws
from .phrases.vocabulary import spell_phrases
from .row_schema import phrase_texts


def split_by_image(rows: Dataset, fraction: float, seed: int) -> dict[str, Dataset]:
    """
    Split rows at random.

    Args:
        rows (`datasets.Dataset`): All rows.
        fraction (`float`): Fraction of the images for validation.
        seed (`int`): Random seed.

    Returns:
        `dict[str, datasets.Dataset]`: `train` and `validation`; equal for equal rows and seed.
    """
    order = keyed_draws(seed, 0, "", "split").permutation(len(rows)).tolist()
    number = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
    return {"train": rows.select(sorted(order[number:])), "validation": rows.select(sorted(order[:number]))}


def split_by_phrase(rows: Dataset, held_out: list[str], argument: str = "hold_out_phrases") -> dict[str, Dataset]:
    """
    Split rows so that images with a held-out phrase are in validation; training has none of these phrases.

    Args:
        rows (`datasets.Dataset`): All rows.
        held_out (`list[str]`): Held-out phrases.
        argument (`str`): Argument that contains them, for messages.

    Returns:
        `dict[str, datasets.Dataset]`: `train` and `validation`.

    Raises:
        `ValueError`: If a phrase is not in the data, or no image is left to train on.
    """
    vocabulary = phrase_texts(rows)
    unknown = [text for text in held_out if text not in vocabulary]
    if unknown:
        raise ValueError(
            f"`{argument}` contains {unknown[0]!r}, which is not among the {len(vocabulary)} phrases: "
            f"{', '.join(sorted(vocabulary)[:20])}"
        )
    has_held_out = [
        any(phrase["text"] in held_out and phrase["instances"] for phrase in phrases) for phrases in rows["phrases"]
    ]
    if all(has_held_out):
        raise ValueError(f"`{argument}`: every image shows {' or '.join(held_out)}, so none is left to train on")
    train = rows.select([i for i, held in enumerate(has_held_out) if not held]).map(
        _without, fn_kwargs={"texts": held_out}, features=rows.features
    )
    return {"train": train, "validation": rows.select([i for i, held in enumerate(has_held_out) if held])}


def keep_unseen(train: Dataset, validation: Dataset, unseen: list[str]) -> tuple[Dataset, Dataset]:
    """
    Move training images with unseen phrases to the validation rows, and remove these phrases from training.

    Args:
        train (`datasets.Dataset`): Training rows.
        validation (`datasets.Dataset`): Validation rows.
        unseen (`list[str]`): Phrases that training must not contain.

    Returns:
        `tuple[datasets.Dataset, datasets.Dataset]`: Training rows and validation rows.

    Raises:
        `ValueError`: As [`split_by_phrase`].
    """
    parts, validation_ids = split_by_phrase(train, unseen, "unseen_phrases"), set(validation["example_id"])
    moved = parts["validation"]
    if validation_ids & set(moved["example_id"]):
        moved = moved.map(_renamed, fn_kwargs={"split": "train"}, features=moved.features)
    return parts["train"], concatenate_datasets([validation, moved])


def without_phrases(rows: Dataset, texts: list[str]) -> Dataset:
    """
    Leave out images that show phrases, and remove the phrases from the other images.

    Args:
        rows (`datasets.Dataset`): All rows.
        texts (`list[str]`): The phrases.

    Returns:
        `datasets.Dataset`: The remaining rows.
    """
    has_held_out = [any(p["text"] in texts and p["instances"] for p in phrases) for phrases in rows["phrases"]]
    remaining = rows.select([i for i, held in enumerate(has_held_out) if not held])
    return remaining.map(_without, fn_kwargs={"texts": texts}, features=rows.features)


def _without(row: dict, texts: list[str]) -> dict:
    return row | {"phrases": [phrase for phrase in row["phrases"] if phrase["text"] not in texts]}


def match_phrases(splits: dict[str, Dataset], phrases: list[str], argument: str) -> list[str]:
    """
    Return phrases in the spelling of the data.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows by split.
        phrases (`list[str]`): Requested phrases; case, `_` and `-` may differ.
        argument (`str`): The argument that contains them, for messages.

    Returns:
        `list[str]`: The phrases of the data.

    Raises:
        `ValueError`: If no split has a phrase; contains the most similar phrase of the data.
    """
    vocabulary = set().union(*map(phrase_texts, splits.values())) if phrases else set()
    spellings = spell_phrases(phrases, vocabulary)
    for text, spelling in zip(phrases, spellings, strict=True):
        if spelling not in vocabulary:
            similar = difflib.get_close_matches(spelling, vocabulary, 1)
            hint = f"Did you mean {similar[0]!r}?" if similar else f"The data have {list_some(sorted(vocabulary), 20)}"
            raise ValueError(
                f"`{argument}` contains {text!r}, which is not among the {len(vocabulary)} phrases of the data. {hint}"
            )
    return spellings


def subset(rows: Dataset, *, phrases: list[str] | None, limit: int | None) -> Dataset:
    """
    Select the first rows, and only some phrases of them.

    Args:
        rows (`datasets.Dataset`): All rows.
        phrases (`list[str]`, *optional*): Phrases to keep; rows without any of them are left out.
        limit (`int`, *optional*): Maximum number of rows.

    Returns:
        `datasets.Dataset`: The selected rows.
    """
    if phrases:
        rows = rows.map(_only, fn_kwargs={"texts": phrases}, features=rows.features)
        rows = rows.select([i for i, remaining in enumerate(rows["phrases"]) if remaining])
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _only(row: dict, texts: list[str]) -> dict:
    return row | {"phrases": [phrase for phrase in row["phrases"] if phrase["text"] in texts]}


def all_rows(splits: dict[str, Dataset]) -> Dataset:
    """
    Concatenate all splits.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows by split.

    Returns:
        `datasets.Dataset`: All rows; if two rows share an `example_id`, each id is prefixed with its split.
    """
    ids = [name for rows in splits.values() for name in rows["example_id"][:]]
    if len(set(ids)) < len(ids):
        splits = {
            name: rows.map(_renamed, fn_kwargs={"split": name}, features=rows.features)
            for name, rows in splits.items()
        }
    return concatenate_datasets(list(splits.values()))


def _renamed(row: dict, split: str) -> dict:
    return row | {"example_id": f"{split}/{row['example_id']}"}
