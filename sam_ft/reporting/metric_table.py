"""Metric table: one column per model, as Markdown and as plain values."""

import re
from dataclasses import asdict, dataclass, field


# label by metric name, in the order of the table
ROWS = {
    "object_IoU": "IoU of prompted objects",
    "object_dice": "Dice of prompted objects",
    "object_boundary_F1": "boundary F1 of prompted objects",
    "object_IoU_small": "IoU of small objects (below 32² px)",
    "object_IoU_medium": "IoU of medium objects",
    "object_IoU_large": "IoU of large objects (96² px and more)",
    **{f"IoU@{k}": f"IoU after {k} click{'s' if k > 1 else ''}" for k in range(1, 21)},
    "IoU@box": "IoU after a box",
    "IoU@1_best": "IoU of the best of three masks of one click (oracle)",
    "IoU_error": "mean error of the predicted IoU",
    "objects_missing": "objects too small for the canvas (counted as 0)",
    "mask_AP": "mask AP (IoU 0.50:0.95)",
    "mask_AP50": "mask AP50",
    "mask_APs": "mask AP, small (below 32² px of mask)",
    "mask_APm": "mask AP, medium",
    "mask_APl": "mask AP, large (above 96² px)",
    "box_AP": "box AP",
    "box_AP50": "box AP50",
    "mask_AP50_trained": "mask AP50 of trained phrases",
    "mask_AP50_other": "mask AP50 of phrases that were not trained",
    "box_AP50_trained": "box AP50 of trained phrases",
    "box_AP50_other": "box AP50 of phrases that were not trained",
    "cgF1": "cgF1 (detections from a score of 0.5)",
    "pmF1": "pmF1",
    "IL_MCC": "IL_MCC",
    "F1@thresholds": "F1 at the saved thresholds",
    "false_positives_per_absent@thresholds": "false positives per absent phrase, at the saved thresholds",
    "mean_IoU": "mean IoU",
    "dice": "Dice",
    "boundary_F1": "boundary F1",
    "concept_recall": "concept recall",
    "grounding_accuracy": "grounding accuracy",
    "attribute_accuracy": "attribute accuracy",
    "presence_accuracy": "presence accuracy",
    "near_miss_refusal": "near-miss phrases rejected",
    "false_positives_per_absent": "false positives per absent phrase",
    "retention_AP50": "AP50 on the probe set",
    "retention_presence_agreement": "untrained phrases: presence agreement with the first model",
    "retention_IoU": "untrained phrases: IoU with the first model's detections",
    "retention_false_yes": "untrained phrases: false-positive rate where the first model predicts absent",
    "retention_swapped_yes": "trained phrases in another colour: false-positive rate",
    "retention_invented_yes": "nonsense words: false-positive rate",
    "loss": "loss",
}
LOWER_IS_BETTER = {
    "loss",
    "IoU_error",
    "objects_missing",
    "false_positives_per_absent",
    "false_positives_per_absent@thresholds",
    "retention_false_yes",
    "retention_swapped_yes",
    "retention_invented_yes",
}


@dataclass
class Column:
    """
    Column of the table: one model, or one file of results.

    Attributes:
        name (`str`): Name of the column.
        metrics (`dict[str, float]`): Values by metric name, from `ROWS`.
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
    return [name for name in ROWS if any(exists(column.metrics.get(name)) for column in columns)]


def exists(value: float | None) -> bool:
    """Check whether a metric has a value; -1 marks an undefined one, as in pycocotools."""
    return value is not None and value != -1


def best_of(name: str, columns: list[Column]) -> set[int]:
    """Return the indices of the columns with the best value of a metric; empty with a single value."""
    values = {i: c.metrics[name] for i, c in enumerate(columns) if exists(c.metrics.get(name))}
    if len(values) < 2:
        return set()
    best = min(values.values()) if name in LOWER_IS_BETTER else max(values.values())
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
        lines.append(f"| {ROWS[name]} | " + " | ".join(cells) + " |")
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
