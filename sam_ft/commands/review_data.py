"""Data of a label review: all labelled images, and their folds with a record that a later call continues from."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from ..arguments import DataArguments, ReviewArguments
from ..data.fingerprint import DataFingerprint, fingerprint_rows
from ..data.folds import Folds, assign_folds, check_labels
from ..data.lazy_rows import texts_of
from ..data.loading import PhraseData, find_phrase_splits
from ..data.reading_report import DataReport, assign_category_ids
from ..data.row_schema import FEATURES
from ..data.safe_text import to_printable
from ..data.sources import read_splits
from ..data.splits import all_rows
from ..data.writers.image_names import source_paths
from ..options.data import SYNTHETIC_STREAM
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import short_repr
from .key_conversion import to_dataset_options, to_read_options


logger = logging.getLogger("sam_ft.run")

FOLDS_FILE = "folds.json"
MAX_EXTRA_PHRASES = 64  # phrases that an image is prompted with although its labels do not list them
_GROUP_BY_FOLDER = "folder"
# Keys of the data that would leave out images or add images that are not reviewed.
_UNSUPPORTED = (
    "streaming", "extra_datasets", "replay", "unseen_phrases", "max_train_samples", "max_eval_samples",
)  # fmt: skip


@dataclass
class ReviewData:
    """
    Labelled images of a review.

    Attributes:
        rows (`datasets.Dataset`): All images, of all splits.
        split_of (`dict[str, str]`): Split of each example.
        reports (`list[DataReport]`): Reports of reading each split.
        synonyms (`dict[str, list[str]]`): Synonyms of each phrase for training.
        notes (`list[str]`): Assumptions and limits.
        folds (`Folds`, *optional*): Fold of each image; `None` if no model is trained.
    """

    rows: Dataset
    split_of: dict[str, str]
    reports: list[DataReport]
    synonyms: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)
    folds: Folds | None = None

    def predicted_rows(self, fold: int | None) -> Dataset:
        """Return the rows that a fold predicts, with all their prompts; `None` for all rows."""
        rows = self.rows if fold is None else self.folds.split(self.rows, fold)[1]
        return add_prompts(rows, self.rows)

    def fold_data(self, fold: int | None) -> PhraseData:
        """Return the data of the run of a fold, or of an evaluation of all rows for `None`."""
        train = None if fold is None else self.folds.split(self.rows, fold)[0]
        ids = assign_category_ids(self.reports, [texts_of(self.rows)])
        learned = None if train is None else texts_of(train)
        validation = self.predicted_rows(fold)
        return PhraseData(train, validation, ids, self.synonyms, [], [], learned, cached_rows=self.rows)


def read_review_data(data_args: DataArguments, names: list[str]) -> ReviewData:
    """
    Read splits of a data set, and log a summary of them.

    Args:
        data_args (`DataArguments`): Keys of the data.
        names (`list[str]`): Names of the splits, all if empty.

    Raises:
        ValueError: If a key has no effect on a review, or the data cannot be read or have no labels.
    """
    for name in _UNSUPPORTED:
        value = getattr(data_args, name)
        if value:
            raise ValueError(
                f"`{name}` is {short_repr(value)}, but a review predicts all images of one data set that is read "
                f"beforehand. Remove `{name}`"
            )
    if data_args.dataset_name == SYNTHETIC_STREAM and not data_args.annotation_file:
        raise ValueError(f"`dataset_name` is {SYNTHETIC_STREAM}, which has no labels to review. Set a data set")
    options, reading = to_dataset_options(data_args), to_read_options(data_args)
    sources, notes = find_phrase_splits(options, reading)
    unknown = [name for name in names if name not in sources]
    if unknown:
        raise ValueError(f"`review_splits` has no split {unknown[0]!r}. Use one or more of: {', '.join(sources)}")
    read = read_splits(sources, reading, only=names or None)
    reports = [report for _, report in read.values()]
    for line in [line for report in reports for line in report.lines()]:
        logger.info("%s", line)
    rows = all_rows({name: part for name, (part, _) in read.items()})
    splits = [name for name, (part, _) in read.items() for _ in range(len(part))]
    check_labels(rows)
    synonyms = dict(reading.phrase_map.synonyms)
    return ReviewData(rows, dict(zip(rows["example_id"][:], splits, strict=True)), reports, synonyms, notes)


def assign_review_folds(data: ReviewData, review_args: ReviewArguments, owned: OwnedFiles) -> None:
    """
    Assign the images to folds, or read the assignment of an earlier call, and compare the data with those of it.

    Args:
        data (`ReviewData`): The images; `folds` and `notes` are set.
        review_args (`ReviewArguments`): Number of folds and groups.
        owned (`OwnedFiles`): Files of the review's folder, to which `folds.json` is written.

    Raises:
        ValueError: If the images cannot be divided, or differ from those of the earlier call.
    """
    file = owned.folder / FOLDS_FILE
    fingerprint = fingerprint_rows(data.rows)
    if file.is_file():
        record = read_json_file(file, "review_dir", remedy="Choose another `review_dir`")
        differences = fingerprint.find_differences(DataFingerprint(**record["data"]), "reviewed")
        if differences:
            raise ValueError(
                f"`review_dir`: {owned.folder} contains a review of earlier data: {'; '.join(differences)}. Choose "
                "another `review_dir`; with `feature_cache` set to that of the earlier review, unchanged images are "
                "not encoded again"
            )
        data.notes[:] = record["notes"]
        if not review_args.untrained:
            fold_of = [record["fold_of"][name] - 1 for name in data.rows["example_id"]]
            data.folds = Folds(fold_of, record["num_folds"], record["untrained_phrases"])
        return
    content: dict = {"data": fingerprint.plain()}
    if not review_args.untrained:
        groups = group_images(data.rows, review_args.group_by)
        data.folds = assign_folds(data.rows, review_args.num_folds, data.notes, groups)
        _check_training_labels(data)
        fold_of = dict(zip(data.rows["example_id"], (fold + 1 for fold in data.folds.fold_of), strict=True))
        content |= {"num_folds": data.folds.num_folds, "untrained_phrases": data.folds.untrained_phrases}
        content |= {"fold_of": fold_of}
    owned.write_text(FOLDS_FILE, to_json(content | {"notes": data.notes}, FOLDS_FILE), "review_dir")
    for note in data.notes:
        logger.info("note: %s", to_printable(note))


def group_images(rows: Dataset, group_by: str | None) -> list[str | None] | None:
    """
    Return the group of each image.

    Args:
        rows (`datasets.Dataset`): All images.
        group_by (`str`, *optional*): `folder`, or a regular expression whose first group is the name of the group.

    Returns:
        `list[str | None]` or `None`: Groups, `None` for an image without one; `None` without `group_by`.

    Raises:
        ValueError: If an image is not a file, or the expression is not valid or matches no path.
    """
    if group_by is None:
        return None
    paths = [None if path is None else Path(path) for path in source_paths(rows)]
    if None in paths:
        name = rows["example_id"][paths.index(None)]
        raise ValueError(
            f"`group_by` is {short_repr(group_by)}, but the image of example {name!r} is not a file. Remove `group_by`"
        )
    if group_by == _GROUP_BY_FOLDER:
        return [path.parent.as_posix() for path in paths]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ValueError(f"`group_by` is {short_repr(group_by)}, which is no valid regex ({error})") from error
    matched = [pattern.search(path.as_posix()) for path in paths]
    if not pattern.groups or not any(matched):
        problem = "matches the path of no image" if pattern.groups else "has no group in brackets"
        raise ValueError(
            f"`group_by` is {short_repr(group_by)}, which {problem}, such as {paths[0].as_posix()}. Write a regex "
            "with a group, such as (clip_\\d+), or folder"
        )
    return [match and match[1] for match in matched]


def add_prompts(rows: Dataset, all_rows: Dataset) -> Dataset:
    """
    Add the phrases of other images to rows that do not list all phrases, without knowledge of their presence.

    Without them, a wrong phrase has no evidence in data whose images list the phrases of their labels only.

    Args:
        rows (`datasets.Dataset`): Rows to predict.
        all_rows (`datasets.Dataset`): All rows; their most frequent phrases are added, at most `MAX_EXTRA_PHRASES`.
    """
    counts = Counter(p["text"] for phrases in all_rows["phrases"] for p in phrases if p["instances"])
    extra = [text for text, _ in counts.most_common(MAX_EXTRA_PHRASES)]
    if all({*extra} <= {phrase["text"] for phrase in phrases} for phrases in rows["phrases"]):
        return rows
    return rows.map(_add_phrases, fn_kwargs={"texts": extra}, features=FEATURES, keep_in_memory=True)


def _add_phrases(row: dict, texts: list[str]) -> dict:
    listed = {phrase["text"] for phrase in row["phrases"]}
    added = [{"text": text, "instances": [], "exhaustive": False} for text in texts if text not in listed]
    return {"phrases": row["phrases"] + added}


def _check_training_labels(data: ReviewData) -> None:
    """Raise if the training images of a fold have no labels, as in data with labels in a single image."""
    for fold in range(data.folds.num_folds):
        train = data.folds.split(data.rows, fold)[0].select_columns("phrases")
        if not any(phrase["instances"] for row in train for phrase in row["phrases"]):
            raise ValueError(
                f"all labels are in the images of fold {fold + 1}, so the model that predicts them has no label to be "
                "trained on. Label more images, or set `untrained: true` to predict with the model as it is"
            )
