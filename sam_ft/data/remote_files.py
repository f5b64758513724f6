"""Parts of files, local or by URL: only the bytes that are requested are fetched."""

from typing import IO

import fsspec
from fsspec.asyn import AsyncFileSystem


def open_for_parts(file: str) -> IO[bytes]:
    """
    Open a file of which parts are read; fsspec would fetch some MB more with each of them.

    Args:
        file (`str`): Path or URL.
    """
    filesystem, path = fsspec.url_to_fs(file)
    return filesystem.open(path, "rb", cache_type="none")


def read_part(file: str, offset: int, size: int) -> bytes:
    """
    Read a part of a file.

    Args:
        file (`str`): Path or URL.
        offset (`int`): First byte.
        size (`int`): Number of bytes.

    Raises:
        `ValueError`: If the file is shorter.
    """
    filesystem, path = fsspec.url_to_fs(file)
    if isinstance(filesystem, AsyncFileSystem):
        content = filesystem.cat_file(path, start=offset, end=offset + size)
        if len(content) > size:  # a server without ranges sends the whole file
            content = content[offset : offset + size]
    else:
        with open_for_parts(file) as stream:
            stream.seek(offset)
            content = stream.read(size)
    if len(content) != size:
        raise ValueError("the file is truncated")
    return content
