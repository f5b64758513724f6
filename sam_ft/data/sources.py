"""Splits of a data set, local files in one of the layouts or a data set of the Hub, and their conversion to rows."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import Dataset

from ..options.data import HubSource, ReadOptions
from ..utils.memory import paused_garbage_collection
from .hub.convert import convert, convert_lazily
from .hub.source import is_hub_folder, open_splits
from .lazy_rows import LazyRows, RecordRows
from .readers.files import folder_of_file
from .readers.layouts import ACCEPTED, LAYOUT_KEYS, SplitReader, find_splits, find_splits_of_file
from .readers.records import deduplicate_ids
from .readers.split_rows import make_rows
from .reading_report import DataReport


@dataclass
class LocalSplit:
    """
    One split of local files.

    Attributes:
        read (`SplitReader`): Function that reads the split.
        layout (`str`): Layout of the files.
        roots (`list[Path]`): Folders that its images must lie in, see [`Split.roots`].
        converted (`tuple[datasets.Dataset, DataReport]`, *optional*): Result of an earlier conversion, which is used
            instead of another one. Default: none.
    """

    read: SplitReader
    layout: str
    roots: list[Path] = field(default_factory=list)
    converted: tuple[Dataset, DataReport] | None = None


@dataclass
class HubSplit:
    """
    One split of a Hub data set.

    Attributes:
        rows (`datasets.Dataset`): Rows as loaded, not converted.
        source (`HubSource`): The data set.
        name (`str`): Name of the split.
        layout (`str`): `hub`.
        converted (`tuple[datasets.Dataset, DataReport]`, *optional*): As that of [`LocalSplit`].
    """

    rows: Dataset
    source: HubSource
    name: str
    layout: str = "hub"
    converted: tuple[Dataset, DataReport] | None = None


SplitSource = LocalSplit | HubSplit


def find_sources(name: str, layout: str | None, hub: HubSource, notes: list[str]) -> dict[str, SplitSource]:
    """
    Find the splits of a data set.

    Args:
        name (`str`): A folder, an annotation file, or a Hub id such as `owner/name`.
        layout (`str`, *optional*): Layout of the folder or file; see [`find_splits`].
        hub (`HubSource`): Reading options of a Hub data set.
        notes (`list[str]`): List that notes on assumptions are appended to.

    Returns:
        `dict[str, SplitSource]`: The splits by name, not yet read.

    Raises:
        `ValueError`: If there is neither such a folder nor such a Hub data set; lists the layouts.
    """
    if len(Path(name).name) > 255:
        raise ValueError(f"`dataset_name`: {name[:60]!r}… is longer than a name can be")
    path = Path(name)
    if path.is_file():
        detected, splits = find_splits_of_file(path, layout)
        notes.append(f"the layout of the file {name} is {detected}; set `layout` if this is wrong")
        _refuse_hub_keys(hub, f"{name} is a file of the layout {detected}")
        return {split: LocalSplit(read, detected, [folder_of_file(path)]) for split, read in splits.items()}
    if path.is_dir():
        try:
            detected, splits = find_splits(path, layout)
        except ValueError:
            if layout is not None or not is_hub_folder(path):
                raise
        else:
            notes.append(f"the layout of {name} is {detected}; set `layout` if this is wrong")
            _refuse_hub_keys(hub, f"{name} is a folder of the layout {detected}")
            return {split: LocalSplit(read, detected, [path]) for split, read in splits.items()}
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists():
        raise ValueError(
            f"`dataset_name`: there is no folder {name!r}, and no such file. Pass the folder or annotation file of a "
            f"data set, or a Hub id; {ACCEPTED}"
        )
    elif layout is not None:
        raise ValueError(
            f"`layout` is {layout!r}, but {name!r} is not a folder; for a Hub data set, set `column_mapping` instead"
        )
    source = replace(hub, name=name)
    splits, hub_notes = open_splits(source)
    notes += hub_notes
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
            raise ValueError(f"`{key}` is {value!r}, but {why}. Remove it: it is for Hub data sets")


def refuse_unused(splits: list[SplitSource], options: ReadOptions) -> None:
    """
    Refuse keys that have no effect on the data.

    Args:
        splits (`list[SplitSource]`): Splits of all data sets of a run.
        options (`ReadOptions`): Options to check.

    Raises:
        `ValueError`: If a key is set that no layout of the splits uses.
    """
    layouts = list(dict.fromkeys(split.layout for split in splits))
    used = {key for layout in layouts for key in LAYOUT_KEYS.get(layout, ())}
    for key in dict.fromkeys(key for keys in LAYOUT_KEYS.values() for key in keys):
        value = getattr(options, key)
        if key not in used and value != getattr(ReadOptions(), key):
            supported = ", ".join(layout for layout, keys in LAYOUT_KEYS.items() if key in keys)
            raise ValueError(
                f"`{key}` is {value!r}, but has no effect on {', '.join(layouts)} data; it is for {supported}. Remove "
                "it"
            )


def read_splits(
    splits: dict[str, SplitSource],
    options: ReadOptions,
    *,
    only: list[str] | None = None,
    lazy: tuple[str, ...] = (),
    num_proc: int | None = None,
) -> dict[str, tuple[Dataset | LazyRows, DataReport]]:
    """
    Convert splits to rows; classes that no file declares are inferred from all splits.

    Args:
        splits (`dict[str, SplitSource]`): All splits of a data set; see [`find_sources`].
        options (`ReadOptions`): Options of the conversion.
        only (`list[str]`, *optional*): Splits to convert; all by default.
        lazy (`tuple[str, ...]`): Splits whose rows are converted when they are requested; their reports have no
            counts.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `dict[str, tuple[datasets.Dataset | LazyRows, DataReport]]`: Rows and report of each split.

    Raises:
        `ValueError`, `DatasetFormatError`: See [`make_rows`] and [`convert`].
    """
    only = list(splits) if only is None else only
    result = {name: None if name in lazy else splits[name].converted for name in only}
    only = [name for name, converted in result.items() if converted is None]
    local = {}
    for name, split in splits.items() if only else ():
        if not isinstance(split, HubSplit):
            try:
                with paused_garbage_collection():
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
    inferred_labels = {
        label: name for split in local.values() if split.has_inferred_labels for label, name in split.labels.items()
    }
    for name in only:
        split = splits[name]
        if isinstance(split, HubSplit):
            arguments = split.rows, split.source, split.name, options
            result[name] = convert_lazily(*arguments) if name in lazy else convert(*arguments, num_proc)
            continue
        records = local[name]
        deduplicate_ids(records)
        if records.has_inferred_labels:
            records = replace(records, labels=dict(sorted(inferred_labels.items())))
        if name in lazy:
            make = RecordRows(records, options)
            skip, report = options.on_bad_rows == "skip", make.maker.report
            result[name] = LazyRows(make, len(records.records), skip=skip, report=report), report
        else:
            result[name] = make_rows(records, options, num_proc)
    return result
