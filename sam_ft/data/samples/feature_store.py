"""Tensors of a frozen encoder on disk: computed once for each view of an image, read back in every epoch."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from datasets import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


INDEX = "cache.json"


class FeatureStore:
    """
    A folder of safetensors files, one for each (example, view), and the fingerprint of what they were computed from.

    Args:
        folder (`str` or `Path`): made where it is missing.
        fingerprint (`dict[str, str]`): what the tensors depend on, by name; see [`fingerprint_of`].
        views (`int`): of each example; an epoch reads view `epoch % views`.

    Raises:
        `ValueError`: where the folder holds tensors of another fingerprint; says what differs.
    """

    def __init__(self, folder: str | Path, fingerprint: dict[str, str], views: int = 1):
        self.folder, self.views = Path(folder), views
        index = self.folder / INDEX
        if index.is_file():
            held = _read_index(index)
            differing = sorted(name for name in {**held, **fingerprint} if held.get(name) != fingerprint.get(name))
            if differing:
                raise ValueError(
                    f"`feature_cache`: {self.folder} was computed from other {' and '.join(differing)}. Choose another folder, "
                    "or delete this one to compute it again"
                )
            return
        with _naming_a_full_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_whole(index, lambda file: file.write_text(json.dumps(fingerprint, indent=1), encoding="utf-8"))

    def missing(self, example_ids: Iterable[str]) -> list[tuple[int, int]]:
        """`(index, view)` of the tensors that are not there yet."""
        views = range(self.views)
        return [
            (i, view) for i, name in enumerate(example_ids) for view in views if not self._file(name, view).is_file()
        ]

    def write(self, example_id: str, view: int, features: torch.Tensor) -> None:
        """
        Stores a tensor, whole or not at all.

        Raises:
            `ValueError`: where the disk is full or not ours to write to; what was written stays and the next run goes on from it.
        """
        tensors = {"features": features.contiguous().cpu()}
        with _naming_a_full_disk(self.folder):
            _write_whole(self._file(example_id, view), lambda file: save_file(tensors, file))

    def read(self, example_id: str, view: int) -> torch.Tensor:
        """
        Raises:
            `ValueError`: where the tensor is missing or damaged; names the file.
        """
        file = self._file(example_id, view)
        try:
            return load_file(file)["features"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(
                f"`feature_cache`: {file} (example {example_id!r}, view {view}) cannot be read ({error}). Delete it and start "
                "again: it will be computed anew"
            ) from error

    def _file(self, example_id: str, view: int) -> Path:
        name = hashlib.blake2b(example_id.encode(), digest_size=10).hexdigest()
        return self.folder / f"{name}-{view}.safetensors"


def check_is_cache(folder: Path) -> None:
    """Raises `ValueError` for a folder that holds something else than stores; empty folders in it are no content."""
    found = [path for path in folder.iterdir() if path.is_file() or any(path.iterdir())] if folder.is_dir() else []
    if found and not any((path / INDEX).is_file() for path in found):
        raise ValueError(
            f"`feature_cache`: {folder} holds {found[0].name} and no cache. Choose another folder, or empty it"
        )


@contextlib.contextmanager
def _naming_a_full_disk(folder: Path):
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise ValueError(
                f"`feature_cache`: no space left in {folder}. Free some, or lower `cache_views`; what is written is kept, and the "
                "same command goes on from it"
            ) from error
        raise ValueError(f"`feature_cache`: {folder} cannot be written ({error}). Choose another folder") from error


def _write_whole(file: Path, write) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(draft)
        draft.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _read_index(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"`feature_cache`: {index} cannot be read ({error}). Delete {index.parent}") from error


def fingerprint_of(parts: Iterable[bytes | str]) -> str:
    """A short digest of bytes and texts, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def rows_fingerprint(rows) -> str:
    """A digest of the rows' example ids, sizes and image files, byte by byte; masks may change."""
    undecoded = rows.cast_column("image", Image(decode=False))

    def parts():
        for row in undecoded:
            yield f"{row['example_id']} {row['width']}×{row['height']}"
            image = row["image"]
            yield image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

    return fingerprint_of(parts())
