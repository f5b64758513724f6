"""Opening a Hub data set, or a folder in one of the Hub's forms, by `datasets`."""

import itertools
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, DatasetDict, config, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from ..readers.files import SPLIT_WORDS
from ..readers.mask_values import class_names_of
from .parquet import ParquetRows, undecoded


CONVERTED = "refs/convert/parquet"  # what the Hub makes of data sets that are scripts
NAME_FILES = ("id2label.json", "classes.json", "classes.txt")


@dataclass
class HubSource:
    """
    Attributes:
        name (`str`): a Hub id, or a folder of parquet files, an imagefolder, WebDataset shards, or what `save_to_disk` wrote.
        config (`str`, *optional*): of a data set that has several.
        revision (`str`, *optional*): branch, tag or commit.
        data_files (`list[str]`): patterns of the files to read, instead of all.
        column_mapping (`dict[str, str | None]`): role -> column, `None` for none, see `columns.py`.
        streaming (`bool`): fetch rows of parquet files when they are asked for; other forms are prepared as a whole.
    """

    name: str = ""
    config: str | None = None
    revision: str | None = None
    data_files: list[str] = field(default_factory=list)
    column_mapping: dict[str, str | None] = field(default_factory=dict)
    streaming: bool = False


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder is in a form of the Hub."""
    patterns = (
        "*.parquet",
        "*/*.parquet",
        "*.arrow",
        "*/*.arrow",
        "*.tar",
        "*/*.tar",
        "**/metadata.jsonl",
        "**/metadata.csv",
    )
    return any(next(folder.glob(pattern), None) for pattern in (*patterns, "**/metadata.parquet"))


def image_roots(source: HubSource) -> list[Path]:
    """
    Return the folders that image files of a data set may lie in.

    Args:
        source (`HubSource`): The data set.

    Returns:
        `list[Path]`: Its own folder where it is local, and the caches that `datasets` and the Hub download and unpack
            to.
    """
    caches = [
        config.HF_DATASETS_CACHE,
        config.DOWNLOADED_DATASETS_PATH,
        config.EXTRACTED_DATASETS_PATH,
        constants.HF_HUB_CACHE,
    ]
    own = [Path(source.name)] if Path(source.name).is_dir() else []
    return own + [Path(cache) for cache in caches]


def open_splits(source: HubSource) -> tuple[dict[str, Dataset | ParquetRows], list[str]]:
    """
    All splits with their images not decoded, named `train`, `validation`, `test` where they mean these, and what was assumed.

    Raises:
        `ValueError`: where the data set is not there, cannot be reached, or cannot be read; says what to do.
    """
    notes = []
    if Path(source.name).is_dir():
        _refuse_shared_keys(Path(source.name))
    if Path(source.name).is_dir() and any(Path(source.name).glob("**/state.json")):
        splits = load_from_disk(source.name)
        splits = DatasetDict(train=splits) if isinstance(splits, Dataset) else splits
    else:
        splits = _load(source, source.revision, notes)
    named = {}
    for name, rows in splits.items():
        rows = rows if isinstance(rows, ParquetRows) else rows.cast(undecoded(rows.features))
        meant = SPLIT_WORDS.get(name.lower(), name)
        if meant in named:
            raise ValueError(
                f"`dataset_name`: {source.name!r} has two splits that mean {meant!r}, among {', '.join(splits)}; name the files of one, "
                "`data_files`"
            )
        named[meant] = rows
    return named, notes


def _refuse_shared_keys(folder: Path) -> None:
    """WebDataset cuts names at their first dot, so that `a.1.json` and `a.2.json` would become one sample."""
    for file in sorted(folder.rglob("*.tar")):
        seen: dict[str, str] = {}
        try:
            with tarfile.open(file) as tar:
                for member in itertools.islice(tar, 1000):
                    key, _, rest = member.name.rpartition("/")[2].partition(".")
                    if (
                        member.isfile()
                        and rest.rpartition(".")[2].lower() == "json"
                        and seen.setdefault(key, member.name) != member.name
                    ):
                        raise ValueError(
                            f"{file}: {seen[key]} and {member.name} are one sample to WebDataset, which cuts names at the first dot; "
                            "replace the dots within names"
                        )
        except (tarfile.TarError, OSError) as error:
            raise ValueError(f"{file} cannot be read ({error}); copy it again") from error


def _load(source: HubSource, revision: str | None, notes: list[str]):
    arguments = {"revision": revision}
    if source.data_files:
        arguments["data_files"] = source.data_files
    try:
        if source.streaming:
            builder = load_dataset_builder(source.name, source.config, **arguments)
            if isinstance(builder, Parquet):
                return {str(name): ParquetRows(list(files)) for name, files in builder.config.data_files.items()}
            notes.append(f"{source.name} is not parquet: it is prepared as a whole, and read row by row")
        return load_dataset(source.name, source.config, **arguments)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise ValueError(f"`dataset_name`: {source.name!r} cannot be read ({error})") from error
        if revision == CONVERTED or Path(source.name).exists():
            raise ValueError(_a_script(source.name)) from error
        notes.append(f"{source.name} is a script; its parquet export ({CONVERTED}) is read instead")
        return _load(source, CONVERTED, notes)
    except DatasetNotFoundError as error:
        if revision == CONVERTED and source.revision != CONVERTED:
            raise ValueError(_a_script(source.name)) from error
        raise ValueError(
            f"`dataset_name`: there is no folder and no data set {source.name!r} on the Hub that you may read ({error}). Check the name; "
            "for a gated or private one ask for access and run `hf auth login`"
        ) from error
    except ConnectionError as error:
        raise ValueError(
            f"`dataset_name`: there is no folder {source.name!r}, and the Hub cannot be asked for it ({error}). Check the path, or go online"
        ) from error
    except (OSError, ValueError, HfHubHTTPError, DatasetGenerationError, tarfile.TarError) as error:
        raise ValueError(
            f"`dataset_name`: {source.name!r} cannot be read ({type(error).__name__}: {error})"
        ) from error


def _a_script(name: str) -> str:
    return (
        f"`dataset_name`: {name!r} is a script, which `datasets` no longer runs, and has no parquet export ({CONVERTED}). Download its "
        "files and give the folder"
    )


def _names_file(source: HubSource, given: str | None) -> Path | None:
    if given:
        return Path(given)
    for name in NAME_FILES:
        if Path(source.name).is_dir():
            if (Path(source.name) / name).is_file():
                return Path(source.name) / name
            continue
        try:
            return Path(hf_hub_download(source.name, name, repo_type="dataset", revision=source.revision))
        except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError):
            continue
    return None


def class_names(source: HubSource, given: str | None) -> dict[int, str]:
    """Number -> class, from the user's file or one of `NAME_FILES` beside the data; empty where there is none."""
    file = _names_file(source, given)
    return {} if file is None else class_names_of(file)


def names_in_row(value) -> dict[int, str]:
    """Number -> class, from a column `{name: number}` that every row repeats (a struct, or its JSON)."""
    value = json.loads(value) if isinstance(value, str) else value
    return {int(number): str(name) for name, number in value.items() if number}  # 0 is what belongs to no class
