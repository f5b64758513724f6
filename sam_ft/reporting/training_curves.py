"""Charts of a training run over its steps: loss, learning rates and the leading metric of the evaluations."""

import math
from collections.abc import Iterable

from .charts import COLORS, Line, line_chart
from .metric_specs import METRICS


MAX_RATES = len(COLORS)  # parts of the model with a learning rate of their own


def build_training_charts(history: Iterable[dict], metric: str | None, before: float | None = None) -> list[dict]:
    """
    Build the charts of a run.

    Args:
        history (`Iterable[dict]`): Entries of the Trainer's `state.log_history`.
        metric (`str`, *optional*): Metric of the evaluations, without prefix.
        before (`float`, *optional*): Its value before training.

    Returns:
        `list[dict]`: Charts of [`line_chart`]; those without a value are left out.
    """
    history = list(history)
    training = Line("training", COLORS[0], _collect(history, "loss"))
    evaluation = Line("evaluation", COLORS[1], _collect(history, "eval_loss"))
    parts = dict.fromkeys(key for entry in history for key in entry if key.startswith("lr_"))
    names = {key: key.removeprefix("lr_") for key in parts} or {"learning_rate": "learning rate"}
    rates = [
        Line(name, COLORS[i], _collect(history, key)) for i, (key, name) in enumerate(list(names.items())[:MAX_RATES])
    ]
    charts = [("Loss", [training, evaluation], None), ("Learning rate", rates, None)]
    if metric is not None:
        points = _collect(history, f"eval_{metric}")
        if before is not None and points and points[0][0] > 0:
            points = [(0.0, before), *points]
        label = METRICS[metric].label
        charts.append((label[:1].upper() + label[1:], [Line(label, COLORS[1], points)], (0.0, 1.0)))
    return [
        line_chart(title, "step", [line for line in lines if line.points], limits)
        for title, lines, limits in charts
        if any(line.points for line in lines)
    ]


def _collect(history: list[dict], key: str) -> list[tuple[float, float]]:
    """Return step and value of the entries with a finite value; the last entry of a step counts."""
    values = {entry["step"]: entry[key] for entry in history if "step" in entry and key in entry}
    return [(float(step), float(value)) for step, value in sorted(values.items()) if math.isfinite(value)]
