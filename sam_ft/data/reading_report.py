"""What a reader understood, and what it had to leave out."""

from collections import Counter
from dataclasses import dataclass, field

from .safe_text import to_printable


KEPT = 1000  # remarks of a kind; what goes beyond is counted alone


@dataclass(frozen=True)
class Remark:
    """What is odd about one record, and was used all the same: `kind`, a few words; `record`; `detail`, what was found and done."""

    kind: str
    record: str
    detail: str


@dataclass
class DataReport:
    """
    Attributes:
        source (`str`): the file that was read.
        notes (`Counter`): what was assumed of the whole, and how often; printed at the start.
        remarks (`list[Remark]`): of single records, the first `KEPT` of each kind; odd (`Counter`): kind -> how many.
        skipped (`list[str]`): with `on_bad_rows: skip`, one message per row that was left out.
        category_ids (`dict[str, int]`): phrase -> the source's category id, for results in the source's own numbers.
        num_images, num_instances, num_crowds, num_box_only (`int`): counts of what was read.
        positives (`Counter`): phrase -> instances.
        num_absent (`int`): (image, phrase) pairs that the source proves absent.
    """

    source: str
    notes: Counter = field(default_factory=Counter)
    remarks: list[Remark] = field(default_factory=list)
    odd: Counter = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    category_ids: dict[str, int] = field(default_factory=dict)
    num_images: int = 0
    num_instances: int = 0
    num_crowds: int = 0
    num_box_only: int = 0
    num_absent: int = 0
    positives: Counter = field(default_factory=Counter)

    def remark(self, *remarks: Remark) -> None:
        """Adds remarks."""
        for remark in remarks:
            self.odd[remark.kind] += 1
            if self.odd[remark.kind] <= KEPT:
                self.remarks.append(remark)

    def count(self, row: dict) -> None:
        """Adds a row to the counts."""
        self.num_images += 1
        self.num_crowds += sum(i["is_crowd"] for i in row["instances"])
        self.num_instances += sum(not i["is_crowd"] for i in row["instances"])
        self.num_box_only += sum(i["segmentation"] is None for i in row["instances"])
        for phrase in row["phrases"]:
            self.positives[phrase["text"]] += len(phrase["instances"])
            self.num_absent += not phrase["instances"]

    def lines(self) -> list[str]:
        """Return the report as lines of text without control characters."""
        used = {phrase: n for phrase, n in self.positives.most_common() if n}
        shown = ", ".join(f"{phrase} ({n})" for phrase, n in list(used.items())[:12])
        more = f", … {len(used) - 12} more" if len(used) > 12 else ""
        lines = [
            self.source,
            f"  {self.num_images} images, {self.num_instances} instances ({self.num_box_only} with a box only), "
            f"{self.num_crowds} crowd regions, {self.num_absent} absent (image, phrase) pairs",
            f"  {len(self.positives)} phrases, {len(used)} of them with instances: {shown}{more}",
        ]
        lines += [f"  note: {note}" + (f" ({n}×)" if n > 1 else "") for note, n in self.notes.items()]
        for kind, n in self.odd.items():
            first = next(remark for remark in self.remarks if remark.kind == kind)
            lines.append(f"  note: {kind} ({n}×), such as {first.record}: {first.detail}")
        if self.skipped:
            lines.append(f"  {len(self.skipped)} rows left out:")
            lines += [f"    {message}" for message in self.skipped]
        return [to_printable(line) for line in lines]
