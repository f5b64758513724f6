"""Training and validation rows of a run, from the names of data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from datasets import Dataset

from .hold_out import hold_out, refuse_same_annotations
from .hub.source import HubSource
from .lazy_rows import LazyRows, MixedRows
from .phrases.attributes import SpokenPhrases
from .phrases.vocabulary import normalize_phrase
from .readers.coco_tree import CocoFiles
from .readers.layouts import ACCEPTED, read_json_split
from .readers.records import ReadOptions
from .reading_report import DataReport
from .row_schema import to_dataset
from .safe_text import to_printable
from .sources import LocalSplit, SplitSource, find_sources, read_splits, refuse_unused
from .splits import keep_unseen, without_phrases
from .synthetic.scene_files import SceneFiles, SceneRows, write_scenes_once


SYNTHETIC = "synthetic"
SYNTHETIC_STREAM = "synthetic-stream"
SYNTHETIC_FOLDER = Path("data/test_shapes")


@dataclass
class DatasetOptions:
    """
    Data sets of a run.

    Attributes:
        dataset_name (`str`): Folder in one of the accepted layouts, or Hub id; `synthetic`: scenes written to
            `data/test_shapes`; `synthetic-stream`: new scenes drawn for every sample, with phrases of attributes.
        annotation_file (`str`, *optional*): COCO file to use instead of `dataset_name`.
        image_folder (`str`, *optional*): Folder of its images.
        eval_annotation_file (`str`, *optional*): COCO file for evaluation.
        eval_image_folder (`str`, *optional*): Folder of its images.
        layout (`str`, *optional*): Layout of the folder, detected by default.
        train_split (`str`): Name of the training split.
        eval_split (`str`): Name of the validation split; without one, `validation_fraction` is used.
        validation_fraction (`float`): Fraction of the training images held out without a validation split.
        max_train_samples (`int`, *optional*): Maximum number of training images; the first are used.
        max_eval_samples (`int`, *optional*): Maximum number of validation images; the first are used.
        scenes (`SceneFiles`): Options of the synthetic data sets.
        scenes_folder (`str` or `Path`): Folder that synthetic scenes are written to.
        streaming (`bool`): Make training rows when they are requested, without conversion beforehand.
        extra_datasets (`list[str]`): Folders or Hub ids of additional training data.
        mixture_weights (`list[float]`): Sampling weights of `dataset_name` and `extra_datasets`, equal by default.
        unseen_phrases (`list[str]`): Phrases removed from training; images that show them are used for validation.
        replay (`str`, *optional*): Folder or Hub id of training data for retention, mixed in against forgetting.
        replay_share (`float`): Fraction of `replay` in an epoch.
        hub (`HubSource`): Reading options of a Hub data set; its name is `dataset_name`.
    """

    dataset_name: str | None = SYNTHETIC
    annotation_file: str | None = None
    image_folder: str | None = None
    eval_annotation_file: str | None = None
    eval_image_folder: str | None = None
    layout: str | None = None
    train_split: str = "train"
    eval_split: str = "validation"
    validation_fraction: float = 0.1
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    scenes: SceneFiles = field(default_factory=SceneFiles)
    scenes_folder: str | Path = SYNTHETIC_FOLDER
    streaming: bool = False
    extra_datasets: list[str] = field(default_factory=list)
    mixture_weights: list[float] = field(default_factory=list)
    unseen_phrases: list[str] = field(default_factory=list)
    replay: str | None = None
    replay_share: float = 0.25
    hub: HubSource = field(default_factory=HubSource)

    @property
    def others(self) -> list[str]:
        """Names of all additional training data sets."""
        return [*self.extra_datasets, *([self.replay] if self.replay else [])]


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

    def lines(self) -> list[str]:
        """Return all reports and assumptions as lines of text without control characters."""
        notes = [to_printable(f"note: {note}") for note in self.notes]
        return [line for report in self.reports for line in report.lines()] + notes


def load_phrase_dataset(options: DatasetOptions, reading: ReadOptions, *, with_train: bool = True) -> PhraseData:
    """
    Load the training and validation rows of a run.

    Args:
        options (`DatasetOptions`): The data sets.
        reading (`ReadOptions`): Options of the conversion to rows.
        with_train (`bool`): Load the training rows, `True` by default; evaluation does not need them.

    Returns:
        `PhraseData`: Rows, category ids and reports.

    Raises:
        `ValueError`: If a folder, file or split does not exist; lists those that exist.
        `DatasetFormatError`: See [`make_rows`].
    """
    if options.dataset_name == SYNTHETIC_STREAM and not options.annotation_file:
        _refuse_stream_keys(options, reading)
        return _stream_scenes(options, with_train)
    scenes = options.scenes.scenes
    for name in ("ramp", "shape_alone"):
        if options.dataset_name == SYNTHETIC and getattr(scenes, name):
            raise ValueError(
                f"`scene_{name}` is {getattr(scenes, name)}, but has no effect on scenes in files; "
                f"set `dataset_name: {SYNTHETIC_STREAM}`"
            )
    notes, warnings = [], []
    _weights(options)
    if with_train and options.annotation_file and options.eval_annotation_file:
        refuse_same_annotations(options.annotation_file, options.eval_annotation_file)
    splits = _find_splits(options, notes)
    others = [
        (name, find_sources(name, None, HubSource(streaming=options.streaming), notes))
        for name in options.others
        if with_train
    ]
    if with_train or not options.others:  # Additional data sets may use keys that `dataset_name` does not.
        refuse_unused(
            [split for sources in (splits, *(extra for _, extra in others)) for split in sources.values()], reading
        )
    evaluation = options.eval_split if options.eval_split in splits else None
    if evaluation is None and options.eval_split != "validation":
        raise ValueError(f"`eval_split` is {options.eval_split!r}, found {', '.join(splits)}")
    # Validation images with unseen phrases come from the training split.
    with_train_rows = with_train or evaluation is None or bool(options.unseen_phrases)
    if options.train_split not in splits and with_train_rows:
        raise ValueError(f"`train_split` is {options.train_split!r}, found {', '.join(splits)}")
    names = [options.train_split] * with_train_rows + [evaluation] * (evaluation is not None)
    lazy = (options.train_split,) if options.streaming and evaluation != options.train_split else ()
    read = read_splits(splits, reading, only=list(dict.fromkeys(names)), lazy=lazy)
    reports, ids = [report for _, report in read.values()], {}
    train = read[options.train_split][0] if with_train_rows else None
    if evaluation is not None:
        validation = read[evaluation][0]
        if evaluation == options.train_split:
            warnings.append(
                f"`train_split` and `eval_split` are both {evaluation!r}: training images are evaluated, so metrics "
                "will be optimistic"
            )
    else:
        train, validation = hold_out(train, options.validation_fraction, options.max_eval_samples, notes, warnings)
    if options.max_eval_samples:
        validation = validation.select(range(min(len(validation), options.max_eval_samples)))
    unseen = [normalize_phrase(text) for text in options.unseen_phrases]
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
    learned = None if train is None else texts_of(train)
    if train is not None and options.others:
        train = _mix(train, others, unseen, options, reading, reports, notes)
        texts = [texts_of(rows) for rows in train.sources[: 1 + len(options.extra_datasets)]]
        learned = None if None in texts else set().union(*texts)
    for report in reports:
        for phrase, number in report.category_ids.items():
            # Files may number their categories differently; no two phrases may share an id.
            if phrase not in ids and isinstance(number, int) and number not in ids.values():
                ids[phrase] = number
    for rows in (train, validation):
        for phrase in sorted((texts_of(rows) or set()) - ids.keys()):
            ids[phrase] = max(ids.values(), default=0) + 1
    synonyms = dict(reading.phrase_map.synonyms)
    if reading.attributes is not None:
        synonyms = SpokenPhrases(reading.attributes, synonyms, ids)
    notes += warnings
    return PhraseData(train, validation, ids, synonyms, reports, notes, learned, set(unseen), warnings)


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
    notes = []
    splits = _find_splits(options, notes)
    if reading is not None and not options.others:  # Additional data sets may use other keys.
        refuse_unused(list(splits.values()), reading)
    return splits, notes


def texts_of(rows) -> set[str] | None:
    """Return all phrases of rows; `None` for rows that are made when they are requested."""
    if isinstance(rows, MixedRows):
        texts = [texts_of(source) for source in rows.sources]
        return None if None in texts else set().union(*texts)
    if not isinstance(rows, Dataset):
        return None
    return {phrase["text"] for phrases in rows["phrases"] for phrase in phrases}


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
    train, others: list, unseen: list[str], options: DatasetOptions, reading: ReadOptions, reports: list, notes: list
) -> MixedRows:
    """Mix the training rows with those of other data sets, given as pairs of name and splits."""
    sources = [train]
    for name, splits in others:
        if options.train_split not in splits:
            raise ValueError(
                f"the training data {name!r} has no split {options.train_split!r}, found {', '.join(splits)}"
            )
        lazy = (options.train_split,) if options.streaming else ()
        rows, report = read_splits(splits, reading, only=[options.train_split], lazy=lazy)[options.train_split]
        if unseen:
            rows = without_phrases(rows, unseen)
        sources.append(rows)
        reports.append(report)
    mixed = MixedRows(sources, _weights(options))
    shares = ", ".join(f"{weight:.0%}" for weight in mixed.weights)
    names = ", ".join([str(options.dataset_name), *options.others])
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
    validation = list(SceneRows(files.scenes, "validation", numbers[1]))
    texts = sorted({phrase["text"] for row in validation for phrase in row["phrases"]})
    note = f"{numbers[0]} training scenes are drawn when they are requested, and {numbers[1]} others for validation"
    ids = {text: i for i, text in enumerate(texts, 1)}
    return PhraseData(train if with_train else None, to_dataset(validation), ids, {}, [], [note])


def _find_splits(options: DatasetOptions, notes: list[str]) -> dict[str, SplitSource]:
    if options.annotation_file:
        if options.layout is not None or replace(options.hub, streaming=False) != HubSource():
            raise ValueError(
                "`layout`, `column_mapping` and other keys of folders and Hub data sets have no effect on "
                "`annotation_file`; remove them"
            )
        if options.dataset_name not in (None, SYNTHETIC) and Path(options.dataset_name).is_dir():
            raise ValueError(
                f"`annotation_file` and `dataset_name` ({options.dataset_name!r}) are both set; remove one"
            )
        splits = {options.train_split: _coco_split(options.annotation_file, options.image_folder, "image_folder")}
        if options.eval_annotation_file:
            if options.eval_split == options.train_split:
                raise ValueError(
                    f"`eval_split` and `train_split` are both {options.train_split!r} beside two annotation files; "
                    "set `eval_split: validation`"
                )
            folder = options.eval_image_folder or options.image_folder
            splits[options.eval_split] = _coco_split(options.eval_annotation_file, folder, "eval_image_folder")
        return splits
    for name in ("image_folder", "eval_annotation_file", "eval_image_folder"):
        if getattr(options, name):
            raise ValueError(f"`{name}` is {getattr(options, name)!r}, but `annotation_file` is not set; set it too")
    folder = options.dataset_name
    if folder == SYNTHETIC:
        folder = write_scenes_once(options.scenes_folder, options.scenes)
    if not folder:
        raise ValueError(f"`dataset_name` is not set. Pass the folder of a data set; {ACCEPTED}")
    return find_sources(str(folder), options.layout, options.hub, notes)


def _coco_split(file: str, folder: str | None, argument: str) -> SplitSource:
    folder = Path(folder) if folder else Path(file).parent
    if not folder.is_dir():
        raise ValueError(f"`{argument}`: there is no folder {str(folder)!r}")
    return LocalSplit(partial(read_json_split, CocoFiles(Path(file), [folder])), "coco", [folder, Path(file).parent])
