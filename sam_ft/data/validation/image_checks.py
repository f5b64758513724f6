"""Defects of images: copies, turned ones, channels that a model does not see, files that nobody labelled."""

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
    What one pass over an image file says.

    Attributes:
        digest (`str`): of its bytes. orientation (`int`): EXIF's.
        looks (`tuple[int, ...]`): 64-bit difference hashes of it and of its quarter turns; then of its mirror image and of that one's.
        oddity (`str`): what is unusual about its channels; empty where nothing is.
    """

    digest: str
    orientation: int
    looks: tuple[int, ...]
    oddity: str


def look_at(value: dict) -> Picture | None:
    """Reads an undecoded image; `None` where it cannot be read, which reading the data has reported."""
    try:
        content = value["bytes"] or Path(value["path"]).read_bytes()
        with PILImage.open(io.BytesIO(content)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.draft("RGB", (72, 72))
            oddity = _oddity_of(image)
            small = image.convert("L").resize((9, 9), PILImage.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, TypeError, PILImage.DecompressionBombError):
        return None
    grey = np.asarray(small, dtype=np.int16)
    turned = [np.rot90(side, turn) for side in (grey, grey[:, ::-1]) for turn in range(4)]
    return Picture(
        hashlib.blake2b(content, digest_size=16).hexdigest(), orientation, tuple(map(_difference_hash, turned)), oddity
    )


def _difference_hash(grey: np.ndarray) -> int:
    bits = (grey[:8, 1:] > grey[:8, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _oddity_of(image: PILImage.Image) -> str:
    if image.mode in ("RGBA", "LA", "PA", "La"):
        lowest, _ = image.getchannel(image.getbands()[-1]).getextrema()
        kind = "opaque" if lowest == 255 else "partly transparent; what lies beneath is shown"
        return f"alpha channel, {kind}{', and grey' * (image.mode == 'RGBA' and _is_grey(image.convert('RGB')))}"
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return "more than 8 bits a channel; scaled to 8 by its own range"
    if image.mode == "RGB" and _is_grey(image):
        return "grey stored as colour"
    return ""


def _is_grey(image: PILImage.Image) -> bool:
    values = np.asarray(image.resize((72, 72), PILImage.Resampling.BILINEAR), dtype=np.int16)
    return bool(np.ptp(values, axis=-1).max() <= 2)


def check_pictures(splits: dict[str, Dataset], progress: Callable = iter) -> Iterator[Finding]:
    """Copies within and between splits, rotated images, odd channels. `progress` wraps the walk over all images, for a bar."""
    seen: dict[str, tuple[str, str]] = {}
    looks: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for split, rows in splits.items():
        odd = defaultdict(list)
        with ThreadPoolExecutor(max_workers=4) as pool:
            names = rows["example_id"]
            for name, (_, picture) in zip(names, progress(seen_pictures(pool, rows)), strict=True):
                if picture is None:
                    continue
                if picture.oddity:
                    odd[picture.oddity].append(name)
                if picture.orientation != 1:
                    detail = "turned upright when read; its annotations must be upright, too"
                    yield Finding("rotated by EXIF", split, name, detail)
                if picture.digest in seen:
                    yield _copy("the same file as", split, name, *seen[picture.digest])
                    continue
                seen[picture.digest] = (split, name)
                how, near = next(near_pictures(looks, picture.looks), ("", None))
                if near is not None:
                    yield _copy(how, split, name, *near)
                looks[picture.looks[0]].append((split, name))
        for oddity, names in odd.items():
            number = f"{len(names)} of {len(rows)}, such as {', '.join(names[:3])}"
            yield Finding("channels of images", split, number, oddity)


def seen_pictures(pool: ThreadPoolExecutor, rows: Dataset) -> Iterator[tuple[dict, Picture | None]]:
    """
    Look at the images of all rows; a few at a time are in memory.

    Args:
        pool (`ThreadPoolExecutor`): Reads the images.
        rows (`datasets.Dataset`): With a column `image`.

    Yields:
        `tuple[dict, Picture | None]`: The undecoded image `{"bytes", "path"}` and what [`look_at`] returns.
    """
    undecoded = rows.select_columns("image").cast_column("image", Image(decode=False))
    for begin in range(0, len(undecoded), 64):
        values = [row["image"] for row in undecoded.select(range(begin, min(begin + 64, len(undecoded))))]
        yield from zip(values, pool.map(look_at, values), strict=True)


def near_pictures(known: dict[int, list], looks: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    """
    Find pictures whose difference hash is equal or one bit away, however a picture is turned; flat ones, whose hash
    contains no information, are never found.

    Args:
        known (`dict[int, list]`): Hash of a picture as it is, the first of [`Picture`]'s `looks` -> entries of the
            caller.
        looks (`tuple[int, ...]`): Of the picture to compare.

    Yields:
        `tuple[str, object]`: In words how the picture is turned, and the first entry of a hash that is near.
    """
    for number, look in enumerate(looks):
        if not 8 <= look.bit_count() <= 56:
            continue
        for other in (look, *(look ^ (1 << i) for i in range(64))):
            if known.get(other):
                how = ", mirrored," if number >= 4 else _TURNS[number]
                yield f"looks the same{how} as", known[other][0]


def roboflow_source(path: str | Path | None) -> str | None:
    """Return the source of an augmented copy, which Roboflow names `SOURCE.rf.HASH`; `None` for other names."""
    stem, separator, _ = Path(path or "").name.partition(".rf.")
    return stem if separator else None


def _copy(how: str, split: str, name: str, other_split: str, other: str) -> Finding:
    if split == other_split:
        return Finding("image twice", split, name, f"{how} {other}")
    detail = f"{how} {other} of {other_split}: metrics will be optimistic"
    return Finding("leak between splits", split, name, detail, usable=not how.startswith("the same file"))


def check_unlisted(splits: dict[str, Dataset], unread: dict[str, Path]) -> Iterator[Finding]:
    """
    Images that lie beside those of a split and are in none: nobody labelled them, or their names are written differently. Those
    of a split that cannot be read are told, too; `unread`: its name and the folder it was read from.
    """
    used, places = set(), {}
    for split, rows in splits.items():
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            if value["path"] and not value["bytes"]:
                path = Path(value["path"]).resolve()
                used.add(path)
                places.setdefault(path.parent, split)
    for split, folder in unread.items():
        places.setdefault(folder.resolve(), split)
    for place, split in places.items():
        bare = [file for file in images_in(place) if file.resolve() not in used and file.parent.resolve() == place]
        if bare:
            record = f"{len(bare)} in {place}, such as {bare[0].name}"
            yield Finding("images that no annotation lists", split, record, "they are left out")


def check_sources(splits: dict[str, Dataset]) -> Iterator[Finding]:
    """Augmented copies, which Roboflow names SOURCE.rf.HASH: in two splits they are a leak."""
    where: dict[str, Counter] = defaultdict(Counter)
    for split, rows in splits.items():
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            source = roboflow_source(value["path"])
            if source is not None:
                where[source][split] += 1
    for split in splits:
        shared = [stem for stem, counts in where.items() if counts[split] and len(counts) > 1]
        own = [stem for stem, counts in where.items() if counts[split] > 1]
        if shared and split != next(iter(where[shared[0]])):
            record = f"{len(shared)} sources, such as {shared[0]}"
            yield Finding(
                "leak between splits",
                split,
                record,
                "augmented copies of one picture are in several splits: metrics will be optimistic",
            )
        if own:
            record = f"{len(own)} sources, such as {own[0]}"
            yield Finding(
                "augmented copies",
                split,
                record,
                "Roboflow made several files of one picture; sam_ft augments by itself",
            )
