"""Folds for out-of-fold predictions: copies of an image in one fold, and every phrase in as many folds as possible."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from ..utils.text import list_some
from .hold_out import find_copies, join_groups
from .keyed_random import keyed_draws


@dataclass
class Folds:
    """
    Assignment of images to folds.

    Attributes:
        fold_of (`list[int]`): Fold of each image, from 0.
        num_folds (`int`): Number of folds.
        untrained_phrases (`list[str]`): Phrases whose images are all in one fold, so that the model that predicts
            these images is not trained on them.
    """

    fold_of: list[int]
    num_folds: int
    untrained_phrases: list[str]

    def split(self, rows: Dataset, fold: int) -> tuple[Dataset, Dataset]:
        """
        Split rows into the training rows and the predicted rows of a fold.

        Args:
            rows (`datasets.Dataset`): All rows, in the order of the assignment.
            fold (`int`): Fold to predict.
        """
        is_predicted = np.array(self.fold_of) == fold
        return rows.select(np.flatnonzero(~is_predicted)), rows.select(np.flatnonzero(is_predicted))


def assign_folds(
    rows: Dataset,
    num_folds: int,
    notes: list[str],
    groups: Sequence[Hashable | None] | None = None,
    num_proc: int | None = None,
) -> Folds:
    """
    Assign images to folds, none of them empty.

    Copies of an image (see [`find_copies`]) and images of one group share a fold. The folds are stratified by phrase,
    so that the training rows of each fold contain as many images of a rare phrase as possible. The assignment depends
    on the rows and the number of folds alone, so that an interrupted review continues with the same folds.

    Args:
        rows (`datasets.Dataset`): All labelled images.
        num_folds (`int`): Number of folds, at least 2.
        notes (`list[str]`): Assumptions and limits are appended.
        groups (`Sequence[Hashable | None]`, *optional*): Group of each image, for example its video; `None` for an
            image of its own.
        num_proc (`int`, *optional*): Number of processes that compare images.

    Raises:
        `ValueError`: If there are fewer than 2 folds, fewer images or groups of copies than folds, or no labels.

    Source:
        Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data" (iterative stratification),
        on groups of images.
    """
    present = [{phrase["text"] for phrase in phrases if phrase["instances"]} for phrases in rows["phrases"]]
    check_labels(rows)
    _check_numbers(num_folds, len(rows))
    group_of = join_groups(find_copies(rows, notes, num_proc), groups or [None] * len(rows))
    firsts, index_of, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    if len(firsts) < num_folds:
        hint = f", or set `num_folds: {len(firsts)}`" if len(firsts) > 1 else ""
        raise ValueError(
            f"`num_folds`: {num_folds} folds need {num_folds} different images, but the {len(rows)} images are copies "
            f"or groups of {len(firsts)}. Add images{hint}"
        )
    if (sizes > 1).any():
        notes.append(
            f"{sizes[sizes > 1].sum()} images are copies of another image or in one group with it; each of the "
            f"{(sizes > 1).sum()} groups is in one fold"
        )
    names = sorted(set().union(*present))
    column = {name: k for k, name in enumerate(names)}
    counts = np.zeros((len(firsts), len(names)), dtype=np.int64)  # images with each phrase, by group
    for group, phrases in zip(index_of.tolist(), present, strict=True):
        counts[group, [column[phrase] for phrase in phrases]] += 1
    fold_of = _stratify(counts, sizes, num_folds)
    folds_with = sum((counts[fold_of == fold] > 0).any(0).astype(int) for fold in range(num_folds))
    untrained = [name for name, count in zip(names, folds_with.tolist(), strict=True) if count == 1]
    if untrained:
        notes.append(
            f"all images of {len(untrained)} of {len(names)} phrases are in one fold, so the model that reviews their "
            f"labels is not trained on them: {list_some(untrained, 10)}"
        )
    return Folds(fold_of[index_of].tolist(), num_folds, untrained)


def check_labels(rows: Dataset) -> None:
    """Raise `ValueError` if no image has a label, so that there is nothing to review."""
    if not any(phrase["instances"] for phrases in rows["phrases"] for phrase in phrases):
        number = f"the {len(rows)} images have" if len(rows) > 1 else "the image has"
        raise ValueError(f"{number} no labels, so there is nothing to review. Label some images")


def _check_numbers(num_folds: int, num_images: int) -> None:
    """Check the number of folds and of images; see [`assign_folds`]."""
    if num_folds < 2:
        raise ValueError(f"`num_folds` must be at least 2, got {num_folds}")
    if num_images < num_folds:
        hint = f", or set `num_folds: {num_images}`" if num_images > 1 else ""
        raise ValueError(
            f"`num_folds`: {num_folds} folds need at least {num_folds} images, got {num_images}. Add images{hint}"
        )


def _stratify(counts: np.ndarray, sizes: np.ndarray, num_folds: int) -> np.ndarray:
    """
    Assign groups to folds by iterative stratification, with the rarest phrase first.

    Args:
        counts (`np.ndarray` of shape `(num_groups, num_phrases)`): Images of each group that show each phrase.
        sizes (`np.ndarray` of shape `(num_groups,)`): Images of each group.
        num_folds (`int`): Number of folds, at most the number of groups.

    Returns:
        `np.ndarray` of shape `(num_groups,)`: Fold of each group.
    """
    order = keyed_draws(0, 0, "", "folds").permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first, while the folds can balance them
    fold_of = np.full(len(sizes), -1)
    wanted_images = np.full(num_folds, sizes.sum() / num_folds)
    wanted = np.tile(counts.sum(0) / num_folds, (num_folds, 1))
    remaining = (counts > 0).sum(0)  # unassigned groups with each phrase
    is_empty, unassigned = np.ones(num_folds, dtype=bool), len(sizes)

    def assign(group: int, wish: np.ndarray) -> None:
        nonlocal unassigned
        if unassigned <= is_empty.sum():  # the remaining groups are needed for the empty folds
            wish = np.where(is_empty, wish, -np.inf)
        fold = np.lexsort((-wanted_images, -wish))[0]
        fold_of[group], is_empty[fold] = fold, False
        unassigned -= 1
        wanted_images[fold] -= sizes[group]
        wanted[fold] -= counts[group]
        remaining[:] -= counts[group] > 0

    while remaining.any():
        phrase = int(np.where(remaining > 0, remaining, remaining.max() + 1).argmin())
        for group in order[(fold_of[order] < 0) & (counts[order, phrase] > 0)].tolist():
            assign(group, wanted[:, phrase])
    for group in order[fold_of[order] < 0].tolist():
        assign(group, wanted_images)
    return fold_of
