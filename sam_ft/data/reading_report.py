"""Report of reading a data set: counts, assumptions, inconsistencies, and rows and annotations that were left out."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..utils.text import count_noun
from .folded_notes import fold_notes
from .safe_text import to_printable


MAX_REMARKS = 1000  # of a kind; more are only counted
_MAX_DROPPED_LINES = 50  # messages of annotations in the text of a report; more are only counted
_COUNTS = ("num_images", "num_instances", "num_crowds", "num_box_only", "num_absent", "num_present")
DROPPED_EFFECT = "their phrases (all phrases, if the class is unknown) are not exhaustive in their images"


@dataclass(frozen=True)
class Remark:
    """
    Inconsistency of a record that is used nevertheless.

    Attributes:
        kind (`str`): Short description; remarks are counted by kind.
        record (`str`): Name of the record.
        detail (`str`): Values of the record, and how they are used.
    """

    kind: str
    record: str
    detail: str


@dataclass
class DataReport:
    """
    Report of reading one split.

    Attributes:
        source (`str`): The file or data set that was read.
        notes (`Counter`): Number of occurrences of each assumption, printed at the start.
        remarks (`list[Remark]`): Inconsistencies of single records, the first `MAX_REMARKS` of each kind.
        remark_counts (`Counter`): Number of inconsistencies of each kind.
        skipped (`list[str]`): With `on_bad_rows: skip`, one message for each row that was left out.
        skipped_images (`list[Path]`): Image files of these rows.
        dropped (`list[str]`): With `on_bad_rows: skip`, one message for each annotation that was left out of a row.
        category_ids (`dict[str, int]`): Category id of each phrase in the source, for results.
        num_images (`int`): Number of images.
        num_instances (`int`): Number of instances, without crowds.
        num_crowds (`int`): Number of crowd regions.
        num_box_only (`int`): Number of instances with a box but no mask.
        num_absent (`int`): Number of absent (image, phrase) pairs.
        num_present (`int`): Number of (image, phrase) pairs with an instance or a crowd region.
        positives (`Counter`): Number of instances of each phrase, without crowds.
    """

    source: str
    notes: Counter = field(default_factory=Counter)
    remarks: list[Remark] = field(default_factory=list)
    remark_counts: Counter = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    skipped_images: list[Path] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    category_ids: dict[str, int] = field(default_factory=dict)
    num_images: int = 0
    num_instances: int = 0
    num_crowds: int = 0
    num_box_only: int = 0
    num_absent: int = 0
    num_present: int = 0
    positives: Counter = field(default_factory=Counter)

    def remark(self, *remarks: Remark) -> None:
        """Add remarks."""
        for remark in remarks:
            self.remark_counts[remark.kind] += 1
            if self.remark_counts[remark.kind] <= MAX_REMARKS:
                self.remarks.append(remark)

    def count(self, row: dict) -> None:
        """Add a row to the counts."""
        self.num_images += 1
        self.num_crowds += sum(i["is_crowd"] for i in row["instances"])
        self.num_instances += sum(not i["is_crowd"] for i in row["instances"])
        self.num_box_only += sum(i["segmentation"] is None for i in row["instances"])
        for phrase in row["phrases"]:
            self.positives[phrase["text"]] += sum(not row["instances"][i]["is_crowd"] for i in phrase["instances"])
            self.num_absent += not phrase["instances"]
            self.num_present += bool(phrase["instances"])

    def add(self, other: "DataReport") -> None:
        """Add the counts, remarks and left out annotations of further records of the same source."""
        listed = Counter(remark.kind for remark in other.remarks)
        self.remark(*other.remarks)
        self.remark_counts += other.remark_counts - listed
        self.dropped += other.dropped
        self.positives.update(other.positives)
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def reset_counts(self) -> None:
        """Forget the rows that were counted."""
        self.positives = Counter()
        for name in _COUNTS:
            setattr(self, name, 0)

    def lines(self) -> list[str]:
        """Return the report as lines of text without control characters."""
        used = {phrase: n for phrase, n in self.positives.most_common() if n}
        listing = ", ".join(f"{phrase} ({n})" for phrase, n in list(used.items())[:12])
        more = f", … {len(used) - 12} more" if len(used) > 12 else ""
        lines = [
            self.source,
            f"  {count_noun(self.num_images, 'image')}, {count_noun(self.num_instances, 'instance')} "
            f"({self.num_box_only:,} with a box only), {count_noun(self.num_crowds, 'crowd region')}, "
            f"{count_noun(self.num_absent, 'absent (image, phrase) pair')}",
            f"  {count_noun(len(self.positives), 'phrase')}, {len(used)} of them with instances: {listing}{more}",
        ]
        lines += [f"  note: {note}" for note in (*fold_notes(self.notes.items()), *self._remark_lines())]
        if self.skipped:
            lines.append(f"  {count_noun(len(self.skipped), 'row')} left out:")
            lines += [f"    {message}" for message in self.skipped]
        if self.dropped:
            lines.append(f"  {count_noun(len(self.dropped), 'annotation')} left out; {DROPPED_EFFECT}:")
            lines += [f"    {message}" for message in self.dropped[:_MAX_DROPPED_LINES]]
            if len(self.dropped) > _MAX_DROPPED_LINES:
                lines.append(f"    … {len(self.dropped) - _MAX_DROPPED_LINES} more")
        return [to_printable(line) for line in lines]

    def list_findings(self) -> list[str]:
        """Return a line for the rows and for the annotations that are left out, and for each kind of note."""
        lines = []
        if self.skipped:
            lines.append(f"{len(self.skipped)} rows are left out, such as {self.skipped[0]}")
        if self.dropped:
            lines.append(f"{len(self.dropped)} annotations are left out, such as {self.dropped[0]}; {DROPPED_EFFECT}")
        lines += self._remark_lines()
        return [to_printable(line) for line in (*lines, *fold_notes(self.notes.items()))]

    def _remark_lines(self) -> list[str]:
        lines = []
        for kind, number in self.remark_counts.items():
            first = next(remark for remark in self.remarks if remark.kind == kind)
            lines.append(f"{kind} ({number}×), such as {first.record}: {first.detail}")
        return lines


def assign_category_ids(reports: list[DataReport], texts: list[set[str]]) -> dict[str, int]:
    """
    Assign a category id to each phrase: that of its source if it has one that is free, else the next number.

    Args:
        reports (`list[DataReport]`): Reports of reading each split. Files may number their categories differently;
            the first report has precedence, because no two phrases may share an id.
        texts (`list[set[str]]`): Phrases of each split.

    Returns:
        `dict[str, int]`: Category id by phrase.
    """
    ids: dict[str, int] = {}
    for report in reports:
        for phrase, number in report.category_ids.items():
            if phrase not in ids and isinstance(number, int) and number not in ids.values():
                ids[phrase] = number
    for split_texts in texts:
        for phrase in sorted(split_texts - ids.keys()):
            ids[phrase] = max(ids.values(), default=0) + 1
    return ids
