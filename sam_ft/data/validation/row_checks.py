"""Row checks: defects of readable data that would reduce the quality of a model."""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from datasets import Dataset
from pycocotools import mask as coco_mask

from ...ops.masks import decode_mask, to_coco_rle
from ...utils.console import progress_bar
from ...utils.parallel import mapped_chunks
from ..reading_report import DataReport
from ..safe_text import to_printable
from ..samples.transforms import Geometry
from .findings import Finding
from .statistics import MAX_QUERIES, SplitStatistics


LOSS_SIDE = 288  # side of the mask loss of SAM 3 at 1008 px, px
NEAR_IDENTICAL = 0.9  # IoU of two masks of a phrase
_MAX_MARKED = 8  # instances of a phrase that get a frame in the picture of a finding
_BLOCK = 512  # number of masks that are compared with all others at a time
# Class names without visual meaning.
NO_PHRASES = frozenset(
    (
        "background", "unlabeled", "unlabelled", "void", "ignore", "unknown", "other", "object", "objects", "thing",
        "things", "item", "items", "class", "label", "defect", "defects", "region", "mask", "loc", "roi", "area",
        "segment", "none",
    )
)  # fmt: skip


def check_report(
    split: str, report: DataReport, skipped: bool, example_ids: Iterable[tuple[str, str]]
) -> list[Finding]:
    """
    Convert the report of a reader to findings.

    Args:
        split (`str`): Name of the split.
        report (`DataReport`): Report of the reader.
        skipped (`bool`): Rows and annotations that cannot be used may be left out.
        example_ids (`Iterable[tuple[str, str]]`): Name in messages and example id of each record; empty if unknown.

    Returns:
        `list[Finding]`: Each defect of the report.
    """
    id_of, findings = dict(example_ids), []
    for kind, messages in (
        ("rows that cannot be used", report.skipped),
        ("annotations that cannot be used", report.dropped),
    ):
        for text in messages:
            record, detail = _split_message(text.removeprefix(f"{to_printable(report.source)}, "), id_of)
            findings.append(
                Finding(kind, split, record, detail, skipped, file=report.source, example_id=_id_of(record, id_of))
            )
    for remark in report.remarks:
        example_id = _id_of(remark.record, id_of)
        findings.append(
            Finding(remark.kind, split, remark.record, remark.detail, file=report.source, example_id=example_id)
        )
    for kind, number in report.remark_counts.items():
        rest = number - sum(remark.kind == kind for remark in report.remarks)
        if rest > 0:
            detail = "only the first are listed"
            findings.append(Finding(kind, split, f"{rest} more", detail, number=rest, file=report.source))
    return findings


def _split_message(text: str, id_of: dict[str, str]) -> tuple[str, str]:
    """Split a message into its record and the problem; the record may contain the separator."""
    ends = [match.start() for match in re.finditer(": ", text[:1000])]
    for end in ends:
        if _id_of(text[:end], id_of) is not None:
            return text[:end], text[end + 2 :]
    return (text[: ends[0]], text[ends[0] + 2 :]) if ends else ("", text)


def _id_of(record: str, id_of: dict[str, str]) -> str | None:
    """Return the example id of `RECORD` or of `RECORD, ANNOTATION`."""
    if record in id_of:
        return id_of[record]
    names = (record[: match.start()] for match in re.finditer(", ", record[:1000]))
    return next((id_of[name] for name in names if name in id_of), None)


def check_rows(
    split: str, rows: Dataset, statistics: SplitStatistics, num_proc: int | None = None
) -> Iterator[Finding]:
    """
    Find duplicate instances, instances too small for the mask loss, too many instances, and images without one.

    Args:
        split (`str`): Name of the split.
        rows (`datasets.Dataset`): Rows as in `row_schema.py`; their images are not read.
        statistics (`SplitStatistics`): Statistics that the rows are added to; has the resolution of the model.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Yields:
        `Finding`: Each defect.
    """
    rows, resolution = rows.remove_columns("image"), statistics.resolution

    def check(indices: range) -> tuple[list[Finding], SplitStatistics]:
        findings, of_chunk = [], SplitStatistics(resolution)
        for row in rows.select(indices):
            of_chunk.add(row)
            findings += _check_row(split, row, LOSS_SIDE * resolution // 1008)
        return findings, of_chunk

    with (
        progress_bar(total=len(rows), caption=f"checking instances of {split}") as bar,
        mapped_chunks(check, len(rows), num_proc) as chunks,
    ):
        for findings, of_chunk in chunks:
            statistics.merge(of_chunk)
            yield from findings
            bar.update(sum(of_chunk.image_sizes.values()))


def _check_row(split: str, row: dict, side: int) -> Iterator[Finding]:
    """Yield the defects of a row; `side` is that of the mask loss, px."""
    if not any(phrase["instances"] for phrase in row["phrases"]):
        name = row["example_id"]
        yield Finding("images without an instance", split, name, "no phrase is present", example_id=name)
    yield from _find_duplicates(split, row)
    yield from _find_too_small(split, row, side)
    yield from _find_too_many(split, row)


def _find_too_many(split: str, row: dict) -> Iterator[Finding]:
    for phrase in row["phrases"]:
        objects = tuple(i for i in phrase["instances"] if not row["instances"][i]["is_crowd"])
        if len(objects) > MAX_QUERIES:
            record = f"{row['example_id']}, {phrase['text']!r}"
            detail = f"{len(objects)} instances of the phrase, and {MAX_QUERIES} queries"
            yield Finding("more instances than queries", split, record, detail, example_id=row["example_id"])


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
                pair = indices[begin + a], indices[b]
                yield Finding(
                    "duplicate instance", split, record, detail, example_id=row["example_id"], instances=pair
                )


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
            record = f"{row['example_id']}, instance {i}"
            yield Finding(
                "too small for the mask loss", split, record, detail, example_id=row["example_id"], instances=(i,)
            )


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
    first: dict[str, tuple[str, tuple[int, ...]]] = {}  # of each phrase the first image that contains it
    for name, phrases in zip(rows["example_id"][:], rows["phrases"], strict=True):
        for phrase in phrases:
            if not first.get(phrase["text"], ("", ()))[1]:
                first[phrase["text"]] = name, tuple(phrase["instances"][:_MAX_MARKED])

    def describe(kind: str, text: str, detail: str) -> Finding:
        name, instances = first[text]
        return Finding(kind, split, repr(text), detail, example_id=name, instances=instances)

    for text in first:
        problem = _problem_of(text)
        if problem:
            yield describe("not a noun phrase", text, problem)
    for text in too_long(list(first)):
        yield describe("longer than 32 tokens", text, "it is truncated")
    for text, (singular, plural) in _plurals(first):
        yield describe("two phrases for one concept", text, f"{singular!r} and {plural!r}")


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
