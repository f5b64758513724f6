"""Headline of a report: gain and retention in plain words, and two or three numbers with their intervals."""

from dataclasses import dataclass

from .metric_specs import METRICS, MetricGroup
from .metric_table import Column, ap50_of, exists, lead_metric_of


MAX_COLUMNS = 6  # models in the sentence of a comparison
_MIN_CHANGE = 0.005  # of a phrase's AP50 that counts as a change
_FURTHER_METRICS = ("mask_AP50_untrained", "box_AP50_untrained", "cgF1", "object_boundary_F1")
_EXPLANATIONS = {
    "AP50": "AP50 is 1 if every object is found with an IoU of at least 0.5, and nothing else is.",
    "IoU": "IoU is the overlap of a mask with its object; 1 is perfect.",
}


@dataclass
class Headline:
    """
    Headline of a report.

    Attributes:
        sentences (`list[str]`): Gain, then retention.
        tiles (`list[dict]`): Label, value, interval, change and status of each number.
        explanation (`str`): Meaning of the first number.
    """

    sentences: list[str]
    tiles: list[dict]
    explanation: str


def build_headline(columns: list[Column], *, is_run: bool, unchanged_pairs: int | None = None) -> Headline:
    """
    Build the headline of a report.

    Args:
        columns (`list[Column]`): Columns of the metric table.
        is_run (`bool`): Whether the columns are those of a run: before training, if it was evaluated, and after.
        unchanged_pairs (`int`, *optional*): Number of (image, phrase) pairs of other phrases if all their outputs are
            equal before and after.
    """
    last = columns[-1]
    name = lead_metric_of(last.metrics)
    if name is None:
        subject = " of the trained phrases" if is_run else ""
        return Headline([f"There is no metric{subject}, because no evaluated image shows an object."], [], "")
    takes_phrases = METRICS[name].group is not MetricGroup.OBJECT
    sentences = [_describe_gain(columns, name, is_run=is_run)]
    tiles = [_tile(columns, name, METRICS[name].lead.text if is_run else None)]
    if takes_phrases and is_run:
        sentences += [_count_changed_phrases(columns), _describe_retention(last, unchanged_pairs)]
        tiles += [tile for tile in [_retention_tile(last, unchanged_pairs)] if tile is not None]
    further = [other for other in _FURTHER_METRICS if exists(last.metrics.get(other)) and other != name]
    tiles += [_tile(columns, other) for other in further[:1]]
    explanation = next((text for key, text in _EXPLANATIONS.items() if key in name), "")
    return Headline([sentence for sentence in sentences if sentence], tiles, explanation)


def _describe_gain(columns: list[Column], name: str, *, is_run: bool) -> str:
    first, last = columns[0], columns[-1]
    new, old = last.metrics[name], first.metrics.get(name)
    if not is_run:
        scores = [f"{c.name} {c.metrics[name]:.2f}" for c in columns[-MAX_COLUMNS:] if exists(c.metrics.get(name))]
        return f"{_capitalize(METRICS[name].label)}: {', '.join(scores)}."
    text = METRICS[name].lead.text
    if first is last or not exists(old):
        return f"{text}: {new:.2f}. The model was not evaluated before training."
    if f"{old:.2f}" == f"{new:.2f}":
        return f"{text} stayed at {new:.2f}."
    difference = last.differences.get(name)
    if difference is not None and difference[1] <= 0 <= difference[2]:
        return f"{text} went from {old:.2f} to {new:.2f}, which may be chance: the interval of the change contains 0."
    return f"{text} {'rose' if new > old else 'fell'} from {old:.2f} to {new:.2f}."


def _count_changed_phrases(columns: list[Column]) -> str:
    """Describe how many phrases have a higher and a lower AP50 than before; empty for one phrase."""
    first, last = columns[0].phrases, columns[-1].phrases
    pairs = [(ap50_of(first[phrase]), ap50_of(numbers)) for phrase, numbers in last.items() if phrase in first]
    changes = [new - old for old, new in pairs if exists(old) and exists(new)]
    if len(columns) < 2 or len(changes) < 2:
        return ""
    rose, fell = (sum(sign * change >= _MIN_CHANGE for change in changes) for sign in (1, -1))
    return f"AP50 rose for {rose or 'none'} of {len(changes)} phrases and fell for {fell or 'none'}."


def _describe_retention(last: Column, unchanged_pairs: int | None) -> str:
    if unchanged_pairs is not None:
        return "All outputs for other phrases are bit-identical to those before training."
    regressions = sum(note.strip().startswith("✗") for note in last.notes)
    if regressions:
        return f"Predictions for other phrases have degraded: {regressions} of the metrics below."
    if any(note.strip().startswith("✓") for note in last.notes):
        return "There is no regression on other phrases."
    return "Other phrases were not compared with the model before training."


def _retention_tile(last: Column, unchanged_pairs: int | None) -> dict | None:
    if unchanged_pairs is not None:
        change = f"bit-identical in all {unchanged_pairs:,} (image, phrase) pairs"
        return {"label": "Other phrases", "value": "unchanged", "interval": "", "change": change, "status": "good"}
    name = "retention_presence_agreement"
    value = last.metrics.get(name)
    if not exists(value):
        return None
    interval = last.intervals.get(name)
    is_worse = any(note.strip().startswith("✗") for note in last.notes)
    return {
        "label": "Other phrases: presence as before training",
        "value": f"{value:.0%}",
        "interval": "" if interval is None else f"{interval[0]:.0%} to {interval[1]:.0%}",
        "change": "share of the (image, phrase) pairs",
        "status": "bad" if is_worse else "good",
    }


def _tile(columns: list[Column], name: str, label: str | None = None) -> dict:
    first, last = columns[0], columns[-1]
    interval, difference = last.intervals.get(name), last.differences.get(name)
    old = first.metrics.get(name) if first is not last else None
    change, status = "", ""
    if exists(old):
        change = f"{first.name}: {old:.2f}"
    if exists(old) and difference is not None:
        is_equal = not any(difference)
        change += f", change {difference[0]:+.2f} ({difference[1]:+.2f} to {difference[2]:+.2f})" * (not is_equal)
        change += ", no change" * is_equal
        status = "good" if difference[1] > 0 else "bad" if difference[2] < 0 else ""
    return {
        "label": label or _capitalize(METRICS[name].label),
        "value": f"{last.metrics[name]:.2f}",
        "interval": "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        "change": change,
        "status": status,
    }


def _capitalize(text: str) -> str:
    """Capitalize the first word, unless it is a name such as `cgF1`."""
    return text[:1].upper() + text[1:] if text.split()[0].islower() else text
