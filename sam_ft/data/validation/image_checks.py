"""Image checks: copies, EXIF rotation, channels that a model does not use, and files without annotations."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Image
from PIL import ExifTags
from PIL import Image as PILImage

from ..readers.files import images_in
from .row_checks import Finding


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
    try:
        content = value["bytes"] or Path(value["path"]).read_bytes()
        with PILImage.open(io.BytesIO(content)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.draft("RGB", (72, 72))
            channel_note = _describe_channels(image)
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
    bits = (grey[:8, 1:] > grey[:8, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


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


def check_pictures(splits: dict[str, Dataset], progress: Callable = iter) -> Iterator[Finding]:
    """
    Find copies within and between splits, images with EXIF rotation, and unusual channels.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.
        progress (`Callable`): Wraps the iteration over all images, for a progress bar.

    Yields:
        `Finding`: Each defect.
    """
    seen: dict[str, tuple[str, str]] = {}
    by_hash: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for split, rows in splits.items():
        names_by_note = defaultdict(list)
        with ThreadPoolExecutor(max_workers=4) as pool:
            names = rows["example_id"]
            for name, (_, picture) in zip(names, progress(seen_pictures(pool, rows)), strict=True):
                if picture is None:
                    continue
                if picture.channel_note:
                    names_by_note[picture.channel_note].append(name)
                if picture.orientation != 1:
                    detail = "rotated upright when it is read; its annotations must be upright too"
                    yield Finding("rotated by EXIF", split, name, detail)
                if picture.digest in seen:
                    yield _copy("the same file as", split, name, *seen[picture.digest])
                    continue
                seen[picture.digest] = (split, name)
                relation, near = next(near_pictures(by_hash, picture.hashes), ("", None))
                if near is not None:
                    yield _copy(relation, split, name, *near)
                by_hash[picture.hashes[0]].append((split, name))
        for note, names in names_by_note.items():
            record = f"{len(names)} of {len(rows)}, such as {', '.join(names[:3])}"
            yield Finding("channels of images", split, record, note)


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
    if split == other_split:
        return Finding("duplicate image", split, name, f"{relation} {other}")
    detail = f"{relation} {other} of {other_split}: metrics will be optimistic"
    return Finding("leak between splits", split, name, detail, usable=not relation.startswith("the same file"))


def check_unlisted(splits: dict[str, Dataset], unread: dict[str, Path]) -> Iterator[Finding]:
    """
    Find images without annotations in the folders of the splits; they are unlabelled, or a name is misspelt.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.
        unread (`dict[str, Path]`): Split that cannot be read to its image folder.

    Yields:
        `Finding`: One for each folder with such images.
    """
    used, split_of_folder = set(), {}
    for split, rows in splits.items():
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            if value["path"] and not value["bytes"]:
                path = Path(value["path"]).resolve()
                used.add(path)
                split_of_folder.setdefault(path.parent, split)
    for split, folder in unread.items():
        split_of_folder.setdefault(folder.resolve(), split)
    for folder, split in split_of_folder.items():
        files = [file for file in images_in(folder) if file.resolve() not in used and file.parent.resolve() == folder]
        if files:
            record = f"{len(files)} in {folder}, such as {files[0].name}"
            yield Finding("images that no annotation lists", split, record, "they are not used")


def check_sources(splits: dict[str, Dataset]) -> Iterator[Finding]:
    """
    Find augmented copies by the file names of Roboflow; copies in two splits are a leak.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.

    Yields:
        `Finding`: One for each split with such copies.
    """
    counts_of: dict[str, Counter] = defaultdict(Counter)
    for split, rows in splits.items():
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            source = roboflow_source(value["path"])
            if source is not None:
                counts_of[source][split] += 1
    for split in splits:
        shared = [stem for stem, counts in counts_of.items() if counts[split] and len(counts) > 1]
        repeated = [stem for stem, counts in counts_of.items() if counts[split] > 1]
        if shared and split != next(iter(counts_of[shared[0]])):
            record = f"{len(shared)} sources, such as {shared[0]}"
            yield Finding(
                "leak between splits",
                split,
                record,
                "augmented copies of one image are in several splits: metrics will be optimistic",
            )
        if repeated:
            record = f"{len(repeated)} sources, such as {repeated[0]}"
            yield Finding(
                "augmented copies",
                split,
                record,
                "Roboflow exported several augmented files of one image; sam_ft augments during training",
            )
