"""Entries of images: files, and members of tar and parquet files, which are read when they are requested."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow.parquet as pq

from ..utils.secrets import describe_file_error, strip_url_secrets
from .readers.files import image_suffixes
from .remote_files import open_for_parts, read_part


@dataclass(frozen=True)
class ImageEntry:
    """
    One image.

    Attributes:
        name (`str`): Unique name, a relative path without a suffix.
        file (`str`): Path of the image file, or path or URL of the tar or parquet file that contains the image. A URL
            may contain a token; see `location`.
        member (`str`): Name of the image inside the file; empty for an image file.
        position (`tuple[int, int]`): Offset and size in bytes inside a tar file, or row group and row inside a
            parquet file; zeros for an image file.
        column (`str`): Image column of a parquet file; empty otherwise.
    """

    name: str
    file: str
    member: str = ""
    position: tuple[int, int] = (0, 0)
    column: str = ""

    @property
    def is_file(self) -> bool:
        """Return whether the image is a file of its own."""
        return not self.member

    @property
    def suffix(self) -> str:
        """Suffix of the image's file name, such as `.jpg`; empty if the name has no suffix of an image."""
        suffix = PurePosixPath(self.member or self.file).suffix
        return suffix if suffix.lower() in image_suffixes() else ""

    @property
    def location(self) -> str:
        """The file; of a URL without user name, password, query and fragment, which may contain a token."""
        return strip_url_secrets(self.file)

    @property
    def path(self) -> str:
        """Absolute path of the image file; a member lies in a folder with the name of its tar or parquet file."""
        if self.is_file:
            return resolve_folder(self.file)
        _, is_url, path = self.location.rpartition("://")
        folder = os.path.splitext(_normalize(path) if is_url else resolve_folder(path))[0]
        return folder + _normalize(self.member)

    def __str__(self) -> str:
        return self.file if self.is_file else f"{self.location}: {self.member}"

    def identity(self) -> list:
        """Return path, size and modification time, `None` for a missing file; a change repeats the prediction."""
        member = [] if self.is_file else [self.member, *self.position]
        if "://" in self.file:
            return [self.location, *member]
        try:
            stat = os.stat(self.file)
        except OSError:
            return [resolve_path(self.file), None, None, *member]
        return [resolve_path(self.file), stat.st_size, stat.st_mtime_ns, *member]

    def load(self) -> Path | bytes:
        """
        Return the image file, or the content of a member.

        Raises:
            `ValueError`: If the tar or parquet file cannot be read.
        """
        if self.is_file:
            return Path(self.file)
        try:
            return self._read_parquet() if self.column else self._read_tar()
        except Exception as error:  # fsspec raises the errors of each protocol
            cause = None if "://" in self.file else error  # its text may contain a token
            raise ValueError(f"the image {self} cannot be read ({describe_file_error(error)})") from cause

    def _read_tar(self) -> bytes:
        return read_part(self.file, *self.position)

    def _read_parquet(self) -> bytes:
        group, row = self.position
        value = _read_column(self.file, group, self.column)[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content:
            return content
        path = value.get("path") if isinstance(value, dict) else None
        if not path or "://" in self.file:
            raise ValueError("the row has no image")
        return (Path(self.file).parent / path).read_bytes()


def _normalize(path: str) -> str:
    """Return an absolute path without `..` and with one leading slash, because names become paths of outputs."""
    return os.path.normpath("/" + path.replace("\\", "/").replace("\0", "_").lstrip("/"))


@functools.lru_cache(maxsize=2)  # images are read in their order
def _read_column(file: str, group: int, column: str):
    with open_for_parts(file) as stream:
        return pq.ParquetFile(stream).read_row_group(group, columns=[column]).column(0)


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def resolve_path(file: str) -> str:
    """Resolve a path; a folder is resolved once for all files in it."""
    return os.path.realpath(file) if os.path.islink(file) else resolve_folder(file)


def resolve_folder(file: str) -> str:
    """Resolve the folder of a path; a file that is a symbolic link keeps its name."""
    folder, name = os.path.split(os.path.abspath(file))
    return os.path.join(_real_folder(folder), name)
