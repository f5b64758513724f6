"""Access to Hub data sets, and to folders in one of the Hub's formats, with `datasets`."""

import hashlib
import itertools
import json
import tarfile
from pathlib import Path

from datasets import Dataset, DatasetDict, config, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from ...options.data import HubSource
from ..readers.class_names import read_class_names
from ..readers.files import SPLIT_WORDS
from .parquet import ParquetRows, undecoded


CONVERTED = "refs/convert/parquet"  # revision with the Hub's parquet export of data sets that are scripts
NAME_FILES = ("id2label.json", "classes.json", "classes.txt")


def is_hub_folder(folder: Path) -> bool:
    """Return whether a folder is in one of the Hub's formats."""
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
        `list[Path]`: The folder of a local data set, and the caches that `datasets` and the Hub download and unpack
            to.
    """
    caches = [
        config.HF_DATASETS_CACHE,
        config.DOWNLOADED_DATASETS_PATH,
        config.EXTRACTED_DATASETS_PATH,
        constants.HF_HUB_CACHE,
    ]
    local = [Path(source.name)] if Path(source.name).is_dir() else []
    return local + [Path(cache) for cache in caches]


def open_splits(source: HubSource) -> tuple[dict[str, Dataset | ParquetRows], list[str]]:
    """
    Open all splits of a data set, with undecoded images.

    Args:
        source (`HubSource`): The data set.

    Returns:
        `tuple[dict[str, datasets.Dataset | ParquetRows], list[str]]`: Rows by split (synonyms of `train`, `validation`
            and `test` are renamed to these), and notes on assumptions.

    Raises:
        `ValueError`: If the data set does not exist, cannot be reached, or cannot be read; contains the remedy.
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
        standard_name = SPLIT_WORDS.get(name.lower(), name)
        if standard_name in named:
            raise ValueError(
                f"`dataset_name`: {source.name!r} has two splits that mean {standard_name!r}, among "
                f"{', '.join(splits)}; select the files of one with `data_files`"
            )
        named[standard_name] = rows
    return named, notes


def _refuse_shared_keys(folder: Path) -> None:
    """Refuse names such as `a.1.json` and `a.2.json`: WebDataset cuts names at the first dot and joins them."""
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
                            f"{file}: {seen[key]} and {member.name} are one sample to WebDataset, which cuts names at "
                            "the first dot; replace the dots within names"
                        )
        except (tarfile.TarError, OSError) as error:
            raise ValueError(f"{file} cannot be read ({error}); copy it again") from error


def _load(source: HubSource, revision: str | None, notes: list[str]):
    arguments = {"revision": revision}
    if Path(source.name).is_dir():
        arguments["cache_dir"] = _folder_cache(Path(source.name))
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
            raise ValueError(_script_message(source.name)) from error
        notes.append(f"{source.name} is a script; its parquet export ({CONVERTED}) is read instead")
        return _load(source, CONVERTED, notes)
    except DatasetNotFoundError as error:
        if revision == CONVERTED and source.revision != CONVERTED:
            raise ValueError(_script_message(source.name)) from error
        raise ValueError(
            f"`dataset_name`: there is no folder and no data set {source.name!r} on the Hub that you may read "
            f"({error}). Check the name; for a gated or private data set, request access and run `hf auth login`"
        ) from error
    except ConnectionError as error:
        raise ValueError(
            f"`dataset_name`: there is no folder {source.name!r}, and the Hub cannot be reached ({error}). Check the "
            "path, or go online"
        ) from error
    except (OSError, ValueError, HfHubHTTPError, DatasetGenerationError, tarfile.TarError) as error:
        raise ValueError(
            f"`dataset_name`: {source.name!r} cannot be read ({type(error).__name__}: {error})"
        ) from error


def _folder_cache(folder: Path) -> str:
    """
    Return a cache folder for the present files of a local data set.

    The cache of `datasets` confuses local folders of one name if their `README.md` lists `data_files`: its key
    contains neither the path nor the time of the files.
    """
    digest = hashlib.blake2b(str(folder.resolve()).encode("utf-8", "surrogateescape"), digest_size=16)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        status = file.stat()
        digest.update(repr((str(file.relative_to(folder)), status.st_size, status.st_mtime_ns)).encode())
    return str(Path(config.HF_DATASETS_CACHE) / "sam-ft-folders" / digest.hexdigest())


def _script_message(name: str) -> str:
    return (
        f"`dataset_name`: {name!r} is a script, which `datasets` no longer runs, and has no parquet export "
        f"({CONVERTED}). Download its files and pass the folder"
    )


def _names_file(source: HubSource, file: str | None) -> Path | None:
    if file:
        return Path(file)
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


def class_names(source: HubSource, file: str | None) -> dict[int, str]:
    """
    Return the class name of each number.

    Args:
        source (`HubSource`): The data set.
        file (`str`, *optional*): File of class names; by default one of `NAME_FILES` beside the data.

    Returns:
        `dict[int, str]`: Class names; empty without a file.
    """
    names_file = _names_file(source, file)
    return {} if names_file is None else read_class_names(names_file)


def names_in_row(value) -> dict[int, str]:
    """Return the class name of each number, from a column `{name: number}` (a struct or its JSON)."""
    value = json.loads(value) if isinstance(value, str) else value
    return {int(number): str(name) for name, number in value.items() if number}  # 0 is the background.
