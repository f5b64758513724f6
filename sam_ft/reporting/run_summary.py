"""Closing lines of a run: change of the trained phrases, change of all other phrases, and where the files are."""

from dataclasses import dataclass, field

from ..metrics.thresholds import Thresholds
from .metric_specs import short_label_of
from .metric_table import Column, ap50_of, exists, lead_metric_of
from .retention_summary import describe_retention


MAX_PHRASES = 4  # phrases with a score or threshold of their own
MAX_REGRESSIONS = 2
_WIDTH = 17  # characters of the left column
_UNTRAINED = ("mask_AP50_untrained", "box_AP50_untrained")


@dataclass
class RunOutcome:
    """
    Result of a run.

    Attributes:
        columns (`list[Column]`): Metrics before training, if there are any, and after it.
        trained (`set[str]`): Trained phrases.
        unchanged_pairs (`int`, *optional*): Number of (image, phrase) pairs of other phrases with outputs before and
            after training, if all of these are equal; `None` if one differs or none was compared.
        are_new (`bool`): Whether the model had no training on the phrases, as for concepts.
        takes_phrases (`bool`): Whether the model takes phrases; SAM 2 has no other phrases that could change.
        thresholds (`Thresholds`, *optional*): Score thresholds that are saved with the model.
        files (`dict[str, str]`): Path by kind, such as `report`.
        next_command (`str`, *optional*): Command that uses the model.
    """

    columns: list[Column]
    trained: set[str]
    unchanged_pairs: int | None = None
    are_new: bool = False
    takes_phrases: bool = True
    thresholds: Thresholds | None = None
    files: dict[str, str] = field(default_factory=dict)
    next_command: str | None = None


def summarize_run(outcome: RunOutcome) -> list[str]:
    """
    Describe a run in at most eight lines: what it gained, kept and lost, thresholds, files and the next command.

    Args:
        outcome (`RunOutcome`): Result of the run.

    Returns:
        `list[str]`: The lines.
    """
    after = outcome.columns[-1]
    before = outcome.columns[0] if len(outcome.columns) > 1 else Column("before", {})
    subject = "objects"
    if outcome.takes_phrases:
        subject = "new phrases" if outcome.are_new else "trained phrases"
    lines = [(subject, _describe_gain(before, after, outcome.trained))]
    if outcome.takes_phrases:
        heading, *regressions = _describe_other_phrases(before, after, outcome.unchanged_pairs)
        lines.append(("other phrases", heading))
        if len(regressions) > MAX_REGRESSIONS:
            others = len(regressions) - MAX_REGRESSIONS
            regressions[MAX_REGRESSIONS - 1 :] = [f"{regressions[MAX_REGRESSIONS - 1]}; {others} more"]
        lines += [("", text) for text in regressions]
    if outcome.thresholds is not None:
        lines.append(("thresholds", _describe_thresholds(outcome.thresholds, outcome.trained)))
    lines += outcome.files.items()
    if outcome.next_command is not None:
        lines.append(("next", outcome.next_command))
    return [format_line(kind, text) for kind, text in lines]


def format_line(kind: str, text: str) -> str:
    """
    Format an opening or closing line of a run.

    Args:
        kind (`str`): Subject of the line, the left column.
        text (`str`): Content of the line, the right column.
    """
    return f"{kind:{_WIDTH}}{text}".rstrip()


def _describe_thresholds(thresholds: Thresholds, trained: set[str]) -> str:
    values = {phrase: thresholds.of(phrase) for phrase in sorted(trained & thresholds.phrases.keys())}
    if 0 < len(values) <= MAX_PHRASES:
        return ", ".join([*(f"{phrase} {value:.2f}" for phrase, value in values.items()), _others(thresholds)])
    if not values:
        return f"{thresholds.default:.2f} for all phrases"
    low, high = min(values.values()), max(values.values())
    return f"{low:.2f} to {high:.2f} for {len(values)} phrases, {_others(thresholds)}"


def _others(thresholds: Thresholds) -> str:
    return f"others {thresholds.default:.2f}"


def _describe_gain(before: Column, after: Column, trained: set[str]) -> str:
    """Describe the leading metric and that of each trained phrase, before and after."""
    name = lead_metric_of(after.metrics)
    if name is None:
        return "no metric, because no image of the evaluation shows them"
    text = f"{short_label_of(name)} {_change(before.metrics.get(name), after.metrics[name])}"
    if not exists(before.metrics.get(name)):
        text += ", not evaluated before training"
    scores = {phrase: ap50_of(after.phrases.get(phrase, {})) for phrase in sorted(trained)}
    scores = {phrase: score for phrase, score in scores.items() if exists(score)}
    if not 1 < len(scores) <= MAX_PHRASES:
        return text
    changes = (f"{p} {_change(ap50_of(before.phrases.get(p, {})), score)}" for p, score in scores.items())
    return f"{text} ({', '.join(changes)})"


def _describe_other_phrases(before: Column, after: Column, unchanged_pairs: int | None) -> list[str]:
    """Describe what happened to phrases that were not trained, then each regression."""
    numbers = []
    name = next((name for name in _UNTRAINED if exists(after.metrics.get(name))), None)
    if name is not None:
        numbers.append(f"{short_label_of(name)} {_change(before.metrics.get(name), after.metrics[name])}")
    if unchanged_pairs is not None:
        scores = f"; {numbers[0]}" if numbers else ""
        return [f"unchanged: bit-identical in all {unchanged_pairs:,} (image, phrase) pairs{scores}"]
    agreement = after.metrics.get("retention_presence_agreement")
    if exists(agreement):
        numbers.append(f"presence as before in {agreement:.0%} of the pairs")
    sentences = describe_retention(after.metrics, before.metrics)
    if not sentences:
        return ["; ".join([*numbers, "not compared with the model before training"])]
    regressions = [text.strip() for text in sentences if text.strip().startswith("✗")]
    verdict = "REGRESSION, see the report" if regressions else "no regression"
    return ["; ".join([verdict, *numbers]), *regressions]


def _change(before: float | None, after: float) -> str:
    return f"{before:.2f} → {after:.2f}" if exists(before) else f"{after:.2f}"
