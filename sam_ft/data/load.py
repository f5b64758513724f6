"""From a data set's name to rows: what a run trains on and what it is measured on."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset

from .draws import keyed_draws
from .example import FEATURES
from .readers.coco import CocoOptions, read_coco
from .readers.coco_tree import ACCEPTED, CocoFiles, find_coco_splits
from .report import DataReport
from .synthetic import SceneFiles, SceneRows, were_written_with, write_shape_scenes


SYNTHETIC = "synthetic"
SYNTHETIC_STREAM = "synthetic-stream"
SYNTHETIC_FOLDER = Path("data/test_shapes")


@dataclass
class DatasetOptions:
    """
    Attributes:
        dataset_name (`str`): a folder in one of the accepted trees; `synthetic`: scenes written to `data/test_shapes`;
            `synthetic-stream`: scenes drawn when asked for, with phrases of attributes, none ever twice.
        annotation_file, image_folder (`str`, *optional*): one COCO file and its images instead of a tree.
        eval_annotation_file, eval_image_folder (`str`, *optional*): the same for evaluation.
        train_split, eval_split (`str`): names among those found; evaluation falls back to `validation_fraction`.
        validation_fraction (`float`): share of the training images held out where there is no validation split.
        max_train_samples, max_eval_samples (`int`, *optional*): use the first so many.
        scenes (`SceneFiles`): of the synthetic data sets.
    """

    dataset_name: str | None = SYNTHETIC
    annotation_file: str | None = None
    image_folder: str | None = None
    eval_annotation_file: str | None = None
    eval_image_folder: str | None = None
    train_split: str = "train"
    eval_split: str = "validation"
    validation_fraction: float = 0.1
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    scenes: SceneFiles = field(default_factory=SceneFiles)


@dataclass
class PhraseData:
    """
    Attributes:
        train (`datasets.Dataset`, `SceneRows` or `None`), validation (`datasets.Dataset`): rows of `example.py`.
        category_ids (`dict[str, int]`): phrase -> category id for results; the source's own where it has them.
        reports (`list[DataReport]`): what was understood.
        notes (`list[str]`): what was assumed.
    """

    train: Dataset | SceneRows | None
    validation: Dataset
    category_ids: dict[str, int]
    reports: list[DataReport]
    notes: list[str]

    def lines(self) -> list[str]:
        """All reports and assumptions as lines of text."""
        return [line for report in self.reports for line in report.lines()] + [f"note: {note}" for note in self.notes]


def load_phrase_dataset(options: DatasetOptions, coco: CocoOptions, *, with_train: bool = True) -> PhraseData:
    """
    Reads a data set.

    Args:
        options (`DatasetOptions`), coco (`CocoOptions`).
        with_train (`bool`): read the training split at all; evaluation alone does not need it.

    Raises:
        `ValueError`: where folder, file or split is not there; says what is.
        `DatasetFormatError`: see [`read_coco`].
    """
    if options.dataset_name == SYNTHETIC_STREAM and not options.annotation_file:
        _refuse_meaningless(options, coco)
        return _stream_scenes(options, with_train)
    world = options.scenes.scenes
    for name in ("ramp", "shape_alone"):
        if options.dataset_name == SYNTHETIC and getattr(world, name):
            raise ValueError(
                f"`scene_{name}` is {getattr(world, name)}, but means nothing for scenes in files; use {SYNTHETIC_STREAM}"
            )
    splits, notes = _find_splits(options), []
    reports, ids = [], {}

    def read(split):
        rows, report = read_coco(splits[split], coco)
        reports.append(report)
        return rows

    evaluation = options.eval_split if options.eval_split in splits else None
    if evaluation is None and options.eval_split != "validation":
        raise ValueError(f"`eval_split` is {options.eval_split!r}, found {', '.join(splits)}")
    if options.train_split not in splits and (with_train or evaluation is None):
        raise ValueError(f"`train_split` is {options.train_split!r}, found {', '.join(splits)}")
    train = read(options.train_split) if with_train or evaluation is None else None
    if evaluation is not None:
        validation = read(evaluation)
        if evaluation == options.train_split:
            notes.append(f"training and evaluation both use {evaluation!r}; scores will flatter")
    else:
        train, validation = _hold_out(train, options.validation_fraction, notes)
        if not with_train:
            train = None
    if train is not None and options.max_train_samples:
        train = train[: options.max_train_samples]
    if options.max_eval_samples:
        validation = validation[: options.max_eval_samples]
    if not validation or (with_train and not train):
        raise ValueError(
            "no image is left to train on or to evaluate on; check `validation_fraction` and the sample limits"
        )
    for report in reports:
        for phrase, number in report.category_ids.items():
            # two files may number their categories differently: no two phrases share a number
            if phrase not in ids and isinstance(number, int) and number not in ids.values():
                ids[phrase] = number
    for rows in (train or [], validation):
        for phrase in sorted({p["text"] for row in rows for p in row["phrases"]} - ids.keys()):
            ids[phrase] = max(ids.values(), default=0) + 1
    return PhraseData(None if train is None else to_dataset(train), to_dataset(validation), ids, reports, notes)


def _refuse_meaningless(options: DatasetOptions, coco: CocoOptions) -> None:
    meaningless = {
        "scene_train_labels": options.scenes.train_labels is not None,
        "phrase_source": coco.phrase_source != CocoOptions().phrase_source,
        "phrase_map": coco.phrase_map != CocoOptions().phrase_map,
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
    return PhraseData(train if with_train else None, to_dataset(validation), ids, [], [note])


def to_dataset(rows: list[dict]) -> Dataset:
    """Rows as a `datasets.Dataset` with the features of `example.py`."""
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    return Dataset.from_dict(columns, features=FEATURES)


def _find_splits(options: DatasetOptions) -> dict[str, CocoFiles]:
    if options.annotation_file:
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
    if options.dataset_name == SYNTHETIC:
        if not were_written_with(SYNTHETIC_FOLDER, options.scenes):
            write_shape_scenes(SYNTHETIC_FOLDER, options.scenes)
        return find_coco_splits(SYNTHETIC_FOLDER)
    if not options.dataset_name:
        raise ValueError(f"`dataset_name` is not set. Give the folder of a data set; {ACCEPTED}")
    return find_coco_splits(Path(options.dataset_name))


def _named(file: str, folder: str | None, argument: str) -> CocoFiles:
    folder = Path(folder) if folder else Path(file).parent
    if not folder.is_dir():
        raise ValueError(f"`{argument}`: there is no folder {str(folder)!r}")
    return CocoFiles(Path(file), [folder])


def _hold_out(rows: list[dict], fraction: float, notes: list[str]) -> tuple[list[dict], list[dict]]:
    """Always the same rows of the same data, whatever a run's seed: an evaluation must never meet training images."""
    number = round(len(rows) * fraction) or int(fraction > 0)
    if number == 0 or len(rows) < 2:
        notes.append("there is no validation split and nothing to hold out: evaluating on the training images")
        return rows, rows
    order = keyed_draws(0, 0, "", "hold out").permutation(len(rows))
    held = np.zeros(len(rows), dtype=bool)
    held[order[:number]] = True
    notes.append(f"there is no validation split: {number} of {len(rows)} training images are held out for it")
    return [r for r, h in zip(rows, held) if not h], [r for r, h in zip(rows, held) if h]
