"""Sources of the images of a prediction: files, folders, globs, file lists, tar and parquet files, Hub data sets."""

import glob
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec
from datasets import Dataset, Image

from ..data.hub.parquet import ParquetRows
from ..data.hub.source import open_splits
from ..data.image_entries import ImageEntry
from ..data.readers.files import image_suffixes, iterate_images
from ..options.data import HubSource
from ..utils.output_folders import FolderKind, is_claimed
from ..utils.secrets import describe_file_error, strip_url_secrets
from ..utils.text import short_repr
from .image_list import ImageList
from .image_names import ImageNaming


logger = logging.getLogger("sam_ft.run")

CONTAINERS = (".tar", ".parquet")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_EXAMPLE = "such as photos/ more/*.jpg list.txt shards/*.tar"


def find_images(
    entries: list[str],
    output_dir: Path | None = None,
    kind: FolderKind | None = None,
    argument: str = "images",
) -> ImageList:
    """
    Find images and give each a unique name: its path below the common folder, without the suffix.

    Args:
        entries (`list[str]`): Image files, folders (all images below them, or their tar and parquet files), globs,
            text files with one path a line, tar and parquet files or their URLs, and ids of Hub data sets.
        output_dir (`Path`, *optional*): Folder of predictions; files that an earlier call wrote there are skipped.
        kind (`FolderKind`, *optional*): Kind of that folder.
        argument (`str`): The key or parameter that contains the entries, for errors.

    Returns:
        `ImageList`: The images in the order of the entries.

    Raises:
        `ValueError`: If an entry does not exist, cannot be read or contains no image.
    """
    if not entries:
        raise ValueError(f"`{argument}`: give files, folders or globs, {_EXAMPLE}")
    skipped_below = output_dir.resolve() if output_dir is not None and is_claimed(output_dir, kind) else None
    naming = ImageNaming(skipped_below, argument)
    unnamed_images = ImageList(naming.collect(_iterate_entries(entries, argument)))
    if naming.num_skipped:
        logger.info("%d images below `predictions_dir` (%s) are skipped", naming.num_skipped, output_dir)
    if not len(unnamed_images):
        raise ValueError(
            f"`{argument}`: all {naming.num_skipped} files lie below `predictions_dir`, {output_dir}. "
            "Give other images"
        )
    return ImageList(naming.assign(unnamed_images))


def _iterate_entries(entries: list[str], argument: str) -> Iterator[ImageEntry]:
    """Yield the images of all entries."""
    for entry in entries:
        is_empty = True
        for image in _iterate(entry, argument):
            is_empty = False
            yield image
        if is_empty:
            raise ValueError(f"`{argument}`: {strip_url_secrets(entry)!r}: {_describe_empty(entry)}")


def _iterate(entry: str, argument: str) -> Iterator[ImageEntry]:
    """Yield the images of one entry; nothing if there are none."""
    if not entry:
        raise ValueError(f"`{argument}` contains an empty value. Give files, folders or globs, {_EXAMPLE}")
    if "://" in entry:
        for file in _expand_url(entry, argument):
            yield from _iterate_file(file, argument)
    elif Path(entry).is_dir():
        files = iterate_images(Path(entry))
        first = next(files, None)
        if first is None:
            for file in sorted(Path(entry).rglob("*")):
                if file.suffix.lower() in CONTAINERS and file.is_file():
                    yield from _iterate_file(str(file), argument)
            return
        yield ImageEntry("", str(first))
        yield from (ImageEntry("", str(file)) for file in files)
    elif Path(entry).is_file():
        yield from _iterate_file(entry, argument)
    elif matched := sorted(glob.glob(entry, recursive=True)):
        suffixes = image_suffixes() | set(CONTAINERS)
        for file in matched:
            if Path(file).suffix.lower() in suffixes and Path(file).is_file():
                yield from _iterate_file(file, argument)
    elif _HUB_ID.fullmatch(entry) and not Path(entry).parent.is_dir() and Path(entry).suffix not in image_suffixes():
        yield from _iterate_hub(entry, argument)


def _describe_empty(entry: str) -> str:
    if "://" in entry:
        return "no file matches, or the files contain no image"
    if Path(entry).is_dir():
        return "the folder contains no image"
    return (
        "the file contains no image"
        if Path(entry).is_file()
        else "there is no such file or folder, and no image matches"
    )


def _iterate_file(file: str, argument: str) -> Iterator[ImageEntry]:
    suffix = PurePosixPath(strip_url_secrets(file)).suffix.lower()
    if suffix == ".txt" and "://" not in file:
        yield from _iterate_list(Path(file), argument)
    elif suffix == ".tar":
        yield from _iterate_tar(file, argument)
    elif suffix == ".parquet":
        yield from _iterate_parquet(ParquetRows([file]), argument)
    elif "://" in file:
        raise ValueError(
            f"`{argument}`: {strip_url_secrets(file)} is not the URL of a .tar or .parquet file. Give such URLs, or "
            "download the file"
        )
    else:
        yield ImageEntry("", file)


def _iterate_list(file: Path, argument: str) -> Iterator[ImageEntry]:
    """Yield the files of a text file with one path of an image a line, relative to its folder."""
    folder, suffixes = str(file.parent), image_suffixes()
    try:
        with open(file, encoding="utf-8-sig") as lines:
            for number, line in enumerate(map(str.strip, lines), 1):
                if line and os.path.splitext(line)[1].lower() not in suffixes:
                    raise ValueError(
                        f"`{argument}`: line {number} of {file} is {short_repr(line)}, which is not the path of an "
                        "image file. A list contains one path of an image file a line"
                    )
                if line:
                    yield ImageEntry("", os.path.join(folder, os.path.expanduser(line)))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`{argument}`: {file} cannot be read as a list of paths ({error})") from error


def _iterate_tar(file: str, argument: str) -> Iterator[ImageEntry]:
    suffixes, num_links = image_suffixes(), 0
    try:
        with fsspec.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if PurePosixPath(member.name).suffix.lower() in suffixes:
                    num_links += member.islnk() or member.issym()
                    if member.isfile():
                        yield ImageEntry("", file, member.name, (member.offset_data, member.size))
                tar.members = []  # tarfile keeps every header otherwise
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:  # tarfile ends at a damaged header
                raise tarfile.ReadError(f"it is damaged or cut at byte {tar.offset}")
    except Exception as error:  # fsspec raises the errors of each protocol
        cause = None if "://" in file else error  # its text may contain a token
        raise ValueError(
            f"`{argument}`: {strip_url_secrets(file)} cannot be read as an uncompressed tar file "
            f"({describe_file_error(error)}). Copy it again, or decompress it"
        ) from cause
    if num_links:
        name = strip_url_secrets(file)
        logger.warning("`%s`: %d links in %s are left out. Store the images themselves", argument, num_links, name)


def _iterate_parquet(rows: ParquetRows, argument: str) -> Iterator[ImageEntry]:
    """Yield the rows of parquet files; a row without a file name has its number as name."""
    column = _find_image_column(rows, argument)
    feature = rows.features[column]
    has_path = isinstance(feature, Image) or (isinstance(feature, dict) and "path" in feature)
    names = rows.image_paths(column) if has_path else iter(lambda: None, "")
    for (file, group), indices in rows.iterate_groups():
        for row, number in enumerate(indices):
            name = next(names) or ""
            if not name.strip("/\\."):
                name = f"{number:08d}"
            yield ImageEntry("", file, name, (group, row), column)


def _find_image_column(rows: ParquetRows, argument: str) -> str:
    images = [name for name, feature in rows.features.items() if isinstance(feature, Image) or _is_image(feature)]
    binary = [
        name for name, feature in rows.features.items() if getattr(feature, "dtype", "") in ("binary", "large_binary")
    ]
    candidates = images or binary
    column = "image" if "image" in candidates else candidates[0] if len(candidates) == 1 else None
    if column is None:
        raise ValueError(
            f"`{argument}`: {strip_url_secrets(rows.files[0])} has the columns {', '.join(rows.column_names)}, of "
            f"which {'several contain' if candidates else 'none contains'} the content of images. Name that column "
            "`image`; it contains bytes, or {bytes, path}"
        )
    return column


def _is_image(feature) -> bool:
    """Check whether a column is a struct of the content and the name of an image."""
    return isinstance(feature, dict) and getattr(feature.get("bytes"), "dtype", "") in ("binary", "large_binary")


def _iterate_hub(name: str, argument: str) -> Iterator[ImageEntry]:
    try:
        splits, notes = open_splits(HubSource(name, streaming=True))
    except ValueError as error:
        raise ValueError(str(error).replace("`dataset_name`", f"`{argument}`")) from error
    for note in notes:
        logger.info("  note: %s", note)
    for split, rows in splits.items():
        if isinstance(rows, ParquetRows):
            yield from _iterate_parquet(rows, argument)
        else:
            yield from _iterate_dataset(rows, f"{name}, split {split}", argument)


def _iterate_dataset(rows: Dataset, name: str, argument: str) -> Iterator[ImageEntry]:
    """Yield the image files of a data set that `datasets` downloaded as files."""
    column = next((name for name, feature in rows.features.items() if isinstance(feature, Image)), None)
    if column is None:
        raise ValueError(f"`{argument}`: {name} has no image column. Choose a data set of images")
    for row in rows.select_columns(column):
        if not row[column] or row[column]["bytes"] is not None or not row[column]["path"]:
            raise ValueError(
                f"`{argument}`: {name} is neither parquet nor image files. Give the URLs of its files, such as "
                f"hf://datasets/{name.partition(',')[0]}/*.tar"
            )
        if "://" in row[column]["path"]:
            raise ValueError(
                f"`{argument}`: the images of {name} are in an archive. Download and unpack it, and give its folder"
            )
        yield ImageEntry("", row[column]["path"])


def _expand_url(pattern: str, argument: str) -> list[str]:
    """Return the URLs that a pattern of fsspec matches, sorted; a URL with a query is no pattern."""
    if pattern != strip_url_secrets(pattern):
        return [pattern]
    try:
        files = fsspec.open_files(pattern)
    except Exception as error:  # fsspec raises the errors of each protocol
        raise ValueError(f"`{argument}`: {pattern} cannot be opened ({describe_file_error(error)})") from error
    return sorted(file.fs.unstrip_protocol(file.path) for file in files)
