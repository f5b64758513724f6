"""Findings of a check: defects of single records, folded to one entry of each kind, in the order of their severity."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..folded_notes import message_form
from .finding_kinds import BLOCKS, SEVERITIES, kind_of


@dataclass
class Finding:
    """
    Defect of a data set.

    Attributes:
        kind (`str`): Kind of the defect, in a few words; `finding_kinds.py` describes each.
        split (`str`): Split that contains it.
        record (`str`): Image and instance, or phrase.
        detail (`str`): Description with the values.
        usable (`bool`): `False` if the data should not be used for training before it is fixed.
        number (`int`): Number of records with the defect.
        file (`str`): Annotation file, or image file.
        example_id (`str`, *optional*): Row, or record without a row, that has the defect.
        instances (`tuple[int, ...]`): Indices of the instances of that row that have it.
        other (`tuple[str, str]`, *optional*): Split and example id of the other row of a pair of copies.
    """

    kind: str
    split: str
    record: str
    detail: str
    usable: bool = True
    number: int = 1
    file: str = ""
    example_id: str | None = None
    instances: tuple[int, ...] = ()
    other: tuple[str, str] | None = None

    @property
    def message(self) -> str:
        """File, record and detail, as in the message of a `DatasetFormatError`."""
        where = ", ".join(part for part in (self.file, self.record) if part)
        return f"{where}: {self.detail}" if where else self.detail

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`."""
        return kind_of(self.kind).severity if self.usable else BLOCKS


@dataclass
class FindingGroup:
    """
    Findings of one kind and severity.

    Attributes:
        kind (`str`): Kind of the findings.
        severity (`str`): One of `SEVERITIES`.
        effect (`str`): Effect on training.
        remedy (`str`): The fix, in one sentence.
        findings (`list[Finding]`): The findings, in the order of the data.
    """

    kind: str
    severity: str
    effect: str
    remedy: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Number of records with the defect."""
        return sum(finding.number for finding in self.findings)

    def choose_examples(self, number: int) -> list[Finding]:
        """
        Choose findings that show the variety of a group: other rows, splits and messages before the same ones.

        Args:
            number (`int`): Maximum number of findings.

        Returns:
            `list[Finding]`: The findings, in the order of the data.
        """
        ranks, seen = [], Counter()
        for i, finding in enumerate(self.findings):
            row = (finding.split, finding.example_id or finding.record)
            form = (finding.split, message_form(finding.detail))
            ranks.append((seen[row], seen[form], i))
            seen.update((row, form))
        return [self.findings[i] for i in sorted(i for _, _, i in sorted(ranks)[:number])]

    def plain(self) -> dict:
        """Return plain values for JSON, with all findings."""
        records = [
            {
                "split": f.split, "file": f.file, "record": f.record, "detail": f.detail, "number": f.number,
                "example_id": f.example_id, "instances": list(f.instances),
                "other": None if f.other is None else {"split": f.other[0], "example_id": f.other[1]},
            }
            for f in self.findings
        ]  # fmt: skip
        return {
            "severity": self.severity,
            "kind": self.kind,
            "number": self.number,
            "usable": self.severity != BLOCKS,
            "effect": self.effect,
            "remedy": self.remedy,
            "records": records,
        }


def group_findings(findings: Iterable[Finding]) -> list[FindingGroup]:
    """
    Fold findings to one entry of each kind and severity.

    Args:
        findings (`Iterable[Finding]`): The findings.

    Returns:
        `list[FindingGroup]`: Groups by severity, then by falling number of records.
    """
    groups: dict[tuple, FindingGroup] = {}
    for finding in findings:
        kind = kind_of(finding.kind)
        group = groups.setdefault(
            (finding.severity, finding.kind),
            FindingGroup(finding.kind, finding.severity, kind.effect, kind.remedy),
        )
        group.findings.append(finding)
    return sorted(groups.values(), key=lambda group: (SEVERITIES.index(group.severity), -group.number))
