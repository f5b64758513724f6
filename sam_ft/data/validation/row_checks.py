"""Row checks: defects of readable data that would reduce the quality of a model."""

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


LOSS_SIDE = 288  # side of the mask loss of SAM 3 at 1008 px, px
NEAR_IDENTICAL = 0.9  # IoU of two masks of a phrase
_BLOCK = 512  # number of masks that are compared with all others at a time
# Class names without visual meaning.
NO_PHRASES = frozenset(
    (
        "background", "unlabeled", "unlabelled", "void", "ignore", "unknown", "other", "object", "objects", "thing",
        "things", "item", "items", "class", "label", "defect", "defects", "region", "mask", "loc", "roi", "area",
        "segment", "none",
    )
)  # fmt: skip


@dataclass
class Finding:
    """
    Defect of a data set.

    Attributes:
        kind (`str`): Kind of the defect, in a few words.
        split (`str`): Split that contains it.
        record (`str`): Image and instance, or phrase.
        detail (`str`): Description with the values.
        usable (`bool`): `False` if the data should not be used for training before it is fixed.
        number (`int`): Number of records with the defect.
    """

    kind: str
    split: str
    record: str
    detail: str
    usable: bool = True
    number: int = 1


def check_report(split: str, report: DataReport, skipped: bool) -> Iterator[Finding]:
    """
    Convert the report of a reader to findings.

    Args:
        split (`str`): Name of the split.
        report (`DataReport`): Report of the reader.
        skipped (`bool`): Rows that cannot be used may be left out.

    Yields:
        `Finding`: Each defect of the report.
    """
    for text in report.skipped:
        yield Finding("rows that cannot be used", split, "", text, usable=skipped)
    for remark in report.remarks:
        yield Finding(remark.kind, split, remark.record, remark.detail)
    for kind, number in report.remark_counts.items():
        rest = number - sum(remark.kind == kind for remark in report.remarks)
        if rest > 0:
            yield Finding(kind, split, f"{rest} more", "the first are listed above", number=rest)


def check_rows(split: str, rows: Dataset, resolution: int, progress: Callable = iter) -> Iterator[Finding]:
    """
    Find duplicate instances, instances too small for the mask loss, and images without an instance.

    Args:
        split (`str`): Name of the split.
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        resolution (`int`): Side of the canvas of the model, px.
        progress (`Callable`): Wraps the iteration over all rows, for a progress bar.

    Yields:
        `Finding`: Each defect.
    """
    empty = []
    for row in progress(rows.remove_columns("image")):
        if not any(phrase["instances"] for phrase in row["phrases"]):
            empty.append(row["example_id"])
        yield from _find_duplicates(split, row)
        yield from _find_too_small(split, row, LOSS_SIDE * resolution // 1008)
    if empty:
        detail = "correct if the images contain none of the phrases; check a few"
        yield Finding(
            "images without an instance", split, f"{len(empty)} of {len(rows)}, such as {', '.join(empty[:3])}", detail
        )


def _find_duplicates(split: str, row: dict) -> Iterator[Finding]:
    for phrase in row["phrases"]:
        indices = [
            i
            for i in phrase["instances"]
            if row["instances"][i]["segmentation"] and not row["instances"][i]["is_crowd"]
        ]
        if len(indices) < 2:
            continue
        rles = [to_coco_rle(row["instances"][i]["segmentation"], row["height"], row["width"]) for i in indices]
        for begin in range(0, len(rles), _BLOCK):
            block = rles[begin : begin + _BLOCK]
            overlap = np.triu(coco_mask.iou(block, rles, [0] * len(rles)), begin + 1)
            for a, b in np.argwhere(overlap > NEAR_IDENTICAL):
                detail = "identical" if overlap[a, b] == 1 else f"IoU {overlap[a, b]:.2f}"
                record = f"{row['example_id']}, {phrase['text']!r} {indices[begin + a]} and {indices[b]}"
                yield Finding("duplicate instance", split, record, detail)


def _find_too_small(split: str, row: dict, side: int) -> Iterator[Finding]:
    share = side * side / (row["width"] * row["height"])
    whole = Geometry.whole(row["width"], row["height"], side)
    for i, instance in enumerate(row["instances"]):
        # Nearest-pixel resampling can lose an instance of a few pixels, never one of more than 9.
        if instance["segmentation"] is None or instance["is_crowd"] or instance["area"] * share > 9:
            continue
        remaining = int(whole.mask(decode_mask(instance["segmentation"], row["height"], row["width"])).sum())
        if remaining == 0:
            detail = (
                f"{instance['area']:.0f} px of {row['width']}×{row['height']} are no pixel at {side} px, the "
                "resolution of the mask loss"
            )
            yield Finding("too small for the mask loss", split, f"{row['example_id']}, instance {i}", detail)


def check_phrases(split: str, rows: Dataset, too_long: Callable[[list[str]], list[str]]) -> Iterator[Finding]:
    """
    Find phrases that SAM 3 cannot use as noun phrases.

    Args:
        split (`str`): Name of the split.
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        too_long (`Callable`): Selects the phrases of more than 32 tokens.

    Yields:
        `Finding`: Each defect.
    """
    texts = Counter(phrase["text"] for phrases in rows["phrases"] for phrase in phrases)
    for text in texts:
        problem = _problem_of(text)
        if problem:
            yield Finding("not a noun phrase", split, repr(text), f"{problem}; rename it with `phrase_map`")
    for text in too_long(list(texts)):
        yield Finding("longer than 32 tokens", split, repr(text), "it is truncated; shorten it with `phrase_map`")
    for text, (singular, plural) in _plurals(texts):
        detail = f"{singular!r} and {plural!r}; merge them with `phrase_map`"
        yield Finding("two phrases for one concept", split, repr(text), detail)


def _problem_of(text: str) -> str | None:
    words = text.split()
    if any(word in NO_PHRASES for word in words) and len(words) == 1:
        return "it has no visual meaning"
    if re.search(r"\d{2,}", text) or re.fullmatch(r"[\W\d_]+", text):
        return "it contains numbers like an id"
    if len(text) < 2 and text.isascii():
        return "it is a single letter"
    if any(re.search(r"[a-z]{2}\d|\d[a-z]{2}", word) for word in words):
        return "it looks like a code"
    return None


def _plurals(texts) -> Iterator[tuple[str, tuple[str, str]]]:
    for text in texts:
        for ending in ("s", "es"):
            if text + ending in texts:
                yield text, (text, text + ending)
