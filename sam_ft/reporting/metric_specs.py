"""Registry of metrics: label, direction, and the reports, selections and intervals that use each of them."""

import re
from dataclasses import dataclass
from enum import StrEnum

from ..metrics.average_precision import NAMES


AT_THRESHOLDS = "@thresholds"  # suffix of the metrics at the score thresholds that are saved with a model
DEGRADATION_THRESHOLD = 0.1  # change of a metric that counts as a regression
MAX_CLICKS = 20
_CARD_CLICKS = (1, 2, 3, 5, 8)


class MetricGroup(StrEnum):
    """Computation that gives a metric."""

    LOSS = "loss"
    PRECISION = "average precision"
    CONCEPT = "cgF1 and its components"
    REGION = "regions"
    PHRASE = "presence and grounding"
    OBJECT = "prompted objects"
    THRESHOLD = "at the saved thresholds"
    RETENTION = "retention"


@dataclass(frozen=True)
class Regression:
    """
    Sentence about a metric before and after training, and the change that counts as a regression.

    Attributes:
        text (`str`): Format of the sentence, with `{old}` and `{new}`. Of several metrics with the same text, the
            first one that was measured is described.
        threshold (`float`): Minimum change for the worse that counts as a regression.
        compares_models (`bool`): Whether the metric itself compares the predictions of two models, so that its best
            value, 1 or 0, takes the place of the value before.
    """

    text: str
    threshold: float = DEGRADATION_THRESHOLD
    compares_models: bool = False


@dataclass(frozen=True)
class Lead:
    """
    Use of a metric in the first paragraph of a model card, which contains the first metric that exists.

    Attributes:
        rank (`int`): Position among these metrics.
        text (`str`): Name of the metric in the sentence.
    """

    rank: int
    text: str


@dataclass(frozen=True)
class MetricSpec:
    """
    Properties of a metric.

    Attributes:
        name (`str`): Name in logs and files, without a prefix such as `eval_`.
        label (`str`): Label in reports.
        group (`MetricGroup`): Computation that gives it.
        higher_is_better (`bool`): Direction.
        in_table (`bool`): Whether the metric table of reports contains it.
        in_card (`bool`): Whether the model card's table contains it.
        in_metadata (`bool`): Whether the model card's metadata contain it.
        lead (`Lead`, *optional*): Use in the first paragraph of the model card.
        is_resampled (`bool`): Whether it has a bootstrap confidence interval.
        is_selectable (`bool`): Whether every evaluation gives it, so that `metric_for_best_model` may name it.
        regression (`Regression`, *optional*): Sentence on retention.
    """

    name: str
    label: str
    group: MetricGroup
    higher_is_better: bool = True
    in_table: bool = True
    in_card: bool = False
    in_metadata: bool = False
    lead: Lead | None = None
    is_resampled: bool = False
    is_selectable: bool = False
    regression: Regression | None = None


def _precision(name: str, label: str, **properties) -> MetricSpec:
    return MetricSpec(name, label, MetricGroup.PRECISION, is_selectable=True, **properties)


def _precision_of_phrases(name: str, label: str, **properties) -> MetricSpec:
    """Build the specification of a metric that exists only for data with trained and untrained phrases."""
    return MetricSpec(name, label, MetricGroup.PRECISION, **properties)


def _concept(name: str, label: str, **properties) -> MetricSpec:
    return MetricSpec(name, label, MetricGroup.CONCEPT, is_selectable=True, **properties)


def _object(name: str, label: str, **properties) -> MetricSpec:
    return MetricSpec(name, label, MetricGroup.OBJECT, is_resampled=True, is_selectable=True, **properties)


def _retention(name: str, label: str, **properties) -> MetricSpec:
    # The AP50 on the labelled probe set is not a mean over pairs.
    is_resampled = name != "retention_AP50"
    return MetricSpec(name, label, MetricGroup.RETENTION, in_card=True, is_resampled=is_resampled, **properties)


_REGION, _PHRASE, _THRESHOLD = MetricGroup.REGION, MetricGroup.PHRASE, MetricGroup.THRESHOLD
_UNTRAINED = Regression("AP50 of labelled phrases that were not trained: {old:.2f} before, {new:.2f} now")
# In the order of the metric table; hidden metrics are at the end.
_SPECS = (
    _object(
        "object_IoU", "IoU of prompted objects", in_card=True, in_metadata=True,
        lead=Lead(1, "Mean IoU of prompted objects"),
    ),
    _object("object_dice", "Dice of prompted objects", in_card=True),
    _object("object_boundary_F1", "boundary F1 of prompted objects", in_card=True),
    _object("object_IoU_small", "IoU of small objects (below 32² px)", in_card=True),
    _object("object_IoU_medium", "IoU of medium objects", in_card=True),
    _object("object_IoU_large", "IoU of large objects (96² px and more)", in_card=True),
    *(
        _object(f"IoU@{k}", f"IoU after {k} click{'s' if k > 1 else ''}", in_card=k in _CARD_CLICKS)
        for k in range(1, MAX_CLICKS + 1)
    ),
    _object("IoU@box", "IoU after a box", in_card=True),
    _object("IoU@1_best", "IoU of the best of three masks of one click (oracle)"),
    _object("IoU_error", "mean error of the predicted IoU", higher_is_better=False),
    _object("objects_missing", "objects too small for the canvas (counted as 0)", higher_is_better=False),
    _precision("mask_AP", "mask AP (IoU 0.50:0.95)", in_card=True, in_metadata=True, is_resampled=True),
    _precision(
        "mask_AP50", "mask AP50", in_card=True, in_metadata=True, is_resampled=True,
        lead=Lead(3, "Mask AP50 of the trained phrases"),
    ),
    _precision("mask_APs", "mask AP, small (below 32² px of mask)"),
    _precision("mask_APm", "mask AP, medium"),
    _precision("mask_APl", "mask AP, large (above 96² px)"),
    _precision("box_AP", "box AP", in_card=True, in_metadata=True, is_resampled=True),
    _precision(
        "box_AP50", "box AP50", in_card=True, is_resampled=True, lead=Lead(5, "Box AP50 of the trained phrases")
    ),
    _precision_of_phrases(
        "mask_AP50_trained", "mask AP50 of trained phrases", in_card=True, is_resampled=True,
        lead=Lead(2, "Mask AP50 of the trained phrases"),
    ),
    _precision_of_phrases(
        "mask_AP50_untrained", "mask AP50 of phrases that were not trained", in_card=True, is_resampled=True,
        regression=_UNTRAINED,
    ),
    _precision_of_phrases(
        "box_AP50_trained", "box AP50 of trained phrases", in_card=True, is_resampled=True,
        lead=Lead(4, "Box AP50 of the trained phrases"),
    ),
    _precision_of_phrases(
        "box_AP50_untrained", "box AP50 of phrases that were not trained", in_card=True, is_resampled=True,
        regression=_UNTRAINED,
    ),
    _concept("cgF1", "cgF1 (detections from a score of 0.5)", in_card=True, in_metadata=True, is_resampled=True),
    _concept("pmF1", "pmF1", is_resampled=True),
    _concept("IL_MCC", "IL_MCC", is_resampled=True),
    MetricSpec(f"F1{AT_THRESHOLDS}", "F1 at the saved thresholds", _THRESHOLD, in_card=True),
    MetricSpec(
        f"false_positives_per_absent{AT_THRESHOLDS}", "false positives per absent phrase, at the saved thresholds",
        _THRESHOLD, higher_is_better=False,
    ),
    MetricSpec("mean_IoU", "mean IoU", _REGION, is_resampled=True),
    MetricSpec("dice", "Dice", _REGION),
    MetricSpec("boundary_F1", "boundary F1", _REGION),
    MetricSpec("concept_recall", "concept recall", _PHRASE),
    MetricSpec("grounding_accuracy", "grounding accuracy", _PHRASE),
    MetricSpec("attribute_accuracy", "attribute accuracy", _PHRASE),
    MetricSpec("presence_accuracy", "presence accuracy", _PHRASE, in_card=True, is_resampled=True, is_selectable=True),
    MetricSpec("near_miss_rejection", "near-miss phrases rejected", _PHRASE),
    MetricSpec(
        "false_positives_per_absent", "false positives per absent phrase", _PHRASE,
        higher_is_better=False, in_card=True,
    ),
    _retention(
        "retention_AP50", "AP50 on the probe set",
        regression=Regression("AP50 on the probe set: {old:.2f} before, {new:.2f} now"),
    ),
    _retention(
        "retention_presence_agreement", "untrained phrases: presence agreement with the first model",
        regression=Regression(
            "presence of untrained phrases is predicted as before in {new:.0%} of the pairs", compares_models=True
        ),
    ),
    _retention(
        "retention_IoU", "untrained phrases: IoU with the first model's detections",
        regression=Regression(
            "detections of untrained phrases before and now have an IoU of {new:.2f}", 3 * DEGRADATION_THRESHOLD,
            compares_models=True,
        ),
    ),
    _retention(
        "retention_false_positive_rate",
        "untrained phrases: false-positive rate where the first model predicts absent", higher_is_better=False,
        regression=Regression(
            "untrained phrases that were predicted absent are now predicted present in {new:.0%} of the pairs",
            compares_models=True,
        ),
    ),
    _retention(
        "recolored_false_positive_rate", "trained phrases in another colour: false-positive rate",
        higher_is_better=False,
        regression=Regression(
            "trained phrases in another colour are predicted present in {new:.0%} of the pairs, {old:.0%} before"
        ),
    ),
    _retention(
        "nonsense_false_positive_rate", "nonsense words: false-positive rate", higher_is_better=False,
        regression=Regression("nonsense phrases are predicted present in {new:.0%} of the pairs, {old:.0%} before"),
    ),
    MetricSpec("loss", "loss", MetricGroup.LOSS, higher_is_better=False, is_selectable=True),
    *(_precision(f"mask_{name}", f"mask {name}", in_table=False) for name in ("AP75", *NAMES[6:])),
    *(_precision(f"box_{name}", f"box {name}", in_table=False) for name in NAMES[2:]),
    *(
        _precision_of_phrases(
            f"{kind}_AP_{group}", f"{kind} AP of {group} phrases", in_table=False, is_resampled=True
        )
        for kind in ("mask", "box")
        for group in ("trained", "untrained")
    ),
    _concept("cgF1@0.5", "cgF1 at IoU 0.5", in_table=False),
    _concept("precision", "precision", in_table=False),
    _concept("recall", "recall", in_table=False),
    _concept("F1", "F1", in_table=False),
)  # fmt: skip
METRICS = {spec.name: spec for spec in _SPECS}
RENAMED_METRICS = {
    "retention_false_yes": "retention_false_positive_rate",
    "retention_swapped_yes": "recolored_false_positive_rate",
    "retention_swapped_yes_before": "recolored_false_positive_rate_before",
    "retention_invented_yes": "nonsense_false_positive_rate",
    "retention_invented_yes_before": "nonsense_false_positive_rate_before",
    "near_miss_refusal": "near_miss_rejection",
    **{f"{kind}_{ap}_other": f"{kind}_{ap}_untrained" for kind in ("mask", "box") for ap in ("AP", "AP50")},
}


def metrics_in(*groups: MetricGroup) -> list[str]:
    """List the metrics of groups, in the order of the table."""
    return [name for name, spec in METRICS.items() if spec.group in groups]


def selectable_metrics(*groups: MetricGroup) -> list[str]:
    """List the metrics of groups that every evaluation gives, so that `metric_for_best_model` may name them."""
    return [name for name in metrics_in(*groups) if METRICS[name].is_selectable]


def short_label_of(name: str) -> str:
    """Return the label of a metric without the phrases or objects that it is about, for progress and closing lines."""
    label = METRICS[name].label
    return re.sub(r" of (trained phrases|phrases that were not trained|prompted objects)$", "", label)
