"""New splits of rows: by image, or by phrase, so that a test asks what training has never heard."""

import difflib

from datasets import Dataset, concatenate_datasets

from ..utils.text import list_some
from .keyed_random import keyed_draws
from .phrases.vocabulary import normalize_phrase


def split_by_image(rows: Dataset, fraction: float, seed: int) -> dict[str, Dataset]:
    """Draws `fraction` of the images for validation; the same for the same rows and seed."""
    order = keyed_draws(seed, 0, "", "split").permutation(len(rows)).tolist()
    number = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
    return {"train": rows.select(sorted(order[number:])), "validation": rows.select(sorted(order[:number]))}


def split_by_phrase(rows: Dataset, held_out: list[str], argument: str = "hold_out_phrases") -> dict[str, Dataset]:
    """
    Every image that shows a held-out phrase goes to validation; training never asks these phrases.

    Raises:
        `ValueError`: where a phrase is not in the data, or nothing is left to train on.
    """
    known = {phrase["text"] for phrases in rows["phrases"] for phrase in phrases}
    unknown = [text for text in held_out if text not in known]
    if unknown:
        raise ValueError(
            f"`{argument}` names {unknown[0]!r}, which is not among the {len(known)} phrases: {', '.join(sorted(known)[:20])}"
        )
    shown = [
        any(phrase["text"] in held_out and phrase["instances"] for phrase in phrases) for phrases in rows["phrases"]
    ]
    if all(shown):
        raise ValueError(f"`{argument}`: every image shows {' or '.join(held_out)}, so none is left to train on")
    train = rows.select([i for i, held in enumerate(shown) if not held]).map(
        _without, fn_kwargs={"texts": held_out}, features=rows.features
    )
    return {"train": train, "validation": rows.select([i for i, held in enumerate(shown) if held])}


def keep_unseen(train: Dataset, validation: Dataset, unseen: list[str]) -> tuple[Dataset, Dataset]:
    """
    Training rows that neither show nor ask some phrases, and the evaluation's with those that show them.

    Raises:
        `ValueError`: as [`split_by_phrase`].
    """
    parts, taken = split_by_phrase(train, unseen, "unseen_phrases"), set(validation["example_id"])
    shown = parts["validation"]
    if taken & set(shown["example_id"]):
        shown = shown.map(_renamed, fn_kwargs={"split": "train"}, features=shown.features)
    return parts["train"], concatenate_datasets([validation, shown])


def without_phrases(rows: Dataset, texts: list[str]) -> Dataset:
    """Rows that show none of some phrases, which are not asked of the others either."""
    shown = [any(p["text"] in texts and p["instances"] for p in phrases) for phrases in rows["phrases"]]
    kept = rows.select([i for i, held in enumerate(shown) if not held])
    return kept.map(_without, fn_kwargs={"texts": texts}, features=rows.features)


def _without(row: dict, texts: list[str]) -> dict:
    return row | {"phrases": [phrase for phrase in row["phrases"] if phrase["text"] not in texts]}


def known_phrases(splits: dict[str, Dataset], wanted: list[str], argument: str) -> list[str]:
    """
    Return phrases as the data spell them.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of `example.py`.
        wanted (`list[str]`): Phrases of the user; case, `_` and `-` may differ.
        argument (`str`): The argument that names them, for messages.

    Raises:
        `ValueError`: Names a phrase that no split has, and the nearest one that it has.
    """
    known = {phrase["text"] for rows in splits.values() for phrases in rows["phrases"] for phrase in phrases}
    found = []
    for text in wanted:
        spelling = text if text in known else normalize_phrase(text)
        if spelling not in known:
            near = difflib.get_close_matches(spelling, known, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The data have {list_some(sorted(known), 20)}"
            raise ValueError(
                f"`{argument}` contains {text!r}, which is not among the {len(known)} phrases of the data. {hint}"
            )
        found.append(spelling)
    return found


def subset(rows: Dataset, *, phrases: list[str] | None, limit: int | None) -> Dataset:
    """The first `limit` rows; with `phrases` only these are asked, and rows without any of them are left out."""
    if phrases:
        rows = rows.map(_only, fn_kwargs={"texts": phrases}, features=rows.features)
        rows = rows.select([i for i, listed in enumerate(rows["phrases"]) if listed])
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _only(row: dict, texts: list[str]) -> dict:
    return row | {"phrases": [phrase for phrase in row["phrases"] if phrase["text"] in texts]}


def all_rows(splits: dict[str, Dataset]) -> Dataset:
    """All splits as one; where two of them share an example id, each id gets its split's name before it."""
    ids = [name for rows in splits.values() for name in rows["example_id"]]
    if len(set(ids)) < len(ids):
        splits = {
            name: rows.map(_renamed, fn_kwargs={"split": name}, features=rows.features)
            for name, rows in splits.items()
        }
    return concatenate_datasets(list(splits.values()))


def _renamed(row: dict, split: str) -> dict:
    return row | {"example_id": f"{split}/{row['example_id']}"}
