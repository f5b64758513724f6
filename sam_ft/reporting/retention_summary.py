"""Sentences on the retention of a tuned model: regressions and unchanged metrics."""

from .metric_specs import METRICS
from .metric_table import exists


_REGRESSION = (
    "REGRESSION: predictions for untrained phrases have degraded. "
    "Remedies: `replay`, `distill_weight`, `lora`, lower learning rates"
)
_NO_REGRESSION = "Retention: no regression on untrained phrases"


def describe_retention(metrics: dict[str, float], before: dict[str, float]) -> list[str]:
    """
    Describe the retention metrics in sentences, regressions first.

    Args:
        metrics (`dict[str, float]`): Metrics of the tuned model from an evaluation and from the retention probe,
            without prefix. Values before training have the suffix `_before`.
        before (`dict[str, float]`): Metrics of the model with which it is compared, without prefix.

    Returns:
        `list[str]`: Heading and one line for each metric; empty if no retention metric was measured.
    """
    regressions, unchanged, described = [], [], set()
    for name, spec in METRICS.items():
        rule = spec.regression
        if rule is None or rule.text in described:
            continue
        best = float(spec.higher_is_better)
        old = best if rule.compares_models else before.get(name, metrics.get(f"{name}_before"))
        new = metrics.get(name)
        if not (exists(old) and exists(new)):
            continue
        described.add(rule.text)
        decline = old - new if spec.higher_is_better else new - old
        (regressions if decline >= rule.threshold else unchanged).append(rule.text.format(old=old, new=new))
    if not described:
        return []
    lines = [*(f"  ✗ {text}" for text in regressions), *(f"  ✓ {text}" for text in unchanged)]
    return [_REGRESSION if regressions else _NO_REGRESSION, *lines]
