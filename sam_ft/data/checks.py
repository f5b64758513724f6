"""Defects of a data set that can be read, and still would train a worse model."""

import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Image
from PIL import ExifTags
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from ..ops.masks import decode_mask, to_coco_rle
from .readers.files import images_in
from .transforms import Geometry


LOSS_SIDE = 288  # px of SAM 3's mask loss at 1008 px
NEAR_IDENTICAL = 0.9  # IoU of two masks of one phrase
# words that say nothing of what an image shows
NO_PHRASES = frozenset(
    "background unlabeled unlabelled void ignore unknown other object objects thing things item items class label defect defects region mask loc roi area segment none".split()
)


@dataclass
class Finding:
    """
    Attributes:
        kind (`str`): of the defect, a few words. split (`str`): where. record (`str`): image and instance, or phrase.
        detail (`str`): what was found. usable (`bool`): false where the data should not be trained on as they are.
    """

    kind: str
    split: str
    record: str
    detail: str
    usable: bool = True


@dataclass
class Picture:
    """What one pass over an image file says: a digest of its bytes, a 64-bit difference hash, its EXIF orientation, its mode."""

    digest: str
    look: int
    orientation: int
    mode: str


def look_at(value: dict) -> Picture | None:
    """Reads an undecoded image; `None` where it cannot be read, which reading the data has reported."""
    try:
        content = value["bytes"] or Path(value["path"]).read_bytes()
        with PILImage.open(io.BytesIO(content)) as image:
            orientation, mode = image.getexif().get(ExifTags.Base.Orientation, 1), image.mode
            image.draft("L", (72, 64))
            small = np.asarray(image.convert("L").resize((9, 8), PILImage.Resampling.BILINEAR), dtype=np.int16)
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    look = int("".join("1" if bit else "0" for bit in bits), 2)
    return Picture(hashlib.blake2b(content, digest_size=16).hexdigest(), look, orientation, mode)


def check_pictures(splits: dict[str, Dataset], progress: Callable = iter) -> Iterator[Finding]:
    """Copies within and between splits, and rotated images. `progress` wraps the walk over all images, for a bar."""
    seen: dict[str, tuple[str, str]] = {}
    looks: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for split, rows in splits.items():
        undecoded = rows.select_columns(["example_id", "image"]).cast_column("image", Image(decode=False))
        with ThreadPoolExecutor(max_workers=4) as pool:
            for name, picture in progress(_seen(pool, undecoded)):
                if picture is None:
                    continue
                if picture.orientation != 1:
                    yield Finding(
                        "rotated by EXIF",
                        split,
                        name,
                        "turned upright when read; its annotations must be upright, too",
                    )
                if picture.digest in seen:
                    yield _copy("the same file", split, name, *seen[picture.digest])
                    continue
                seen[picture.digest] = (split, name)
                near = _near(looks, picture.look)
                if near is not None and near[2] != picture.digest:
                    yield _copy("looks the same", split, name, *near[:2])
                looks[picture.look].append((split, name, picture.digest))


def _seen(pool: ThreadPoolExecutor, rows: Dataset) -> Iterator[tuple[str, Picture | None]]:
    """Id and picture of each row; a few images at a time are in memory."""
    for begin in range(0, len(rows), 64):
        chunk = list(rows.select(range(begin, min(begin + 64, len(rows)))))
        yield from zip(
            (row["example_id"] for row in chunk), pool.map(lambda row: look_at(row["image"]), chunk), strict=True
        )


def _near(looks: dict, look: int) -> tuple | None:
    """An image whose difference hash is equal or one bit away; flat images, whose hash says nothing, never are."""
    if look.bit_count() < 8 or look.bit_count() > 56:
        return None
    if looks.get(look):
        return looks[look][0]
    for i in range(64):
        if looks.get(look ^ (1 << i)):
            return looks[look ^ (1 << i)][0]
    return None


def _copy(how: str, split: str, name: str, other_split: str, other: str) -> Finding:
    if split == other_split:
        return Finding("image twice", split, name, f"{how} as {other}")
    return Finding(
        "leak between splits",
        split,
        name,
        f"{how} as {other} of {other_split}: its scores will flatter",
        usable=how != "the same file",
    )


def check_unlisted(splits: dict[str, Dataset]) -> Iterator[Finding]:
    """Images that lie beside those of a split and are in none: nobody labelled them, or their names are written differently."""
    used, places = set(), {}
    for split, rows in splits.items():
        for value in rows.cast_column("image", Image(decode=False))["image"]:
            if value["path"] and not value["bytes"]:
                path = Path(value["path"]).resolve()
                used.add(path)
                places.setdefault(path.parent, split)
    for place, split in places.items():
        bare = [file for file in images_in(place) if file.resolve() not in used and file.parent.resolve() == place]
        if bare:
            yield Finding(
                "images that no annotation lists",
                split,
                f"{len(bare)} in {place}, such as {bare[0].name}",
                "they are left out",
            )


def check_rows(split: str, rows: Dataset, resolution: int, progress: Callable = iter) -> Iterator[Finding]:
    """Doubled instances, instances too small to be learned, images without anything; `resolution` is the model's, px."""
    empty = []
    for row in progress(rows.remove_columns("image")):
        if not any(phrase["instances"] for phrase in row["phrases"]):
            empty.append(row["example_id"])
        yield from _doubles(split, row)
        yield from _vanishing(split, row, LOSS_SIDE * resolution // 1008)
    if empty:
        detail = "right where they really show none of the phrases; check a few"
        yield Finding(
            "images without an instance", split, f"{len(empty)} of {len(rows)}, such as {', '.join(empty[:3])}", detail
        )


def _doubles(split: str, row: dict) -> Iterator[Finding]:
    for phrase in row["phrases"]:
        held = [
            i
            for i in phrase["instances"]
            if row["instances"][i]["segmentation"] and not row["instances"][i]["is_crowd"]
        ]
        if len(held) < 2:
            continue
        rles = [to_coco_rle(row["instances"][i]["segmentation"], row["height"], row["width"]) for i in held]
        overlap = np.triu(coco_mask.iou(rles, rles, [0] * len(rles)), 1)
        for a, b in np.argwhere(overlap > NEAR_IDENTICAL):
            same = "identical" if overlap[a, b] == 1 else f"IoU {overlap[a, b]:.2f}"
            yield Finding(
                "instance twice", split, f"{row['example_id']}, {phrase['text']!r} {held[a]} and {held[b]}", same
            )


def _vanishing(split: str, row: dict, side: int) -> Iterator[Finding]:
    share = side * side / (row["width"] * row["height"])
    whole = Geometry.whole(row["width"], row["height"], side)
    for i, instance in enumerate(row["instances"]):
        # the nearest pixel can miss what has up to some pixels there, never what has many
        if instance["segmentation"] is None or instance["is_crowd"] or instance["area"] * share > 9:
            continue
        left = int(whole.mask(decode_mask(instance["segmentation"], row["height"], row["width"])).sum())
        if left == 0:
            detail = f"{instance['area']:.0f} px of {row['width']}×{row['height']} are none at {side} px, where masks are learned"
            yield Finding("too small for the mask loss", split, f"{row['example_id']}, instance {i}", detail)


def check_phrases(split: str, rows: Dataset, too_long: Callable[[list[str]], list[str]]) -> Iterator[Finding]:
    """Phrases that SAM 3 cannot read as such; `too_long` picks those of more than 32 tokens."""
    texts = Counter(phrase["text"] for phrases in rows["phrases"] for phrase in phrases)
    for text in texts:
        problem = _problem_of(text)
        if problem:
            yield Finding("not a noun phrase", split, repr(text), f"{problem}; name it by `phrase_map`")
    for text in too_long(list(texts)):
        yield Finding("longer than 32 tokens", split, repr(text), "it is cut; shorten it by `phrase_map`")
    for text, (one, several) in _plurals(texts):
        yield Finding(
            "one thing under two names", split, repr(text), f"{one!r} and {several!r}; merge them by `phrase_map`"
        )


def _problem_of(text: str) -> str | None:
    words = text.split()
    if any(word in NO_PHRASES for word in words) and len(words) == 1:
        return "it says nothing of what is shown"
    if re.search(r"\d{2,}", text) or re.fullmatch(r"[\W\d_]+", text):
        return "it holds numbers, as ids do"
    if len(text) < 2 and text.isascii():
        return "it is shorter than a word"
    if any(re.search(r"[a-z]{2}\d|\d[a-z]{2}", word) for word in words):
        return "it looks like a code"
    return None


def _plurals(texts) -> Iterator[tuple[str, tuple[str, str]]]:
    for text in texts:
        for ending in ("s", "es"):
            if text + ending in texts:
                yield text, (text, text + ending)
