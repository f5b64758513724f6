"""Page of a data check in one self-contained file: findings with pictures, charts, and training samples."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..data.folded_notes import fold_notes
from ..data.safe_text import to_printable
from ..data.validation.finding_kinds import BLOCKS, MINOR, WRONG
from ..data.validation.findings import Finding, FindingGroup
from ..data.validation.inspection import MAX_EXAMPLES, Inspection
from ..data.validation.statistics import COUNT_BINS, MAX_QUERIES, PRESENT_BINS, SIDE_BINS, PhraseCounts, bin_counts
from ..utils.console import progress_bar
from ..utils.owned_files import OwnedFiles
from .charts import COLORS, Series, column_chart
from .figures import PhraseColors, to_figure
from .pictures import Panel
from .row_pictures import ERRORS, RowPictures, draw_record
from .template_rendering import render_template


PAGE, _ARGUMENT = "index.html", "gallery_dir"
MAX_LINES = 50  # records of a finding that are listed
MAX_PHRASES = 200  # rows of the phrase table; `--json` has all
_MAX_SIZES = 8  # image sizes of the chart


class CheckPage:
    """
    Page of a data check.

    Args:
        inspection (`Inspection`): Result of the check.
        make_sample (`Callable[[str, int], Sample]`): Function that makes the model's input of a split and an index.
        title (`str`): Title of the page.
    """

    def __init__(self, inspection: Inspection, make_sample, title: str):
        self.inspection, self.title = inspection, title
        totals: Counter = Counter()
        for statistics in inspection.statistics.values():
            totals.update({text: counts.instances for text, counts in statistics.phrases.items()})
        self.phrases = sorted(totals, key=lambda text: (-totals[text], text))
        self.colors = PhraseColors(self.phrases)
        self.pictures = RowPictures(inspection, self.colors.rgb, make_sample)

    def render(self, sample_indices: list[int]) -> str:
        """
        Render the page.

        Args:
            sample_indices (`list[int]`): Rows of the training split that are shown beside the findings.

        Returns:
            `str`: HTML document.
        """
        inspection = self.inspection
        groups = inspection.groups
        chosen = [group.choose_examples(MAX_EXAMPLES) for group in groups]
        bar = progress_bar(total=sum(map(len, chosen)) + len(sample_indices), caption="drawing pictures")
        with bar:
            findings = [self._finding(group, examples, bar) for group, examples in zip(groups, chosen, strict=True)]
            samples = [self._sample(inspection.train_split, index, bar) for index in sample_indices]
        splits = inspection.statistics
        return render_template(
            "check.html.j2",
            title=self.title,
            verdict=to_printable(inspection.verdict),
            verdict_severity=groups[0].severity if groups else MINOR,
            notes=fold_notes((note, 1) for note in inspection.notes),
            splits=[self._split(name) for name in inspection.reports],
            findings=findings,
            classes=[self.colors.describe(text) for text in self.phrases],
            phrases=[self._phrase(text) for text in self.phrases[:MAX_PHRASES]],
            more_phrases=max(len(self.phrases) - MAX_PHRASES, 0),
            max_counts=self._max_counts(),
            series=[{"name": name, "color": _split_color(i)} for i, name in enumerate(splits)],
            charts=self._charts(),
            crowded=self._crowded(groups),
            samples=[sample for sample in samples if sample is not None],
            classes_of_severity={BLOCKS: "bad", WRONG: "wrong", MINOR: ""},
        )

    def _split(self, name: str) -> dict:
        report = self.inspection.reports[name]
        statistics = self.inspection.statistics.get(name)
        return {
            "name": name,
            "source": to_printable(report.source),
            "images": report.num_images,
            "instances": report.num_instances,
            "crowds": report.num_crowds,
            "box_only": report.num_box_only,
            "absent": report.num_absent,
            "notes": fold_notes(report.notes.items()),
            "lines": [to_printable(line) for line in statistics.lines()] if statistics and report.num_images else [],
        }

    def _finding(self, group: FindingGroup, examples: list[Finding], bar) -> dict:
        figures = []
        for finding in examples:
            figures += [figure for figure in [self._figure(finding)] if figure is not None]
            bar.update()
        lines = group.choose_examples(MAX_LINES)
        return {
            "kind": group.kind,
            "severity": group.severity,
            "number": group.number,
            "effect": group.effect,
            "remedy": group.remedy,
            "lines": [to_printable(_with_split(finding)) for finding in lines],
            "more": group.number - sum(finding.number for finding in lines),
            "figures": figures,
        }

    def _figure(self, finding: Finding) -> dict | None:
        """Draw the rows of a finding; `None` if none of its images can be shown."""
        panels, texts = self._panels(finding)
        if finding.other is not None and panels:
            other_split, name = finding.other
            index = self.pictures.index_of(other_split, name)
            if index is not None:
                drawn, more = self._try_row(other_split, index)
                panels = [(f"{finding.split}: {finding.example_id}", panels[0][1])]
                panels += [(f"{other_split}: {name}", picture) for _, picture in drawn]
                texts += more
        if not panels:
            return None
        brief = replace(finding, file=Path(finding.file).name)
        return to_figure(panels, to_printable(_with_split(brief)), self.colors.list_classes(texts))

    def _panels(self, finding: Finding) -> tuple[list[Panel], list[str]]:
        record = self.inspection.records.get((finding.split, finding.record))
        index = self.pictures.index_of(finding.split, finding.example_id)
        if index is None:
            if record is None or record.image is None:
                return [], []
            try:
                return [draw_record(record)], []
            except ERRORS:
                return [], []
        panels, texts = self._try_row(finding.split, index, finding.instances, record.boxes if record else [])
        if panels and finding.other is None:
            try:
                panels.append(self.pictures.draw_sample(finding.split, index)[0])
            except ERRORS as error:
                panels = [(f"{panels[0][0]}; the model's input cannot be made: {error}", panels[0][1]), *panels[1:]]
        return panels, texts

    def _try_row(self, split: str, index: int, *marks) -> tuple[list[Panel], list[str]]:
        try:
            return self.pictures.draw_row(split, index, *marks)
        except ERRORS:
            return [], []

    def _sample(self, split: str, index: int, bar) -> dict | None:
        """Draw a training row and its sample; `None` if its image cannot be read."""
        bar.update()
        panels, texts = self._try_row(split, index)
        if not panels:
            return None
        name = self.inspection.splits[split][index]["example_id"]
        try:
            panel, present, absent = self.pictures.draw_sample(split, index)
        except ERRORS as error:
            return to_figure(
                panels, f"{name}: the model's input cannot be made: {error}", self.colors.list_classes(texts)
            )
        caption = f"{name} · present: {', '.join(present) or 'none'}"
        caption += f" · absent: {', '.join(absent)}" if absent else ""
        return to_figure([*panels, panel], to_printable(caption), self.colors.list_classes(texts))

    def _phrase(self, text: str) -> dict:
        counts = [s.phrases.get(text, PhraseCounts()) for s in self.inspection.statistics.values()]
        return {**self.colors.describe(text), "counts": [vars(one) for one in counts]}

    def _max_counts(self) -> dict[str, int]:
        """Return the highest number of images and of instances of a phrase, for the length of the bars."""
        counts = [one for s in self.inspection.statistics.values() for one in s.phrases.values()]
        return {name: max([1, *(vars(one)[name] for one in counts)]) for name in ("images", "instances", "absent")}

    def _charts(self) -> list[dict]:
        statistics = self.inspection.statistics
        if not statistics:
            return []
        charts = [
            self._count_chart("Instances per image", "images", "instances_per_image", COUNT_BINS),
            self._count_chart(
                "Instances of one phrase per image", "(image, phrase) pairs", "instances_per_pair", PRESENT_BINS
            ),
        ]
        sides = [Series(name, _split_color(i), s.sides) for i, (name, s) in enumerate(statistics.items())]
        resolution = next(iter(statistics.values())).resolution
        title = f"Size of instances: square root of the area, px of the model's {resolution}×{resolution} input"
        labels = [_range_label(low, high) for low, high in zip(SIDE_BINS, [*SIDE_BINS[1:], None], strict=True)]
        charts.append(column_chart(title, "instances", labels, sides))
        total: Counter = sum((s.image_sizes for s in statistics.values()), Counter())
        sizes = [size for size, _ in total.most_common(_MAX_SIZES)]
        series = []
        for i, (name, split) in enumerate(statistics.items()):
            values = [split.image_sizes[size] for size in sizes]
            rest = split.image_sizes.total() - sum(values)
            series.append(Series(name, _split_color(i), [*values, rest] if len(total) > _MAX_SIZES else values))
        labels = [f"{w}×{h}" for w, h in sizes] + ["other"] * (len(total) > _MAX_SIZES)
        return [*charts, column_chart("Size of images, px", "images", labels, series)]

    def _count_chart(self, title: str, unit: str, attribute: str, limits: tuple[int, ...]) -> dict:
        binned = {
            name: bin_counts(getattr(split, attribute), limits, "number")
            for name, split in self.inspection.statistics.items()
        }
        longest = max(binned.values(), key=len)
        series = [
            Series(name, _split_color(i), [one["number"] for one in bins] + [0] * (len(longest) - len(bins)))
            for i, (name, bins) in enumerate(binned.items())
        ]
        labels = [str(one["from"]) if one["from"] == one["to"] else f"{one['from']}–{one['to']}" for one in longest]
        warned = [i for i, one in enumerate(longest) if one["from"] > MAX_QUERIES]
        return column_chart(title, unit, labels, series, warned)

    def _crowded(self, groups: list[FindingGroup]) -> str:
        """Return the warning about images with more instances of a phrase than queries; empty if there are none."""
        crowded = [group for group in groups if group.kind == "more instances than queries"]
        if not crowded:
            return ""
        number = sum(group.number for group in crowded)
        return f"{number} (image, phrase) pairs have more than {MAX_QUERIES} instances. {crowded[0].remedy}"


def write_check_page(page: CheckPage, sample_indices: list[int], folder: Path) -> Path:
    """
    Write the page.

    Args:
        page (`CheckPage`): The page.
        sample_indices (`list[int]`): Rows of the training split that are shown beside the findings.
        folder (`Path`): Output folder of `index.html`.

    Returns:
        `Path`: The page.

    Raises:
        `ValueError`: If the folder contains a file of this name that no earlier check wrote.
    """
    owned = OwnedFiles(folder, "gallery")
    owned.check_free([PAGE], _ARGUMENT)
    text = page.render(sample_indices)
    owned.remove(owned.names)
    return owned.write_text(PAGE, text, _ARGUMENT)


def _with_split(finding: Finding) -> str:
    return f"{finding.split}: {finding.message}" if finding.split else finding.message


def _range_label(low: int, high: int | None) -> str:
    return f"≥{low}" if high is None else f"{low}–{high}"


def _split_color(index: int) -> str:
    return COLORS[index % len(COLORS)]
