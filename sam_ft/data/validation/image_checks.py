"""Image checks: copies, EXIF rotation, channels that a model does not use, and files without annotations."""

import contextlib
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Image
from PIL import ExifTags, ImageOps
from PIL import Image as PILImage

from ...utils.console import progress_bar
from ...utils.parallel import mapped_chunks
from ...utils.text import list_some
from ..readers.files import images_in
from ..readers.image_roots import RealPaths
from ..row_schema import image_paths
from .findings import Finding
from .similar_hashes import SimilarHashes


MAX_REMEMBERED = 100_000  # image files whose properties are computed once, about 60 MB


@dataclass
class Picture:
    """
    Properties of an image file, from one pass over it.

    Attributes:
        digest (`str`): Digest of its bytes.
        orientation (`int`): EXIF orientation; 1 is upright.
        hashes (`tuple[int, ...]`): 64-bit difference hashes of the image and its three quarter turns, then of the
            mirrored image and its quarter turns.
        channel_note (`str`): Unusual property of its channels; empty if there is none.
    """

    digest: str
    orientation: int
    hashes: tuple[int, ...]
    channel_note: str


_remembered: dict[tuple[str, int, int], Picture | None] = {}  # by the result of `_file_key`


def _look_at(value: dict, key: tuple[str, int, int] | None) -> Picture | None:
    """
    Compute the properties of an image, those of a file once as long as its size and time of modification are the same.

    Args:
        value (`dict`): Undecoded image `{"bytes", "path"}`.
        key (`tuple`, *optional*): Result of [`_file_key`].

    Returns:
        `Picture` or `None`: `None` if the image cannot be read, which the reader has reported already.
    """
    if value["bytes"]:
        return _describe_picture(value["bytes"])
    if key is None or key in _remembered:
        return _remembered.get(key)
    try:
        return _describe_picture(Path(value["path"]).read_bytes())
    except OSError:
        return None


def _file_key(value: dict) -> tuple[str, int, int] | None:
    """Return path, size and time of modification of an image file; `None` if it is embedded or does not exist."""
    if value["bytes"]:
        return None
    try:
        state = os.stat(value["path"])
    except (OSError, ValueError, TypeError):
        return None
    return str(value["path"]), state.st_size, state.st_mtime_ns


def _remember(pictures: Iterable[tuple[tuple | None, Picture | None]]) -> None:
    """Remember the properties of files by the results of `_file_key`, those of the latest `MAX_REMEMBERED` files."""
    for key, picture in pictures:
        if key is not None and key not in _remembered:
            _remembered[key] = picture
            if len(_remembered) > MAX_REMEMBERED:
                del _remembered[next(iter(_remembered))]


def _describe_picture(content: bytes) -> Picture | None:
    try:
        with PILImage.open(io.BytesIO(content)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.draft("RGB", (72, 72))
            channel_note = _describe_channels(image)
            if orientation != 1:
                image = ImageOps.exif_transpose(image)  # so that an upright copy has the same hash
            small = image.convert("L").resize((9, 9), PILImage.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, TypeError, PILImage.DecompressionBombError):
        return None
    grey = np.asarray(small, dtype=np.int16)
    turned = [np.rot90(side, turn) for side in (grey, grey[:, ::-1]) for turn in range(4)]
    return Picture(
        hashlib.blake2b(content, digest_size=16).hexdigest(),
        orientation,
        tuple(map(_difference_hash, turned)),
        channel_note,
    )


def _difference_hash(grey: np.ndarray) -> int:
    return int.from_bytes(np.packbits(grey[:8, 1:] > grey[:8, :-1]).tobytes(), "big")


def _describe_channels(image: PILImage.Image) -> str:
    if image.mode in ("RGBA", "LA", "PA", "La"):
        lowest, _ = image.getchannel(image.getbands()[-1]).getextrema()
        kind = "opaque" if lowest == 255 else "partly transparent; the colours beneath are used"
        return f"alpha channel, {kind}{', and grey' * (image.mode == 'RGBA' and _is_grey(image.convert('RGB')))}"
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return "more than 8 bits per channel; scaled to 8 by the range of the image"
    if image.mode == "RGB" and _is_grey(image):
        return "grey stored as colour"
    return ""


def _is_grey(image: PILImage.Image) -> bool:
    values = np.asarray(image.resize((72, 72), PILImage.Resampling.BILINEAR), dtype=np.int16)
    return bool(np.ptp(values, axis=-1).max() <= 2)


def check_pictures(splits: dict[str, Dataset], num_proc: int | None = None) -> Iterator[Finding]:
    """
    Find copies within and between splits, images with EXIF rotation, and unusual channels.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Yields:
        `Finding`: Each defect.
    """
    seen: dict[str, tuple[str, str]] = {}
    similar = SimilarHashes[tuple[str, str]]()
    for split, rows in splits.items():
        with seen_pictures(rows, num_proc) as looked_at:
            pictures = progress_bar(looked_at, total=len(rows), caption=f"checking images of {split}")
            for name, (_, picture) in zip(rows["example_id"][:], pictures, strict=True):
                if picture is None:
                    continue
                if picture.channel_note:
                    yield Finding("channels of images", split, name, picture.channel_note, example_id=name)
                if picture.orientation != 1:
                    detail = f"EXIF orientation {picture.orientation}"
                    yield Finding("rotated by EXIF", split, name, detail, example_id=name)
                if picture.digest in seen:
                    yield _copy("the same file as", split, name, *seen[picture.digest])
                    continue
                seen[picture.digest] = (split, name)
                relation, near = next(similar.find(picture.hashes), ("", None))
                if near is not None:
                    yield _copy(relation, split, name, *near)
                similar.add(picture.hashes, (split, name))


def can_decode_all(images: list[Path], caption: str, num_proc: int | None = None) -> bool:
    """
    Decode image files at a low resolution, and remember their properties for the later checks.

    Args:
        images (`list[Path]`): The files.
        caption (`str`): Text before the progress bar.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `bool`: Whether every image can be decoded; `False` for more than `MAX_REMEMBERED` images, which are not read.
    """
    if len(images) > MAX_REMEMBERED:
        return False

    def look(indices: range) -> list[tuple[tuple | None, Picture | None]]:
        values = [{"bytes": None, "path": str(images[i])} for i in indices]
        return [(key, _look_at(value, key)) for value in values for key in [_file_key(value)]]

    can_decode = True
    with (
        progress_bar(total=len(images), caption=caption) as bar,
        mapped_chunks(look, len(images), num_proc) as chunks,
    ):
        for chunk in chunks:
            _remember(chunk)
            can_decode &= all(picture is not None for _, picture in chunk)
            bar.update(len(chunk))
    return can_decode


@contextlib.contextmanager
def seen_pictures(rows: Dataset, num_proc: int | None = None) -> Iterator[Iterator[tuple[str | None, Picture | None]]]:
    """
    Compute the properties of the images of all rows, with a few images at a time in memory.

    Args:
        rows (`datasets.Dataset`): Rows with a column `image`.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Yields:
        `Iterator[tuple[str | None, Picture | None]]`: Path of each image and its properties, `None` if it cannot be
            read.
    """
    undecoded = rows.select_columns("image").cast_column("image", Image(decode=False))

    def look(indices: range) -> list[tuple[tuple | None, Picture | None, str | None]]:
        values = undecoded[indices.start : indices.stop]["image"]
        return [(key, _look_at(value, key), value["path"]) for value in values for key in [_file_key(value)]]

    def remember(chunks: Iterator[list[tuple]]) -> Iterator[tuple[str | None, Picture | None]]:
        for chunk in chunks:
            _remember((key, picture) for key, picture, _ in chunk)
            yield from ((path, picture) for _, picture, path in chunk)

    def recall() -> Iterator[tuple[str | None, Picture | None]]:
        for index, (path, is_file) in enumerate(image_paths(rows)):
            value = {"bytes": None, "path": path} if is_file else undecoded[index]["image"]
            key = _file_key(value)
            picture = _look_at(value, key)
            _remember([(key, picture)])
            yield path, picture

    # Transferring remembered properties from another process takes as long as finding them.
    if len(rows) > 0 and _file_key(undecoded[0]["image"]) in _remembered:
        yield recall()
        return
    with mapped_chunks(look, len(rows), num_proc) as chunks:
        yield remember(chunks)


def roboflow_source(path: str | Path | None) -> str | None:
    """
    Return the source of an augmented copy, which Roboflow names `SOURCE.rf.HASH`.

    Args:
        path (`str`, `Path` or `None`): Image file.

    Returns:
        `str` or `None`: `SOURCE`; `None` for other names.
    """
    stem, separator, _ = Path(path or "").name.partition(".rf.")
    return stem if separator else None


def _copy(relation: str, split: str, name: str, other_split: str, other: str) -> Finding:
    pair = {"example_id": name, "other": (other_split, other)}
    if split == other_split:
        return Finding("duplicate image", split, name, f"{relation} {other}", **pair)
    is_usable = not relation.startswith("the same file")
    return Finding("leak between splits", split, name, f"{relation} {other} of {other_split}", is_usable, **pair)


def check_unlisted(
    splits: dict[str, Dataset], unread: dict[str, Path], skipped: Iterable[Path] = ()
) -> Iterator[Finding]:
    """
    Find images without annotations in the folders of the splits; they are unlabelled, or a name is misspelt.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.
        unread (`dict[str, Path]`): Split that cannot be read to its image folder.
        skipped (`Iterable[Path]`): Images of rows that cannot be used, which are a finding of their own.

    Yields:
        `Finding`: One for each folder with such images.
    """
    real_paths = RealPaths()
    used, split_of_folder = set(map(real_paths.resolve, skipped)), {}
    given = {os.path.realpath(folder): str(folder) for folder in unread.values()}
    for split, rows in splits.items():
        for path, is_file in image_paths(rows):
            if is_file:
                real = real_paths.resolve(Path(path))
                used.add(real)
                split_of_folder.setdefault(os.path.dirname(real), split)
    for split, folder in unread.items():
        split_of_folder.setdefault(os.path.realpath(folder), split)
    for folder, split in split_of_folder.items():
        real_files = ((file, real_paths.resolve(file)) for file in images_in(Path(folder)))
        files = [file for file, real in real_files if real not in used and real_paths.folder(file) == folder]
        if files:
            record = f"{len(files)} images, such as {list_some(file.name for file in files)}"
            kind = "images that no annotation lists"
            yield Finding(kind, split, record, "not used", number=len(files), file=given.get(folder, folder))


def check_sources(splits: dict[str, Dataset]) -> Iterator[Finding]:
    """
    Find augmented copies by the file names of Roboflow; copies in two splits are a leak.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.

    Yields:
        `Finding`: One for each source and split with such copies.
    """
    copies_of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split, rows in splits.items():
        for name, (path, _) in zip(rows["example_id"][:], image_paths(rows), strict=True):
            source = roboflow_source(path)
            if source is not None:
                copies_of[source][split].append(name)
    for source, names_of in copies_of.items():
        first_split, first_names = next(iter(names_of.items()))
        for split, names in names_of.items():
            if split != first_split:
                detail = f"augmented copy of the source of {first_names[0]} of {first_split}"
                yield Finding(
                    "leak between splits", split, source, detail, number=len(names), example_id=names[0],
                    other=(first_split, first_names[0]),
                )  # fmt: skip
            if len(names) > 1:
                yield Finding(
                    "augmented copies", split, source, f"{len(names)} files of one image", number=len(names),
                    example_id=names[1], other=(split, names[0]),
                )  # fmt: skip
