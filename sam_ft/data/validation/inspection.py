"""Inspection of a data set: reads every split and collects all findings."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from ...options.data import DatasetOptions, ReadOptions
from ..loading import load_phrase_dataset
from ..readers.layouts import SplitReader
from ..reading_report import DataReport
from ..row_schema import DatasetFormatError
from ..safe_text import to_printable
from ..sources import HubSplit, SplitSource, read_splits
from .image_checks import check_pictures, check_sources, check_unlisted
from .row_checks import Finding, check_phrases, check_report, check_rows


@dataclass
class Inspection:
    """
    Result of an inspection.

    Attributes:
        splits (`dict[str, datasets.Dataset]`): Rows of each split that can be read.
        reports (`dict[str, DataReport]`): Report of the reader for each split.
        findings (`list[Finding]`): All defects.
        notes (`list[str]`): Assumptions.
        train_split (`str`): Split that a run would train on.
    """

    splits: dict[str, Dataset] = field(default_factory=dict)
    reports: dict[str, DataReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    train_split: str = "train"

    @property
    def usable(self) -> bool:
        """Whether the data can be used for training as they are."""
        return self.train_split in self.splits and all(finding.usable for finding in self.findings)

    def lines(self, max_findings: int) -> list[str]:
        """
        Format the inspection as text.

        Args:
            max_findings (`int`): Maximum number of lines of each kind of defect.
        """
        lines = [f"note: {note}" for note in self.notes]
        for split, report in self.reports.items():
            lines += [
                f"{split}:",
                *(f"  {line}" for line in dataclasses.replace(report, skipped=[], remark_counts=Counter()).lines()),
                *self._format_sizes(split),
            ]
        kinds = Counter()
        for finding in self.findings:
            kinds[finding.kind] += finding.number
        for kind, number in kinds.most_common():
            lines.append(f"{kind}: {number}")
            of_kind = [finding for finding in self.findings if finding.kind == kind]
            lines += [
                f"  {': '.join(part for part in (f.split, f.record, f.detail) if part)}"
                for f in of_kind[:max_findings]
            ]
            lines += [f"  … {number - max_findings} more"] if number > max_findings else []
        if not self.findings:
            lines.append("no defects found")
        lines.append("usable" if self.usable else "not usable as it is")
        return [to_printable(line) for line in lines]

    def _format_sizes(self, split: str) -> list[str]:
        rows = self.splits.get(split)
        if rows is None:
            return []
        sizes = Counter(zip(rows["width"], rows["height"], strict=True))
        frequent = ", ".join(f"{w}×{h} ({n})" for (w, h), n in sizes.most_common(4))
        areas = sorted(
            i["area"] / (r["width"] * r["height"]) for r in rows.remove_columns("image") for i in r["instances"]
        )
        percentiles = [f"{areas[int(q * (len(areas) - 1))]:.2%}" for q in (0.05, 0.5, 0.95)] if areas else ["-"] * 3
        phrases = [phrase for row_phrases in rows["phrases"] for phrase in row_phrases]
        absent = sum(not phrase["instances"] for phrase in phrases) / max(len(phrases), 1)
        more = f", {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
        return [
            f"    sizes: {frequent}{more}",
            f"    instances cover {percentiles[0]} to {percentiles[2]} of their images (5th to 95th percentile), "
            f"median {percentiles[1]}",
            f"    {absent:.0%} of the (image, phrase) pairs are absent",
        ]

    def plain(self) -> dict:
        """Return plain values for JSON."""
        return {
            "usable": self.usable,
            "notes": self.notes,
            "splits": {
                name: {
                    "images": report.num_images,
                    "instances": report.num_instances,
                    "crowd_regions": report.num_crowds,
                    "box_only": report.num_box_only,
                    "absent_pairs": report.num_absent,
                    "phrases": dict(report.positives),
                    "notes": dict(report.notes),
                }
                for name, report in self.reports.items()
            },
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def inspect_splits(
    splits: dict[str, SplitSource],
    options: ReadOptions,
    resolution: int,
    too_long: Callable[[list[str]], list[str]],
    *,
    train_split: str = "train",
    progress: Callable = iter,
) -> Inspection:
    """
    Read every split, report splits that cannot be read, and find defects.

    Args:
        splits (`dict[str, SplitSource]`): Sources of the splits, see [`find_sources`].
        options (`ReadOptions`): Options of the readers.
        resolution (`int`): Side of the canvas of the model, px.
        too_long (`Callable`): Selects the phrases of more than 32 tokens.
        train_split (`str`): Split that a run would train on. Default: `train`.
        progress (`Callable`): Wraps long iterations, for a progress bar.
    """
    result, skipped = Inspection(train_split=train_split), options.on_bad_rows == "skip"
    unread: dict[str, Path] = {}
    options = dataclasses.replace(options, on_bad_rows="skip")
    splits = {
        name: split if isinstance(split, HubSplit) else dataclasses.replace(split, read=_read_once(split.read))
        for name, split in splits.items()
    }
    result.findings += _same_annotations(splits, options)
    if train_split not in splits:
        detail = (
            f"found {', '.join(splits)}; set `train_split`, or make new splits by convert_data.py "
            "`--new_validation_fraction`"
        )
        result.findings.append(Finding("nothing to train on", train_split, "", detail, usable=False))
    for name in splits:
        try:
            result.splits[name], report = read_splits(splits, options, only=[name])[name]
        except ValueError as error:
            result.findings.append(Finding("a split cannot be read", name, "", str(error), usable=name != train_split))
            # The text is that of `check_positives` in `readers/rows.py`.
            if isinstance(error, DatasetFormatError) and "listed images are missing" in error.problem:
                unread[name] = Path(error.file).parent if Path(error.file).is_file() else Path(error.file)
            continue
        result.reports[name] = report
        result.findings += check_report(name, report, skipped)
    result.findings += check_pictures(result.splits, progress)
    result.findings += check_sources(result.splits)
    result.findings += check_unlisted(result.splits, unread)
    for name, rows in result.splits.items():
        result.findings += check_rows(name, rows, resolution, progress)
        result.findings += check_phrases(name, rows, too_long)
    return result


def add_training_refusal(inspection: Inspection, options: DatasetOptions, reading: ReadOptions) -> None:
    """
    Read a data set as a training run does, and add its error, if any, to an inspection.

    Args:
        inspection (`Inspection`): Inspection of the same data set, which decoded the images already.
        options (`DatasetOptions`): Data set of the run.
        reading (`ReadOptions`): Options of the readers.
    """
    try:
        load_phrase_dataset(options, dataclasses.replace(reading, verify_images=False))
    except (ValueError, OSError) as error:
        detail = str(error)
        same = [finding for finding in inspection.findings if finding.detail == detail]
        for finding in same:
            finding.usable = False
        if not same:
            inspection.findings.append(Finding("a training run is refused", "", "", detail, usable=False))


def _read_once(read: SplitReader) -> SplitReader:
    """Cache the result of a reader, because the classes of all splits are read once for each split."""
    cached = []

    def read_cached(options: ReadOptions):
        if not cached:
            cached.append(read(options))
        return cached[0]

    return read_cached


def _same_annotations(splits: dict[str, SplitSource], options: ReadOptions) -> list[Finding]:
    """Find splits whose annotation file is a copy of that of another split."""
    seen, findings = {}, []
    for name, split in splits.items():
        try:
            source = Path("" if isinstance(split, HubSplit) else split.read(options).source)
        except (ValueError, RecursionError):
            continue
        if not source.is_file():
            continue
        digest = hashlib.blake2b(source.read_bytes()).hexdigest()
        if digest in seen and seen[digest][1] != source:
            findings.append(
                Finding("leak between splits", name, str(source), f"the file is a copy of {seen[digest][1]}")
            )
        seen.setdefault(digest, (name, source))
    return findings
