"""From a data set's name to rows: what a run trains on and what it is measured on."""

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
    Attributes:
        dataset_name (`str`): a folder in one of the accepted layouts, or a data set of the Hub; `synthetic`: scenes written to `data/test_shapes`;
            `synthetic-stream`: scenes drawn when asked for, with phrases of attributes, none ever twice.
        annotation_file, image_folder (`str`, *optional*): one COCO file and its images instead of a tree.
        eval_annotation_file, eval_image_folder (`str`, *optional*): the same for evaluation.
        layout (`str`, *optional*): of the folder; detected where it is not given.
        train_split, eval_split (`str`): names among those found; evaluation falls back to `validation_fraction`.
        validation_fraction (`float`): share of the training images held out where there is no validation split.
        max_train_samples, max_eval_samples (`int`, *optional*): use the first so many.
        scenes (`SceneFiles`): of the synthetic data sets. scenes_folder (`str` or `Path`): where those in files are
            written, each set once.
        streaming (`bool`): training rows are made when they are asked for; nothing is converted or held beforehand.
        extra_datasets (`list[str]`): folders or Hub ids whose training splits are trained along.
        mixture_weights (`list[float]`): chance of `dataset_name` and of each of those; equal where not given.
        unseen_phrases (`list[str]`): training neither shows nor asks them; images that show one are evaluated instead.
        replay (`str`, *optional*): folder or Hub id whose training split is trained along so that nothing is forgotten; `replay_share`
            (`float`): its share.
        hub (`HubSource`): how a data set of the Hub is opened; its name is `dataset_name`.
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
        """All data sets that are trained along."""
        return [*self.extra_datasets, *([self.replay] if self.replay else [])]


@dataclass
class PhraseData:
    """
    Attributes:
        train (`datasets.Dataset`, `LazyRows`, `MixedRows`, `SceneRows` or `None`), validation (`datasets.Dataset`): rows of `example.py`.
        category_ids (`dict[str, int]`): phrase -> category id for results; the source's own where it has them.
        synonyms (`Mapping[str, list[str]]`): phrase -> other texts that training may use for it.
        reports (`list[DataReport]`): what was understood.
        notes (`list[str]`): what was assumed.
        learned (`set[str]`, *optional*): the training phrases without those that are replayed alone; `None` where they are made when asked for.
        unseen (`set[str]`): phrases that training neither shows nor asks.
        warnings (`list[str]`): what makes the metrics optimistic; a report begins with them.
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
    Reads a data set.

    Args:
        options (`DatasetOptions`), reading (`ReadOptions`).
        with_train (`bool`): read the training split at all; evaluation alone does not need it.

    Raises:
        `ValueError`: where folder, file or split is not there; says what is.
        `DatasetFormatError`: see [`make_rows`].
    """
    if options.dataset_name == SYNTHETIC_STREAM and not options.annotation_file:
        _refuse_meaningless(options, reading)
        return _stream_scenes(options, with_train)
    world = options.scenes.scenes
    for name in ("ramp", "shape_alone"):
        if options.dataset_name == SYNTHETIC and getattr(world, name):
            raise ValueError(
                f"`scene_{name}` is {getattr(world, name)}, but means nothing for scenes in files; use {SYNTHETIC_STREAM}"
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
    if with_train or not options.others:  # which may have a use for what this one has not
        refuse_unused(
            [split for found in (splits, *(extra for _, extra in others)) for split in found.values()], reading
        )
    evaluation = options.eval_split if options.eval_split in splits else None
    if evaluation is None and options.eval_split != "validation":
        raise ValueError(f"`eval_split` is {options.eval_split!r}, found {', '.join(splits)}")
    # images that show unseen phrases are among the training split's
    with_train_rows = with_train or evaluation is None or bool(options.unseen_phrases)
    if options.train_split not in splits and with_train_rows:
        raise ValueError(f"`train_split` is {options.train_split!r}, found {', '.join(splits)}")
    wanted = [options.train_split] * with_train_rows + [evaluation] * (evaluation is not None)
    lazy = (options.train_split,) if options.streaming and evaluation != options.train_split else ()
    read = read_splits(splits, reading, only=list(dict.fromkeys(wanted)), lazy=lazy)
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
            raise ValueError("`unseen_phrases` needs a data set that is read whole: leave `streaming` out")
        train, validation = keep_unseen(train, validation, unseen)
        notes.append(
            f"{len(validation)} images are evaluated; training sees none of {', '.join(options.unseen_phrases)}"
        )
    if not with_train:
        train = None
    if train is not None and options.max_train_samples:
        train = train.select(range(min(len(train), options.max_train_samples)))
    if not len(validation) or (with_train and not len(train)):
        raise ValueError(
            "no image is left to train on or to evaluate on; check `validation_fraction` and the sample limits"
        )
    learned = None if train is None else texts_of(train)
    if train is not None and options.others:
        train = _mix(train, others, unseen, options, reading, reports, notes)
        own = [texts_of(rows) for rows in train.sources[: 1 + len(options.extra_datasets)]]
        learned = None if None in own else set().union(*own)
    for report in reports:
        for phrase, number in report.category_ids.items():
            # two files may number their categories differently: no two phrases share a number
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
    The splits of a data set, not yet read (see [`read_splits`]), and what was assumed.

    Raises:
        `ValueError`: as [`load_phrase_dataset`].
    """
    notes = []
    splits = _find_splits(options, notes)
    if reading is not None and not options.others:  # which may have a use for what this one has not
        refuse_unused(list(splits.values()), reading)
    return splits, notes


def texts_of(rows) -> set[str] | None:
    """Every phrase of the rows; `None` where they are made when they are asked for."""
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
    train,
    others: list,
    unseen: list[str],
    options: DatasetOptions,
    reading: ReadOptions,
    reports: list,
    notes: list[str],
) -> MixedRows:
    """The training rows with those of other data sets, pairs of name and splits; phrases that two of them share are one phrase."""
    sources = [train]
    for name, splits in others:
        if options.train_split not in splits:
            raise ValueError(
                f"{name!r}, which is to be trained along, has no split {options.train_split!r}, found {', '.join(splits)}"
            )
        lazy = (options.train_split,) if options.streaming else ()
        rows, report = read_splits(splits, reading, only=[options.train_split], lazy=lazy)[options.train_split]
        if unseen:
            rows = without_phrases(rows, unseen)
        sources.append(rows)
        reports.append(report)
    mixed = MixedRows(sources, _weights(options))
    shares = ", ".join(f"{weight:.0%}" for weight in mixed.weights)
    notes.append(
        f"an epoch draws {len(mixed)} images, {shares} of them from {', '.join([str(options.dataset_name), *options.others])}"
    )
    return mixed


def _refuse_meaningless(options: DatasetOptions, reading: ReadOptions) -> None:
    meaningless = {
        "scene_train_labels": options.scenes.train_labels is not None,
        "phrase_source": reading.phrase_source != ReadOptions().phrase_source,
        "phrase_map": reading.phrase_map != ReadOptions().phrase_map,
        "train_split": options.train_split != DatasetOptions().train_split,
        "eval_split": options.eval_split != DatasetOptions().eval_split,
    }
    for name, given in meaningless.items():
        if given:
            raise ValueError(
                f"`{name}` means nothing for `dataset_name: {SYNTHETIC_STREAM}`, which has phrases and splits of its own"
            )


def _stream_scenes(options: DatasetOptions, with_train: bool) -> PhraseData:
    files = options.scenes
    numbers = [files.num_train, files.num_validation]
    for i, limit in enumerate((options.max_train_samples, options.max_eval_samples)):
        numbers[i] = min(numbers[i], limit or numbers[i])
    train = SceneRows(files.scenes, "train", numbers[0])
    validation = list(SceneRows(files.scenes, "validation", numbers[1]))
    texts = sorted({phrase["text"] for row in validation for phrase in row["phrases"]})
    note = f"{numbers[0]} scenes to train on are drawn when asked for, {numbers[1]} others to evaluate on"
    ids = {text: i for i, text in enumerate(texts, 1)}
    return PhraseData(train if with_train else None, to_dataset(validation), ids, {}, [], [note])


def _find_splits(options: DatasetOptions, notes: list[str]) -> dict[str, SplitSource]:
    if options.annotation_file:
        if options.layout is not None or replace(options.hub, streaming=False) != HubSource():
            raise ValueError(
                "`annotation_file` is one COCO file: `layout`, `column_mapping` and the other keys of folders and of the Hub say nothing to it"
            )
        if options.dataset_name not in (None, SYNTHETIC) and Path(options.dataset_name).is_dir():
            raise ValueError(
                f"`annotation_file` and `dataset_name` ({options.dataset_name!r}) both name the data; give one of them"
            )
        splits = {options.train_split: _named(options.annotation_file, options.image_folder, "image_folder")}
        if options.eval_annotation_file:
            if options.eval_split == options.train_split:
                raise ValueError(
                    f"`eval_split` and `train_split` are both {options.train_split!r} beside two annotation files; set "
                    "`eval_split: validation`"
                )
            folder = options.eval_image_folder or options.image_folder
            splits[options.eval_split] = _named(options.eval_annotation_file, folder, "eval_image_folder")
        return splits
    for name in ("image_folder", "eval_annotation_file", "eval_image_folder"):
        if getattr(options, name):
            raise ValueError(
                f"`{name}` is {getattr(options, name)!r}, but belongs to `annotation_file`, which is not given"
            )
    folder = options.dataset_name
    if folder == SYNTHETIC:
        folder = write_scenes_once(options.scenes_folder, options.scenes)
    if not folder:
        raise ValueError(f"`dataset_name` is not set. Give the folder of a data set; {ACCEPTED}")
    return find_sources(str(folder), options.layout, options.hub, notes)


def _named(file: str, folder: str | None, argument: str) -> SplitSource:
    folder = Path(folder) if folder else Path(file).parent
    if not folder.is_dir():
        raise ValueError(f"`{argument}`: there is no folder {str(folder)!r}")
    return LocalSplit(partial(read_json_split, CocoFiles(Path(file), [folder])), "coco", [folder, Path(file).parent])
