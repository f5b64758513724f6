"""Image checks: copies, EXIF rotation, channels that a model does not use, and files without annotations."""

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from datasets import Dataset, Image
from PIL import ExifTags, ImageOps
from PIL import Image as PILImage

from ...utils.console import progress_bar
from ...utils.text import list_some
from ..readers.files import images_in
from .findings import Finding


MAX_REMEMBERED = 100_000  # image files whose properties are computed once, about 60 MB
_TURNS = ("", ", turned 90° clockwise,", ", turned 180°,", ", turned 90° counterclockwise,")


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


def look_at(value: dict) -> Picture | None:
    """
    Compute the properties of an image.

    Args:
        value (`dict`): Undecoded image `{"bytes", "path"}`.

    Returns:
        `Picture` or `None`: `None` if the image cannot be read, which the reader has reported already.
    """
    if value["bytes"]:
        return _describe_picture(value["bytes"])
    try:
        state = os.stat(value["path"])
    except (OSError, ValueError, TypeError):
        return None
    return _describe_file(value["path"], state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=MAX_REMEMBERED)
def _describe_file(path: str, _size: int, _modified: int) -> Picture | None:
    """Compute the properties of a file, once as long as its size and its time of modification are the same."""
    try:
        return _describe_picture(Path(path).read_bytes())
    except OSError:
        return None


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


def check_pictures(splits: dict[str, Dataset]) -> Iterator[Finding]:
    """
    Find copies within and between splits, images with EXIF rotation, and unusual channels.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.

    Yields:
        `Finding`: Each defect.
    """
    seen: dict[str, tuple[str, str]] = {}
    by_hash: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for split, rows in splits.items():
        with ThreadPoolExecutor(max_workers=4) as pool:
            caption = f"checking images of {split}"
            pictures = progress_bar(seen_pictures(pool, rows), total=len(rows), caption=caption)
            for name, (_, picture) in zip(rows["example_id"], pictures, strict=True):
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
                relation, near = next(near_pictures(by_hash, picture.hashes), ("", None))
                if near is not None:
                    yield _copy(relation, split, name, *near)
                by_hash[picture.hashes[0]].append((split, name))


def can_decode_all(images: list[Path], caption: str) -> bool:
    """
    Decode image files at a low resolution, and remember their properties for the later checks.

    Args:
        images (`list[Path]`): The files.
        caption (`str`): Text before the progress bar.

    Returns:
        `bool`: Whether every image can be decoded; `False` for more than `MAX_REMEMBERED` images, which are not read.
    """
    if len(images) > MAX_REMEMBERED:
        return False
    values = [{"bytes": None, "path": str(image)} for image in images]
    with ThreadPoolExecutor(max_workers=4) as pool:
        pictures = progress_bar(pool.map(look_at, values), total=len(values), caption=caption)
        return sum(picture is None for picture in pictures) == 0


def seen_pictures(pool: ThreadPoolExecutor, rows: Dataset) -> Iterator[tuple[dict, Picture | None]]:
    """
    Compute the properties of the images of all rows, with a few images at a time in memory.

    Args:
        pool (`ThreadPoolExecutor`): Threads that read the images.
        rows (`datasets.Dataset`): Rows with a column `image`.

    Yields:
        `tuple[dict, Picture | None]`: The undecoded image `{"bytes", "path"}` and what [`look_at`] returns.
    """
    undecoded = rows.select_columns("image").cast_column("image", Image(decode=False))
    for begin in range(0, len(undecoded), 64):
        values = [row["image"] for row in undecoded.select(range(begin, min(begin + 64, len(undecoded))))]
        yield from zip(values, pool.map(look_at, values), strict=True)


def undecoded_images(rows: Dataset) -> Iterable[dict]:
    """
    Return the images of all rows as `{"bytes", "path"}`.

    Args:
        rows (`datasets.Dataset`): Rows with a column `image`.
    """
    return rows.select_columns("image").cast_column("image", Image(decode=False))["image"]


def near_pictures(by_hash: dict[int, list], hashes: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    """
    Find images whose difference hash is equal or one bit away, under rotation and mirroring.

    Images of nearly uniform colour are ignored because their hash contains no information.

    Args:
        by_hash (`dict[int, list]`): Hash of an upright image, the first of `Picture.hashes`, to entries of the caller.
        hashes (`tuple[int, ...]`): `Picture.hashes` of the image to compare.

    Yields:
        `tuple[str, object]`: Description of the relation, and the first entry of a near hash.
    """
    for orientation, value in enumerate(hashes):
        if not 8 <= value.bit_count() <= 56:
            continue
        for neighbour in (value, *(value ^ (1 << i) for i in range(64))):
            if by_hash.get(neighbour):
                turn = ", mirrored," if orientation >= 4 else _TURNS[orientation]
                yield f"looks the same{turn} as", by_hash[neighbour][0]


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
    used, split_of_folder = {path.resolve() for path in skipped}, {}
    for split, rows in splits.items():
        for value in undecoded_images(rows):
            if value["path"] and not value["bytes"]:
                path = Path(value["path"]).resolve()
                used.add(path)
                split_of_folder.setdefault(path.parent, split)
    for split, folder in unread.items():
        split_of_folder.setdefault(folder.resolve(), split)
    for folder, split in split_of_folder.items():
        files = [file for file in images_in(folder) if file.resolve() not in used and file.parent.resolve() == folder]
        if files:
            record = f"{len(files)} images, such as {list_some(file.name for file in files)}"
            kind = "images that no annotation lists"
            yield Finding(kind, split, record, "not used", number=len(files), file=str(folder))


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
        for name, value in zip(rows["example_id"], undecoded_images(rows), strict=True):
            source = roboflow_source(value["path"])
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
