"""Metric table: one column per model, as Markdown and as plain values."""

import re
from dataclasses import asdict, dataclass, field

from .metric_specs import METRICS


@dataclass
class Column:
    """
    Column of the table: one model, or one file of results.

    Attributes:
        name (`str`): Name of the column.
        metrics (`dict[str, float]`): Values by metric name, from `METRICS`.
        intervals (`dict[str, tuple[float, float]]`): 95 % interval over images, by metric name.
        differences (`dict[str, tuple[float, float, float]]`): Difference from the first column and its interval on the
            same images, by metric name.
        phrases (`dict[str, dict]`): Metrics of each phrase.
        curves (`dict[str, list[float]]`): Precision at 101 recall levels, by phrase.
        notes (`list[str]`): Lines that are shown before the table.
    """

    name: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    differences: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    phrases: dict[str, dict] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def rows_of(columns: list[Column]) -> list[str]:
    """List the metrics that at least one column has."""
    return [
        name
        for name, spec in METRICS.items()
        if spec.in_table and any(exists(column.metrics.get(name)) for column in columns)
    ]


def exists(value: float | None) -> bool:
    """Check whether a metric has a value; -1 marks an undefined one, as in pycocotools."""
    return value is not None and value != -1


def lead_metric_of(metrics: dict[str, float]) -> str | None:
    """Return the name of the metric that summarises an evaluation, the first of its ranking that has a value."""
    names = [
        name
        for name, spec in METRICS.items()
        # A metric of all phrases is none of the trained ones if only other phrases have a value.
        if spec.lead is not None and exists(metrics.get(name)) and not exists(metrics.get(f"{name}_untrained"))
    ]
    return min(names, key=lambda name: METRICS[name].lead.rank, default=None)


def best_of(name: str, columns: list[Column]) -> set[int]:
    """Return the indices of the columns with the best value of a metric; empty if all values are equal."""
    values = {i: c.metrics[name] for i, c in enumerate(columns) if exists(c.metrics.get(name))}
    if len(set(values.values())) < 2:
        return set()
    best = (max if METRICS[name].higher_is_better else min)(values.values())
    return {i for i, value in values.items() if value == best}


def as_markdown(columns: list[Column], title: str) -> str:
    """Format the report as a Markdown document."""
    names = [_escape(column.name) for column in columns]
    lines = [f"# {title}", ""]
    for column in columns:
        lines += [f"**{column.name}**", "", *(f"{note}  " for note in column.notes), ""] if column.notes else []
    lines += ["| | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in rows_of(columns):
        cells = [_cell(column, name, i in best_of(name, columns)) for i, column in enumerate(columns)]
        lines.append(f"| {METRICS[name].label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "In brackets: 95 % interval over images; Δ: difference from the first column, with its interval.",
        "",
    ]
    lines += ["| phrase | images | instances | " + " | ".join(f"AP50, {name}" for name in names) + " |"]
    lines += ["|---" * (len(columns) + 3) + "|"]
    for phrase in phrases_of(columns):
        first = next(c.phrases[phrase] for c in columns if phrase in c.phrases)
        scores = [ap50_of(column.phrases.get(phrase, {})) for column in columns]
        shown = " | ".join("–" if score is None else f"{score:.3f}" for score in scores)
        lines.append(f"| {_escape(phrase)} | {first.get('images', 0)} | {first.get('instances', 0)} | {shown} |")
    return "\n".join(lines) + "\n"


def as_plain(columns: list[Column]) -> dict:
    """Convert the report to plain values for JSON."""
    return {"columns": [asdict(column) for column in columns], "rows": rows_of(columns)}


def phrases_of(columns: list[Column]) -> list[str]:
    """List the phrases that occur in an image, the most frequent first."""
    images = {p: n.get("images", 0) for column in columns for p, n in column.phrases.items()}
    return sorted((p for p, n in images.items() if n), key=lambda p: (-images[p], p))


def ap50_of(numbers: dict) -> float | None:
    """Return the AP50 of a phrase, of masks if there are any, else of boxes."""
    return numbers.get("mask_AP50", numbers.get("box_AP50"))


def _escape(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return re.sub(r"([\\`*_\[\]|!])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def cell_of(column: Column, name: str) -> str:
    """Format a metric with its interval as Markdown."""
    value = column.metrics.get(name)
    if not exists(value):
        return "–"
    low, high = column.intervals.get(name, (None, None))
    return f"{value:.3f}" + ("" if low is None else f" ({low:.3f}–{high:.3f})")


def _cell(column: Column, name: str, best: bool) -> str:
    text = cell_of(column, name)
    if not exists(column.metrics.get(name)):
        return text
    number, _, interval = text.partition(" ")
    text = " ".join(filter(None, [f"**{number}**" if best else number, interval]))
    if name in column.differences:
        difference, low, high = column.differences[name]
        text += f" Δ {difference:+.3f} ({low:+.3f}–{high:+.3f})"
    return text
