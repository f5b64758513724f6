"""Inspection of a data set: reads every split and collects all findings."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from ...options.data import DatasetOptions, ReadOptions
from ...utils.memory import paused_garbage_collection
from ..folded_notes import fold_notes
from ..loading import load_phrase_dataset
from ..readers.image_roots import ImageRoots
from ..readers.images import ImageError
from ..readers.layouts import SplitReader
from ..readers.records import Record
from ..reading_report import DataReport
from ..row_schema import DatasetFormatError, image_paths
from ..safe_text import to_printable
from ..sources import HubSplit, SplitSource, read_splits
from .faulty_records import FaultyRecord, describe_record
from .finding_kinds import SEVERITIES, WRONG
from .findings import Finding, FindingGroup, group_findings
from .image_checks import can_decode_all, check_pictures, check_sources, check_unlisted
from .row_checks import check_phrases, check_report, check_rows
from .statistics import SplitStatistics


MAX_EXAMPLES = 6  # findings of a group that are drawn


@dataclass
class Inspection:
    """
    Result of an inspection.

    Attributes:
        splits (`dict[str, datasets.Dataset]`): Rows of each split that can be read.
        reports (`dict[str, DataReport]`): Report of the reader for each split.
        statistics (`dict[str, SplitStatistics]`): Statistics of the rows of each split.
        findings (`list[Finding]`): All defects.
        records (`dict[tuple[str, str], FaultyRecord]`): Listed geometry of the examples of findings of a reader, by
            split and `Finding.record`.
        notes (`list[str]`): Assumptions.
        train_split (`str`): Split that a run would train on.
        sources (`dict[str, SplitSource]`): Sources of the splits, whose annotation files are read once, and whose rows
            are converted once if all of them can be used.
    """

    splits: dict[str, Dataset] = field(default_factory=dict)
    reports: dict[str, DataReport] = field(default_factory=dict)
    statistics: dict[str, SplitStatistics] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    records: dict[tuple[str, str], FaultyRecord] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    train_split: str = "train"
    sources: dict[str, SplitSource] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Return whether the data can be used for training as they are."""
        return self.train_split in self.splits and all(finding.usable for finding in self.findings)

    @property
    def groups(self) -> list[FindingGroup]:
        """The findings, folded to one entry of each kind and severity, the most severe first."""
        return group_findings(self.findings)

    @property
    def verdict(self) -> str:
        """Return whether the data are usable; if not, the most important cause and its fix, on one line."""
        groups = self.groups
        if self.usable:
            wrong = [group.kind for group in groups if group.severity == WRONG]
            return f"usable, with findings of {WRONG}: {', '.join(wrong)}" if wrong else "usable"
        first = groups[0]
        others = f" ({first.number - 1} more)" if first.number > 1 else ""
        return f"not usable as it is: {first.kind}: {first.findings[0].message}{others}. {first.remedy}"

    def lines(self, max_findings: int) -> list[str]:
        """
        Format the inspection as text; the last line is the verdict.

        Args:
            max_findings (`int`): Maximum number of lines of each kind of defect.
        """
        lines = [f"note: {note}" for note in fold_notes((note, 1) for note in self.notes)]
        for split, report in self.reports.items():
            lines += [f"{split}:", *(f"  {line}" for line in _without_defects(report).lines())]
            if split in self.statistics:
                lines += [f"    {line}" for line in self.statistics[split].lines()]
        groups = self.groups
        for severity in SEVERITIES:
            of_severity = [group for group in groups if group.severity == severity]
            lines += [f"{severity}:"] if of_severity else []
            for group in of_severity:
                lines += [f"  {line}" for line in _format_group(group, max_findings)]
        if not self.findings:
            lines.append("no defects found")
        return [to_printable(line) for line in (*lines, self.verdict)]

    def plain(self) -> dict:
        """Return plain values for JSON."""
        splits = {}
        for name, report in self.reports.items():
            splits[name] = {
                "source": report.source,
                "images": report.num_images,
                "instances": report.num_instances,
                "crowd_regions": report.num_crowds,
                "box_only": report.num_box_only,
                "absent_pairs": report.num_absent,
                "phrases": dict(report.positives),
                "notes": dict(report.notes),
                "statistics": self.statistics[name].plain() if name in self.statistics else None,
            }
        return {
            "usable": self.usable,
            "verdict": to_printable(self.verdict),
            "train_split": self.train_split,
            "notes": self.notes,
            "splits": splits,
            "findings": [group.plain() for group in self.groups],
            "examples": [
                {"split": split, "record": record, **dataclasses.asdict(listed)}
                for (split, record), listed in self.records.items()
            ],
        }


def _format_group(group: FindingGroup, max_findings: int) -> list[str]:
    examples = group.choose_examples(max_findings)
    lines = [f"{group.kind}: {group.number}"]
    lines += [f"  {f.split}: {f.message}" if f.split else f"  {f.message}" for f in examples]
    rest = group.number - sum(finding.number for finding in examples)
    lines += [f"  … {rest} more"] if rest > 0 else []
    return [*lines, f"  effect: {group.effect}", f"  fix: {group.remedy}"]


def inspect_splits(
    splits: dict[str, SplitSource],
    options: ReadOptions,
    resolution: int,
    too_long: Callable[[list[str]], list[str]],
    *,
    train_split: str = "train",
    num_proc: int | None = None,
) -> Inspection:
    """
    Read every split, report splits that cannot be read, and find defects.

    Args:
        splits (`dict[str, SplitSource]`): Sources of the splits, see [`find_sources`].
        options (`ReadOptions`): Options of the readers.
        resolution (`int`): Side of the canvas of the model, px.
        too_long (`Callable`): Selects the phrases of more than 32 tokens.
        train_split (`str`): Split that a run would train on. Default: `train`.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].
    """
    result, skipped = Inspection(train_split=train_split), options.on_bad_rows == "skip"
    options = dataclasses.replace(options, on_bad_rows="skip")
    splits = result.sources = {
        name: split if isinstance(split, HubSplit) else dataclasses.replace(split, read=_read_once(split.read))
        for name, split in splits.items()
    }
    result.findings += _same_annotations(splits, options)
    if train_split not in splits:
        detail = f"found {', '.join(splits)}"
        result.findings.append(Finding("nothing to train on", train_split, "", detail, usable=False))
    unread = _read_splits(result, splits, options, skipped=skipped, num_proc=num_proc)
    result.findings += check_pictures(result.splits, num_proc)
    result.findings += check_sources(result.splits)
    skipped_images = [image for report in result.reports.values() for image in report.skipped_images]
    result.findings += check_unlisted(result.splits, unread, skipped_images)
    for name, rows in result.splits.items():
        result.statistics[name] = SplitStatistics(resolution)
        result.findings += check_rows(name, rows, result.statistics[name], num_proc)
        result.findings += check_phrases(name, rows, too_long)
    _add_image_files(result)
    _describe_examples(result, splits, options)
    return result


def _read_splits(
    result: Inspection,
    splits: dict[str, SplitSource],
    options: ReadOptions,
    *,
    skipped: bool,
    num_proc: int | None,
) -> dict[str, Path]:
    """Read each split into an inspection; return the image folders of splits whose images are all missing."""
    unread: dict[str, Path] = {}
    for name, split in splits.items():
        try:
            verify = options.verify_images and not _can_decode(split, options, name, num_proc)
            reading = dataclasses.replace(options, verify_images=verify)
            rows, report = read_splits(splits, reading, only=[name], num_proc=num_proc)[name]
        except DatasetFormatError as error:
            file, record = to_printable(error.file), to_printable(error.record or "")
            kind, usable, detail = "a split cannot be read", name != result.train_split, to_printable(error.problem)
            result.findings.append(Finding(kind, name, record, detail, usable, file=file))
            # The text is that of `check_positives` in `readers/rows.py`.
            if "listed images are missing" in error.problem:
                unread[name] = Path(error.file).parent if Path(error.file).is_file() else Path(error.file)
            continue
        except ValueError as error:
            usable = name != result.train_split
            result.findings.append(Finding("a split cannot be read", name, "", str(error), usable))
            continue
        result.splits[name], result.reports[name] = rows, report
        if skipped or not (report.skipped or report.dropped):  # A training run reads the same rows.
            splits[name] = dataclasses.replace(split, converted=(rows, report))
        example_ids = ((to_printable(r.where), r.example_id) for r in _records_of(split, options))
        result.findings += check_report(name, report, skipped, example_ids)
    return unread


def _can_decode(split: SplitSource, options: ReadOptions, name: str, num_proc: int | None) -> bool:
    """Return whether all images of a split can be decoded; otherwise its reader decodes them, and reports each."""
    images = [record.image for record in _records_of(split, options)]
    if not images or not all(isinstance(image, Path) for image in images):
        return False
    roots = ImageRoots([] if options.allow_outside_images else split.roots)
    try:
        for image in images:
            roots.check(image)
    except ImageError:
        return False
    return can_decode_all(images, f"decoding images of {name}", num_proc)


def _records_of(split: SplitSource, options: ReadOptions) -> list[Record]:
    return [] if isinstance(split, HubSplit) else split.read(options).records


def _add_image_files(result: Inspection) -> None:
    """Set the file of findings of the rows: the image file, or the data set if images are inside its files."""
    for split, rows in result.splits.items():
        of_split = [f for f in result.findings if f.split == split and f.example_id is not None and not f.file]
        names = {finding.example_id for finding in of_split}
        paths = {}
        for name, (path, is_file) in zip(rows["example_id"][:], image_paths(rows), strict=True) if names else ():
            if name in names and is_file:
                paths[name] = path
        for finding in of_split:
            finding.file = paths.get(finding.example_id, result.reports[split].source)


def _describe_examples(result: Inspection, splits: dict[str, SplitSource], options: ReadOptions) -> None:
    """Collect the listed geometry of the findings of readers that are drawn."""
    examples = [finding for group in result.groups for finding in group.choose_examples(MAX_EXAMPLES)]
    for split, report in result.reports.items():
        of_reader = [finding for finding in examples if finding.split == split and finding.file == report.source]
        names = {finding.example_id for finding in of_reader} - {None}
        records = {r.example_id: r for r in _records_of(splits[split], options) if r.example_id in names}
        roots = [] if options.allow_outside_images or not records else splits[split].roots
        for finding in of_reader:
            if finding.example_id in records:
                record = describe_record(records[finding.example_id], finding.record, ImageRoots(roots))
                result.records[split, finding.record] = record


def add_training_refusal(
    inspection: Inspection, options: DatasetOptions, reading: ReadOptions, num_proc: int | None = None
) -> None:
    """
    Read a data set as a training run does, and add its error, if any, to an inspection.

    Args:
        inspection (`Inspection`): Inspection of the same data set, which decoded the images already.
        options (`DatasetOptions`): Data set of the run.
        reading (`ReadOptions`): Options of the readers.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].
    """
    try:
        reading = dataclasses.replace(reading, verify_images=False)
        load_phrase_dataset(options, reading, splits=inspection.sources, num_proc=num_proc)
    except (ValueError, OSError) as error:
        message = str(error)
        same = [finding for finding in inspection.findings if finding.message == message]
        for finding in same:
            finding.usable = False
        if not same:
            inspection.findings.append(Finding("a training run is refused", "", "", message, usable=False))


def _without_defects(report: DataReport) -> DataReport:
    """Return a report without the messages that are findings."""
    return dataclasses.replace(report, skipped=[], dropped=[], remark_counts=Counter())


def _read_once(read: SplitReader) -> SplitReader:
    """Cache the result of a reader, because the classes of all splits are read once for each split."""
    cached = []

    def read_cached(options: ReadOptions):
        if not cached:
            with paused_garbage_collection():
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
            detail = f"the file is a copy of {seen[digest][1]}"
            findings.append(Finding("leak between splits", name, "", detail, file=str(source)))
        seen.setdefault(digest, (name, source))
    return findings
