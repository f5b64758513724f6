"""Defects of a data set that can be read, and still would train a worse model."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from pycocotools import mask as coco_mask

from ...ops.masks import decode_mask, to_coco_rle
from ..reading_report import DataReport
from ..samples.transforms import Geometry


LOSS_SIDE = 288  # px of SAM 3's mask loss at 1008 px
NEAR_IDENTICAL = 0.9  # IoU of two masks of one phrase
_BLOCK = 512  # masks that are compared with all others at a time
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
        number (`int`): of the records it stands for.
    """

    kind: str
    split: str
    record: str
    detail: str
    usable: bool = True
    number: int = 1


def check_report(split: str, report: DataReport, skipped: bool) -> Iterator[Finding]:
    """What reading a split found out; `skipped`: rows that cannot be used may be left out."""
    for text in report.skipped:
        yield Finding("rows that cannot be used", split, "", text, usable=skipped)
    for remark in report.remarks:
        yield Finding(remark.kind, split, remark.record, remark.detail)
    for kind, number in report.odd.items():
        listed = sum(remark.kind == kind for remark in report.remarks)
        if number > listed:
            yield Finding(kind, split, f"{number - listed} more", "the first are listed", number=number - listed)


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
        for begin in range(0, len(rles), _BLOCK):
            block = rles[begin : begin + _BLOCK]
            overlap = np.triu(coco_mask.iou(block, rles, [0] * len(rles)), begin + 1)
            for a, b in np.argwhere(overlap > NEAR_IDENTICAL):
                same = "identical" if overlap[a, b] == 1 else f"IoU {overlap[a, b]:.2f}"
                record = f"{row['example_id']}, {phrase['text']!r} {held[begin + a]} and {held[b]}"
                yield Finding("instance twice", split, record, same)


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
