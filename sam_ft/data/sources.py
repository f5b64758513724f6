"""A data set's splits, wherever they lie: files in one of the layouts, or a data set of the Hub."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import Dataset

from .hub.convert import convert, lazily
from .hub.source import HubSource, is_hub_folder, open_splits
from .lazy_rows import LazyRows, RecordRows
from .readers.layouts import ACCEPTED, USES, SplitReader, find_splits
from .readers.records import ReadOptions, number_twins
from .readers.rows import make_rows
from .reading_report import DataReport
from .row_schema import to_dataset


@dataclass
class LocalSplit:
    """
    One split of files.

    Attributes:
        read (`SplitReader`): The call that reads it.
        layout (`str`): Its layout.
        roots (`list[Path]`): Folders that its images must lie in, see [`Split.roots`].
    """

    read: SplitReader
    layout: str
    roots: list[Path] = field(default_factory=list)


@dataclass
class HubSplit:
    """One split of a Hub data set: `datasets.Dataset` as it came, where it is from, and its name."""

    rows: Dataset
    source: HubSource
    name: str
    layout: str = "hub"


SplitSource = LocalSplit | HubSplit


def find_sources(name: str, layout: str | None, hub: HubSource, notes: list[str]) -> dict[str, SplitSource]:
    """
    Args:
        name (`str`): a folder, or a Hub id such as `owner/name`.
        layout (`str`, *optional*): see [`find_splits`].
        hub (`HubSource`): how a data set of the Hub is opened.
        notes (`list[str]`): what was assumed is added.

    Raises:
        `ValueError`: where it is neither; lists the layouts.
    """
    if len(Path(name).name) > 255:
        raise ValueError(f"`dataset_name`: {name[:60]!r}… is longer than a name can be")
    if Path(name).is_dir():
        try:
            found, splits = find_splits(Path(name), layout)
        except ValueError:
            if layout is not None or not is_hub_folder(Path(name)):
                raise
        else:
            notes.append(f"{name} is read as {found}; `layout` overrides")
            _refuse_hub_keys(hub, f"{name} is a folder of the layout {found}")
            return {split: LocalSplit(read, found, [Path(name)]) for split, read in splits.items()}
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise ValueError(
            f"`dataset_name`: there is no folder {name!r}. Give the folder of a data set, or a Hub id; {ACCEPTED}"
        )
    elif layout is not None:
        raise ValueError(
            f"`layout` is {layout!r}, but {name!r} is no folder; data sets of the Hub have columns, see `column_mapping`"
        )
    source = replace(hub, name=name)
    splits, assumed = open_splits(source)
    notes += assumed
    return {split: HubSplit(rows, source, split) for split, rows in splits.items()}


def _refuse_hub_keys(hub: HubSource, why: str) -> None:
    keys = {
        "dataset_config": hub.config,
        "dataset_revision": hub.revision,
        "data_files": hub.data_files,
        "column_mapping": hub.column_mapping,
    }
    for key, value in keys.items():
        if value:
            raise ValueError(f"`{key}` is {value!r}, but {why}; it is for data sets of the Hub, remove it")


def refuse_unused(splits: list[SplitSource], options: ReadOptions) -> None:
    """
    Args:
        splits (`list[SplitSource]`): of all data sets of a run. options (`ReadOptions`).

    Raises:
        `ValueError`: where a key is set that none of them has a use for.
    """
    layouts = list(dict.fromkeys(split.layout for split in splits))
    used = {key for layout in layouts for key in USES.get(layout, ())}
    for key in dict.fromkeys(key for keys in USES.values() for key in keys):
        value = getattr(options, key)
        if key not in used and value != getattr(ReadOptions(), key):
            meant = ", ".join(layout for layout, keys in USES.items() if key in keys)
            raise ValueError(
                f"`{key}` is {value!r}, but says nothing about {', '.join(layouts)} data; it is for {meant}. Remove it"
            )


def read_splits(
    splits: dict[str, SplitSource],
    options: ReadOptions,
    *,
    only: list[str] | None = None,
    lazy: tuple[str, ...] = (),
) -> dict[str, tuple[Dataset | LazyRows, DataReport]]:
    """
    Rows and report of each split. Where nothing declares the classes, those of all splits are the vocabulary of each.

    Args:
        splits (`dict[str, SplitSource]`): all that were found, see [`find_sources`]. options (`ReadOptions`).
        only (`list[str]`, *optional*): splits of which rows are made; of all where not given.
        lazy (`tuple[str, ...]`): splits whose rows are made when they are asked for; their report counts nothing.

    Raises:
        `ValueError`, `DatasetFormatError`: see [`make_rows`] and [`convert`].
    """
    only = list(splits) if only is None else only
    local = {}
    for name, split in splits.items():
        if not isinstance(split, HubSplit):
            try:
                local[name] = replace(split.read(options), roots=split.roots)
            except ValueError:
                if name in only:
                    raise
            except RecursionError as error:
                if name in only:
                    raise ValueError(
                        f"the {split.layout} annotations of the split {name!r} are nested too deeply; export them "
                        "again"
                    ) from error
    found = {
        label: name for split in local.values() if split.labels_were_found for label, name in split.labels.items()
    }
    result = {}
    for name in only:
        split = splits[name]
        if isinstance(split, HubSplit):
            read = lazily if name in lazy else convert
            result[name] = read(split.rows, split.source, split.name, options)
            continue
        records = local[name]
        number_twins(records)
        if records.labels_were_found:
            records = replace(records, labels=dict(sorted(found.items())))
        if name in lazy:
            make = RecordRows(records, options)
            rows = LazyRows(make, len(records.records), skip=options.on_bad_rows == "skip")
            result[name] = rows, make.maker.report
        else:
            rows, report = make_rows(records, options)
            result[name] = to_dataset(rows), report
    return result
