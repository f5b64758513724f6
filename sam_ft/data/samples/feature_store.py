"""Cache of frozen-encoder features on disk: computed once for each view of an image, and read in every epoch."""

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from datasets import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...utils.files import write_atomically
from ...utils.json_files import write_json


INDEX = "cache.json"


class FeatureStore:
    """
    Folder of safetensors files, one for each (example, view), with a fingerprint of their inputs.

    Args:
        folder (`str` or `Path`): Folder of the cache; created if it does not exist.
        fingerprint (`dict[str, str]`): Digests of all inputs by name, see [`fingerprint_of`].
        views (`int`): Number of views of each example; an epoch reads view `epoch % views`. Default: 1.

    Raises:
        `ValueError`: If the folder contains tensors with another fingerprint. The message names the difference.
    """

    def __init__(self, folder: str | Path, fingerprint: dict[str, str], views: int = 1):
        self.folder, self.views = Path(folder), views
        index = self.folder / INDEX
        if index.is_file():
            stored = _read_index(index)
            differing = sorted(name for name in {**stored, **fingerprint} if stored.get(name) != fingerprint.get(name))
            if differing:
                raise ValueError(
                    f"`feature_cache`: {self.folder} was computed from other {' and '.join(differing)}. Set "
                    "`feature_cache` to a folder of this data, or delete this one to compute it again"
                )
            return
        with _explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(index, fingerprint, indent=1)

    @classmethod
    def find(cls, folder: str | Path) -> "FeatureStore | None":
        """Return the cache of a folder with its fingerprint, for its first views; `None` if there is none."""
        index = Path(folder) / INDEX
        return cls(folder, _read_index(index)) if index.is_file() else None

    def missing(self, example_ids: Iterable[str]) -> list[tuple[int, int]]:
        """
        List the tensors that the folder does not contain yet.

        Args:
            example_ids (`Iterable[str]`): Examples of the data set, in order.

        Returns:
            `list[tuple[int, int]]`: `(index of the example, view)` of each.
        """
        views = range(self.views)
        return [
            (i, view) for i, name in enumerate(example_ids) for view in views if not self._file(name, view).is_file()
        ]

    def write(self, example_id: str, view: int, features: torch.Tensor) -> None:
        """
        Write a tensor to a file that appears complete or not at all.

        Args:
            example_id (`str`): Example.
            view (`int`): View of its image.
            features (`torch.Tensor`): Features of the view.

        Raises:
            `ValueError`: If the disk is full or the folder is not writable. Earlier files remain, and the next run
                continues from them.
        """
        tensors = {"features": features.contiguous().cpu()}
        with _explain_write_errors(self.folder):
            write_atomically(self._file(example_id, view), lambda file: save_file(tensors, file))

    def read(self, example_id: str, view: int) -> torch.Tensor:
        """
        Read a tensor.

        Args:
            example_id (`str`): Example.
            view (`int`): View of its image.

        Raises:
            `ValueError`: If the tensor is missing or damaged. The message names the file.
        """
        file = self._file(example_id, view)
        try:
            return load_file(file)["features"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(
                f"`feature_cache`: {file} (example {example_id!r}, view {view}) cannot be read ({error}). Delete it "
                "and start again; it is computed again"
            ) from error

    def remove(self, example_ids: Iterable[str]) -> None:
        """
        Remove the tensors of examples.

        Args:
            example_ids (`Iterable[str]`): Examples; those without tensors are ignored.
        """
        for name in example_ids:
            for view in range(self.views):
                self._file(name, view).unlink(missing_ok=True)

    def _file(self, example_id: str, view: int) -> Path:
        name = hashlib.blake2b(example_id.encode(), digest_size=10).hexdigest()
        return self.folder / f"{name}-{view}.safetensors"


def check_is_cache(folder: Path) -> None:
    """
    Check that a folder is empty or contains feature caches.

    Args:
        folder (`Path`): Folder of the caches; empty folders in it are ignored.

    Raises:
        `ValueError`: If it contains something else.
    """
    content = [path for path in folder.iterdir() if path.is_file() or any(path.iterdir())] if folder.is_dir() else []
    if content and not any((path / INDEX).is_file() for path in content):
        raise ValueError(
            f"`feature_cache`: {folder} contains {content[0].name} and no cache. Choose another folder, or empty it"
        )


@contextlib.contextmanager
def _explain_write_errors(folder: Path):
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise ValueError(
                f"`feature_cache`: no space left in {folder}. Free some space, or lower `cache_views`; the same "
                "command continues from the files that are already written"
            ) from error
        raise ValueError(f"`feature_cache`: {folder} cannot be written ({error}). Choose another folder") from error


def _read_index(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"`feature_cache`: {index} cannot be read ({error}). Delete {index.parent}") from error


def fingerprint_of(parts: Iterable[bytes | str]) -> str:
    """
    Compute a short digest of bytes and texts.

    Args:
        parts (`Iterable[bytes | str]`): Content in its order.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def rows_fingerprint(rows) -> str:
    """
    Compute a digest of the example ids, sizes and image bytes of rows; masks do not count.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
    """
    undecoded = rows.cast_column("image", Image(decode=False))

    def parts():
        for row in undecoded:
            yield f"{row['example_id']} {row['width']}×{row['height']}"
            image = row["image"]
            yield image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

    return fingerprint_of(parts())
