"""Hold-out split: evaluation images from the training images, with all copies of an image on one side."""

import filecmp
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Image

from .keyed_random import keyed_draws
from .lazy_rows import LazyRows
from .row_schema import to_dataset
from .validation.image_checks import roboflow_source, seen_pictures
from .validation.similar_hashes import SimilarHashes


MAX_COMPARED = 50_000  # Above it, images are not opened to find copies, which would delay every start.


def hold_out(
    rows: Dataset | LazyRows,
    fraction: float,
    limit: int | None,
    notes: list[str],
    warnings: list[str],
    num_proc: int | None = None,
) -> tuple[Dataset | LazyRows, Dataset]:
    """
    Hold out a share of the training images for evaluation.

    The choice does not depend on the seed of a run, so that an evaluation never contains training images. Copies of
    one image (see [`find_copies`]) stay on one side. From rows that are made on access, at most `limit` are held out,
    from as few groups of rows as possible.

    Args:
        rows (`datasets.Dataset` or `LazyRows`): All training images.
        fraction (`float`): Share to hold out.
        limit (`int`, *optional*): Maximum number of evaluated images.
        notes (`list[str]`): Assumptions are appended.
        warnings (`list[str]`): Reasons for optimistic metrics are appended.
        num_proc (`int`, *optional*): Number of processes that compare images, see [`mapped_chunks`].

    Returns:
        `tuple`: Training rows and evaluation rows; the same rows if there is nothing to hold out.
    """
    number = round(len(rows) * fraction) or int(fraction > 0)
    if isinstance(rows, LazyRows):
        number = min(number, limit or number)
    if number == 0 or len(rows) < 2:
        warnings.append(
            "there is no validation split and nothing to hold out: training images are evaluated, so metrics will be "
            "optimistic"
        )
        if not isinstance(rows, LazyRows):
            return rows, rows
        return rows, to_dataset(rows.usable(range(min(len(rows), limit or len(rows)))))
    draws = keyed_draws(0, 0, "", "hold out")
    if isinstance(rows, LazyRows) and rows.groups is not None:
        order = np.concatenate([rows.groups[i] for i in draws.permutation(len(rows.groups))]).tolist()
    else:
        order = draws.permutation(len(rows)).tolist()
    held = _choose(order, find_copies(rows, notes, num_proc), number, notes, warnings)
    notes.append(f"there is no validation split: {len(held)} of {len(rows)} training images are held out for it")
    train = rows.select(sorted(set(range(len(rows))) - set(held)))
    return train, to_dataset(rows.usable(held)) if isinstance(rows, LazyRows) else rows.select(held)


def _choose(order: list[int], group_of: list[int], number: int, notes: list[str], warnings: list[str]) -> list[int]:
    """
    Choose images in a drawn order, whole groups of copies at a time.

    Args:
        order (`list[int]`): All images in the drawn order.
        group_of (`list[int]`): Group of each image.
        number (`int`): Number of images to hold out; fewer are chosen if groups do not fit.
        notes (`list[str]`): Assumptions are appended.
        warnings (`list[str]`): Reasons for optimistic metrics are appended.

    Returns:
        `list[int]`: Chosen images, sorted; without copies, the first `number` of `order`.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for image in order:
        members[group_of[image]].append(image)
    copies = [group for group in members.values() if len(group) > 1]
    if copies:
        notes.append(
            f"{sum(map(len, copies))} training images are copies of another image, by file name (Roboflow), content "
            f"or appearance, in {len(copies)} groups; each group is used for training or for evaluation as a whole"
        )
    held: list[int] = []
    for group in members.values():  # dict order: the drawn order of their first images
        if len(held) + len(group) <= number:
            held += group
    if not held and len(members) > 1:
        held = min(members.values(), key=len)
    if not held:
        warnings.append(
            "all training images are copies of one image, and some of them are held out: metrics will be optimistic"
        )
        held = order[:number]
    return sorted(held)


def find_copies(rows: Dataset | LazyRows, notes: list[str], num_proc: int | None = None) -> list[int]:
    """
    Group images that are copies of each other.

    Copies have the same source in the file names of Roboflow (`SOURCE.rf.HASH`), the same bytes, or nearly the same
    difference hash under rotation and mirroring. The hash is ignored if it would put more than half of all images into
    one group, as with frames of a fixed camera. For rows that are made on access, only file names are compared.

    Args:
        rows (`datasets.Dataset` or `LazyRows`): Rows with the images.
        notes (`list[str]`): Assumptions are appended.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `list[int]`: Group of each image, which is the index of the first image in it.
    """
    if isinstance(rows, LazyRows):
        return _copies_by_name(rows, notes)
    if len(rows) > MAX_COMPARED:
        notes.append(f"more than {MAX_COMPARED} training images: copies are found by file name alone")
        paths = (value["path"] for value in rows.cast_column("image", Image(decode=False))["image"])
        return join_groups([None if path is None else roboflow_source(path) for path in paths])
    exact, similar, hashes = _Groups(len(rows)), _Groups(len(rows)), SimilarHashes[int]()
    first: dict[Hashable, int] = {}
    with seen_pictures(rows, num_proc) as pictures:
        for i, (path, picture) in enumerate(pictures):
            keys = [("name", roboflow_source(path)), ("content", picture.digest if picture else None)]
            for key in keys:
                if key[1] is not None:
                    exact.join(first.setdefault(key, i), i)
            if picture is not None:
                for _, other in hashes.find(picture.hashes):
                    similar.join(other, i)
                hashes.add(picture.hashes, i)
    both = join_groups(exact.groups(), similar.groups())
    if max(Counter(both).values(), default=0) > max(len(rows) / 2, exact.largest()):
        notes.append("many training images look alike: copies are found by file name and content alone")
        return exact.groups()
    return both


def join_groups(*groupings: Sequence[Hashable | None]) -> list[int]:
    """
    Join groupings of the same images: images that share a group in any of them are in one group.

    Args:
        groupings (`Sequence[Hashable | None]`): Group of each image; an image with `None` has no group in common.

    Returns:
        `list[int]`: Group of each image, which is the index of the first image in it.
    """
    groups = _Groups(len(groupings[0]))
    for grouping in groupings:
        first: dict[Hashable, int] = {}
        for i, group in enumerate(grouping):
            if group is not None:
                groups.join(first.setdefault(group, i), i)
    return groups.groups()


def _copies_by_name(rows: LazyRows, notes: list[str]) -> list[int]:
    records = getattr(rows.make, "records", None)
    if records is None:
        notes.append("streamed: copies of images are not detected; metrics will be optimistic if there are any")
        return _Groups(len(rows)).groups()
    return join_groups([roboflow_source(records[index].image_name) for index in rows.source_indices.tolist()])


class _Groups:
    """Disjoint sets (union-find) of the numbers below `size`; the smallest member represents a set."""

    def __init__(self, size: int):
        self._parents = list(range(size))

    def find(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i

    def join(self, i: int, j: int) -> None:
        low, high = sorted((self.find(i), self.find(j)))
        self._parents[high] = low

    def groups(self) -> list[int]:
        return [self.find(i) for i in range(len(self._parents))]

    def largest(self) -> int:
        return max(Counter(self.groups()).values(), default=0)


def refuse_same_annotations(annotation_file: str, eval_annotation_file: str) -> None:
    """
    Check that the evaluation annotations are not the training annotations.

    Args:
        annotation_file (`str`): Training annotations.
        eval_annotation_file (`str`): Evaluation annotations.

    Raises:
        `ValueError`: If both are the same file or have the same content.
    """
    files = Path(annotation_file), Path(eval_annotation_file)
    if not all(file.is_file() for file in files):
        return  # The reader reports a missing file.
    if files[0].samefile(files[1]):
        problem = f"is the same file as `annotation_file` ({annotation_file!r})"
    elif filecmp.cmp(*files, shallow=False):
        problem = f"has the same content as `annotation_file` ({annotation_file!r})"
    else:
        return
    raise ValueError(
        f"`eval_annotation_file`: {eval_annotation_file!r} {problem}: the evaluation would measure training images. "
        "Give annotations of other images, or leave `eval_annotation_file` out to hold out `validation_fraction` of "
        "the images"
    )
