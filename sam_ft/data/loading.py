"""Training and validation rows of a run, from the names of data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from datasets import Dataset

from ..options.data import SYNTHETIC, SYNTHETIC_STREAM, DatasetOptions, HubSource, ReadOptions
from .annotation_files import find_annotation_splits, locate_annotation_files
from .hold_out import hold_out, refuse_same_annotations
from .lazy_rows import LazyRows, MixedRows, texts_of
from .phrases.attributes import AttributeTemplates, SynonymMapping
from .phrases.vocabulary import spell_phrases
from .readers.layouts import ACCEPTED
from .reading_report import DataReport, assign_category_ids
from .row_schema import to_dataset
from .safe_text import to_printable
from .sources import SplitSource, find_sources, read_splits, refuse_unused
from .splits import keep_unseen, without_phrases
from .synthetic.scene_files import SceneRows, write_scenes_once


@dataclass
class PhraseData:
    """
    Rows of a run, in the schema of `row_schema.py`.

    Attributes:
        train (`datasets.Dataset`, `LazyRows`, `MixedRows`, `SceneRows` or `None`): Training rows.
        validation (`datasets.Dataset`): Validation rows.
        category_ids (`dict[str, int]`): Category id of each phrase for results; that of the source if it has one.
        synonyms (`Mapping[str, list[str]]`): Synonyms of each phrase for training.
        reports (`list[DataReport]`): Reports of reading each split.
        notes (`list[str]`): Assumptions and warnings.
        learned (`set[str]`, *optional*): Training phrases, without those only in `replay`; `None` for streams.
        unseen (`set[str]`): Phrases removed from training.
        warnings (`list[str]`): Reasons why metrics are optimistic; the first lines of an evaluation report.
        cached_rows (`datasets.Dataset`, *optional*): Rows that a feature cache contains, of which `train` and
            `validation` are parts, so that several runs share the cache. Default: `train` and `validation`.
    """

    train: Dataset | LazyRows | MixedRows | SceneRows | None
    validation: Dataset
    category_ids: dict[str, int]
    synonyms: Mapping[str, list[str]]
    reports: list[DataReport]
    notes: list[str]
    learned: set[str] | None = None
    unseen: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    cached_rows: Dataset | None = None

    def lines(self) -> list[str]:
        """Return all reports and assumptions as lines of text without control characters."""
        notes = [to_printable(f"note: {note}") for note in self.notes]
        return [line for report in self.reports for line in report.lines()] + notes


def load_phrase_dataset(
    options: DatasetOptions,
    reading: ReadOptions,
    *,
    with_train: bool = True,
    splits: dict[str, SplitSource] | None = None,
    num_proc: int | None = None,
) -> PhraseData:
    """
    Load the training and validation rows of a run.

    Args:
        options (`DatasetOptions`): The data sets.
        reading (`ReadOptions`): Options of the conversion to rows.
        with_train (`bool`): Load the training rows, `True` by default; evaluation does not need them.
        splits (`dict[str, SplitSource]`, *optional*): Result of [`find_phrase_splits`]; searched again by default.
        num_proc (`int`, *optional*): Number of processes that read, see [`mapped_chunks`].

    Returns:
        `PhraseData`: Rows, category ids and reports.

    Raises:
        `ValueError`: If a folder, file or split does not exist; lists those that exist.
        `DatasetFormatError`: See [`make_rows`].
    """
    if options.dataset_name == SYNTHETIC_STREAM and not options.annotation_file:
        _refuse_stream_keys(options, reading)
        return _stream_scenes(options, with_train)
    _check_scene_keys(options)
    options = locate_annotation_files(options)
    notes: list[str] = []
    warnings: list[str] = []
    _weights(options)
    if with_train and options.annotation_file and options.eval_annotation_file:
        refuse_same_annotations(options.annotation_file, options.eval_annotation_file)
    splits = _find_splits(options, notes) if splits is None else splits
    names = options.additional_datasets if with_train else []
    others = [(name, find_sources(name, None, HubSource(streaming=options.streaming), notes)) for name in names]
    # Additional data sets may use keys that `dataset_name` does not.
    if with_train or not options.additional_datasets:
        sources = [splits, *(extra for _, extra in others)]
        refuse_unused([split for named in sources for split in named.values()], reading)
    evaluation = _find_evaluation_split(options, splits, warnings)
    # Validation images with unseen phrases come from the training split.
    with_train_rows = with_train or evaluation is None or bool(options.unseen_phrases)
    if options.train_split not in splits and with_train_rows:
        raise ValueError(f"`train_split` is {options.train_split!r}, found {', '.join(splits)}")
    names = [options.train_split] * with_train_rows + ([] if evaluation is None else [evaluation])
    lazy = (options.train_split,) if options.streaming and evaluation != options.train_split else ()
    read = read_splits(splits, reading, only=list(dict.fromkeys(names)), lazy=lazy, num_proc=num_proc)
    reports = [report for _, report in read.values()]
    train = read[options.train_split][0] if with_train_rows else None
    if evaluation is None:
        train, validation = hold_out(
            train, options.validation_fraction, options.max_eval_samples, notes, warnings, num_proc
        )
    else:
        validation = read[evaluation][0]
    unseen = spell_phrases(options.unseen_phrases, texts_of(train) or () if options.unseen_phrases else ())
    train, validation = _select_rows(train, validation, unseen, options, notes, with_train=with_train)
    learned = None if train is None else texts_of(train)
    if train is not None and options.additional_datasets:
        train = _mix(train, others, unseen, options, reading, reports, notes, num_proc)
        texts = [texts_of(rows) for rows in train.sources[: 1 + len(options.extra_datasets)]]
        learned = None if None in texts else set().union(*filter(None, texts))
    ids = assign_category_ids(reports, [texts_of(train) or set(), texts_of(validation) or set()])
    synonyms: Mapping[str, list[str]] = dict(reading.phrase_map.synonyms)
    if reading.attributes is not None:
        synonyms = SynonymMapping(cast(AttributeTemplates, reading.attributes), dict(reading.phrase_map.synonyms), ids)
    notes += warnings
    return PhraseData(train, validation, ids, synonyms, reports, notes, learned, set(unseen), warnings)


def _check_scene_keys(options: DatasetOptions) -> None:
    for name in ("ramp", "shape_alone"):
        value = getattr(options.scenes.scenes, name)
        if options.dataset_name == SYNTHETIC and value:
            raise ValueError(
                f"`scene_{name}` is {value}, but has no effect on scenes in files; "
                f"set `dataset_name: {SYNTHETIC_STREAM}`"
            )


def _find_evaluation_split(options: DatasetOptions, splits: dict, warnings: list[str]) -> str | None:
    """Return the name of the evaluation split; `None` if training images are held out instead."""
    if options.eval_split not in splits:
        if options.eval_split != "validation":
            raise ValueError(f"`eval_split` is {options.eval_split!r}, found {', '.join(splits)}")
        return None
    if options.eval_split == options.train_split:
        warnings.append(
            f"`train_split` and `eval_split` are both {options.eval_split!r}: training images are evaluated, so "
            "metrics will be optimistic"
        )
    return options.eval_split


def _select_rows(
    train, validation: Dataset, unseen: list[str], options: DatasetOptions, notes: list[str], *, with_train: bool
) -> tuple:
    """Apply the limits of rows and the unseen phrases; the training rows are `None` without `with_train`."""
    if options.max_eval_samples:
        validation = validation.select(range(min(len(validation), options.max_eval_samples)))
    if unseen and train is not None:
        if not isinstance(train, Dataset):
            raise ValueError("`unseen_phrases` cannot be combined with `streaming: true`; remove one of them")
        train, validation = keep_unseen(train, validation, unseen)
        notes.append(
            f"{len(validation)} images are evaluated; training has none of {', '.join(options.unseen_phrases)}"
        )
    if not with_train:
        train = None
    if train is not None and options.max_train_samples:
        train = train.select(range(min(len(train), options.max_train_samples)))
    if not len(validation) or (with_train and not len(train)):
        raise ValueError("no image is left to train or evaluate on; check `validation_fraction` and sample limits")
    return train, validation


def find_phrase_splits(
    options: DatasetOptions, reading: ReadOptions | None = None
) -> tuple[dict[str, SplitSource], list[str]]:
    """
    Find the splits of a data set, without reading them; see [`read_splits`].

    Args:
        options (`DatasetOptions`): The data sets.
        reading (`ReadOptions`, *optional*): Options of the conversion, to refuse keys without effect.

    Returns:
        `tuple[dict[str, SplitSource], list[str]]`: Splits by name, and notes on assumptions.

    Raises:
        `ValueError`: As [`load_phrase_dataset`].
    """
    notes: list[str] = []
    splits = _find_splits(locate_annotation_files(options), notes)
    if reading is not None and not options.additional_datasets:  # Additional data sets may use other keys.
        refuse_unused(list(splits.values()), reading)
    return splits, notes


def _weights(options: DatasetOptions) -> list[float]:
    weights = options.mixture_weights or [1.0] * (1 + len(options.extra_datasets))
    if len(weights) != 1 + len(options.extra_datasets):
        raise ValueError(
            f"`mixture_weights` has {len(weights)} numbers; expected one for `dataset_name` and one for each of the "
            f"{len(options.extra_datasets)} `extra_datasets`"
        )
    if not options.replay:
        return weights
    return [*(weight / sum(weights) * (1 - options.replay_share) for weight in weights), options.replay_share]


def _mix(
    train,
    others: list,
    unseen: list[str],
    options: DatasetOptions,
    reading: ReadOptions,
    reports: list,
    notes: list,
    num_proc: int | None,
) -> MixedRows:
    """Mix the training rows with those of other data sets, given as pairs of name and splits."""
    sources = [train]
    for name, splits in others:
        if options.train_split not in splits:
            raise ValueError(
                f"the training data {name!r} has no split {options.train_split!r}, found {', '.join(splits)}"
            )
        lazy = (options.train_split,) if options.streaming else ()
        read = read_splits(splits, reading, only=[options.train_split], lazy=lazy, num_proc=num_proc)
        rows, report = read[options.train_split]
        if unseen:
            rows = without_phrases(rows, unseen)
        sources.append(rows)
        reports.append(report)
    mixed = MixedRows(sources, _weights(options))
    shares = ", ".join(f"{weight:.0%}" for weight in mixed.weights)
    names = ", ".join([str(options.dataset_name), *options.additional_datasets])
    notes.append(f"an epoch draws {len(mixed)} images, {shares} of them from {names}")
    return mixed


def _refuse_stream_keys(options: DatasetOptions, reading: ReadOptions) -> None:
    is_set = {
        "scene_train_labels": options.scenes.train_labels is not None,
        "phrase_source": reading.phrase_source != ReadOptions().phrase_source,
        "phrase_map": reading.phrase_map != ReadOptions().phrase_map,
        "train_split": options.train_split != DatasetOptions().train_split,
        "eval_split": options.eval_split != DatasetOptions().eval_split,
    }
    for name, has_value in is_set.items():
        if has_value:
            raise ValueError(
                f"`{name}` has no effect on `dataset_name: {SYNTHETIC_STREAM}`, which sets its phrases and splits; "
                "remove it"
            )


def _stream_scenes(options: DatasetOptions, with_train: bool) -> PhraseData:
    files = options.scenes
    numbers = [files.num_train, files.num_validation]
    for i, limit in enumerate((options.max_train_samples, options.max_eval_samples)):
        numbers[i] = min(numbers[i], limit or numbers[i])
    train = SceneRows(files.scenes, "train", numbers[0])
    scenes = SceneRows(files.scenes, "validation", numbers[1])
    validation = [scenes[i] for i in range(numbers[1])]
    texts = sorted({phrase["text"] for row in validation for phrase in row["phrases"]})
    note = f"{numbers[0]} training scenes are drawn when they are requested, and {numbers[1]} others for validation"
    ids = {text: i for i, text in enumerate(texts, 1)}
    return PhraseData(train if with_train else None, to_dataset(validation), ids, {}, [], [note])


def _find_splits(options: DatasetOptions, notes: list[str]) -> dict[str, SplitSource]:
    if options.annotation_file:
        return dict(find_annotation_splits(options))
    for name in ("image_folder", "eval_annotation_file", "eval_image_folder"):
        if getattr(options, name):
            raise ValueError(f"`{name}` is {getattr(options, name)!r}, but `annotation_file` is not set; set it too")
    folder = options.dataset_name
    if folder == SYNTHETIC:
        folder = str(write_scenes_once(options.scenes_folder, options.scenes))
    if not folder:
        raise ValueError(f"`dataset_name` is not set. Pass the folder of a data set; {ACCEPTED}")
    return find_sources(folder, options.layout, options.hub, notes)
