"""Score thresholds per phrase and a presence temperature, fitted on validation images."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from ..utils.json_files import read_json_file, write_json
from ..utils.text import phrase_spellings, phrase_words, short_repr
from .pairs import SCORE, Pair, by_phrase, overlaps


FILE = "thresholds.json"
IOU = 0.5
MIN_OBJECTS = 3  # a phrase with fewer objects shares the default threshold
_EPSILON = 1e-6  # minimum distance of probabilities from 0 and 1


@dataclass
class Thresholds:
    """
    Score thresholds and presence temperature of a model.

    Attributes:
        presence_temperature (`float`): Calibrated presence is `sigmoid(logit / temperature)`; scores scale with it.
        default (`float`): Threshold of phrases that are not in `phrases`.
        phrases (`dict[str, float]`): Phrase -> threshold.
        temperatures (`dict[str, float]`): Phrase -> temperature that replaces `presence_temperature`, of concepts that
            were trained apart.
        rule (`str`): Rule of the fit, for reports.
        num_images (`int`): Number of validation images of the fit.
    """

    presence_temperature: float = 1.0
    default: float = SCORE
    phrases: dict[str, float] = field(default_factory=dict)
    rule: str = "none: 0.5 for all"
    num_images: int = 0
    temperatures: dict[str, float] = field(default_factory=dict)

    def of(self, phrase: str) -> float:
        """
        Return a phrase's threshold; spellings that differ in case, separators and brackets only are equivalent.

        Args:
            phrase (`str`): Phrase in any spelling: `Traffic_light` has the threshold of `traffic light`.

        Returns:
            `float`: Threshold; `default` for a phrase without one.
        """
        return _find_spelling(self.phrases, phrase, self.default)

    def presence(self, probability: float, phrase: str | None = None) -> float:
        """Return the presence probability of a phrase, in any spelling, at its fitted temperature."""
        temperature = self.presence_temperature
        if phrase is not None:
            temperature = _find_spelling(self.temperatures, phrase, temperature)
        return float(_sigmoid(_logit(probability) / temperature))

    def rescore(self, score: float, presence: float, phrase: str | None = None) -> float:
        """Return a detection's score, query probability times presence, at the fitted temperature of its phrase."""
        return score / max(presence, _EPSILON) * self.presence(presence, phrase)

    def save(self, folder: Path) -> None:
        """Write `thresholds.json` to a folder."""
        write_json(folder / FILE, asdict(self), indent=1)


def _find_spelling(values: dict[str, float], phrase: str, default: float) -> float:
    """Return the value of a phrase in any spelling, or `default`."""
    if phrase in values or not values:
        return values.get(phrase, default)
    normalized = {phrase_words(name): value for name, value in reversed(values.items())}
    return next((normalized[text] for text in phrase_spellings(phrase) if text in normalized), default)


def read_thresholds(folder: Path) -> Thresholds | None:
    """
    Read the thresholds that were saved with a model.

    Args:
        folder (`Path`): Folder of the model.

    Returns:
        `Thresholds` or `None`: `None` without a thresholds file.

    Raises:
        `ValueError`: The file is malformed; the message contains its path.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        thresholds = Thresholds(**read_json_file(file, remedy="Delete it, or evaluate the model again"))
        numbers = [thresholds.default, *thresholds.phrases.values()]
        if not all(0 <= number <= 1 for number in numbers) or not thresholds.presence_temperature > 0:
            raise ValueError("thresholds must be between 0 and 1 and the temperature greater than 0")
        if not isinstance(thresholds.rule, str):
            raise ValueError(f"`rule` must be a string, got {short_repr(thresholds.rule)}")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} does not contain valid thresholds ({error}). Delete it, or evaluate the model again."
        ) from error
    return thresholds


def at_thresholds(pairs: Iterable[Pair], thresholds: Thresholds) -> list[Pair]:
    """
    Apply thresholds and temperature to pairs.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        thresholds (`Thresholds`): Fitted thresholds.

    Returns:
        `list[Pair]`: Pairs with the remaining detections, at a score of 1, and calibrated presence.
    """
    chosen = []
    for pair in pairs:
        presence = 1.0 if pair.presence is None else pair.presence
        threshold = thresholds.of(pair.phrase)
        detections = [
            detection | {"score": 1.0}
            for detection in pair.detections
            if thresholds.rescore(detection["score"], presence) >= threshold
        ]
        calibrated_presence = None if pair.presence is None else thresholds.presence(pair.presence)
        chosen.append(replace(pair, detections=detections, presence=calibrated_presence))
    return chosen


def choose_thresholds(pairs: Iterable[Pair], kind: str, max_false_positives: float | None = None) -> Thresholds:
    """
    Fit thresholds and presence temperature on validation images.

    Args:
        pairs (`Iterable[Pair]`): Pairs of validation images with all stored detections.
        kind (`str`): `mask` or `box`.
        max_false_positives (`float`, *optional*): Maximum number of false positives per image over all phrases,
            divided equally among them. Where not set, thresholds maximise F1.

    Returns:
        `Thresholds`: Thresholds; a phrase with at least three objects has an individual one.
    """
    pairs = [pair for pair in pairs if pair.exhaustive and pair.has(kind)]
    images = len({pair.image_id for pair in pairs})
    rule = (
        "best F1 at IoU 0.5"
        if max_false_positives is None
        else f"{max_false_positives:g} false detections an image at most"
    )
    chosen = Thresholds(presence_temperature=_temperature(pairs), rule=rule, num_images=images)
    allowed = None if max_false_positives is None else max_false_positives * max(images, 1)
    labelled = {
        phrase: [_label_detections(pair, kind, chosen) for pair in group] for phrase, group in by_phrase(pairs).items()
    }
    frequent = {phrase for phrase, group in labelled.items() if sum(objects for *_, objects in group) >= MIN_OBJECTS}
    rare = [phrase for phrase in labelled if phrase not in frequent]
    share = None if allowed is None else allowed / max(len(labelled), 1)
    # For the best F1, all phrases provide more data than rare ones. A maximum of false positives applies only once.
    together = list(labelled) if allowed is None or not rare else rare
    pooled = [item for phrase in together for item in labelled[phrase]]
    chosen.default = _choose(pooled, None if share is None else share * len(together), SCORE)
    for phrase in sorted(frequent):
        chosen.phrases[phrase] = _choose(labelled[phrase], share, chosen.default)
    return chosen


def _label_detections(pair: Pair, kind: str, thresholds: Thresholds) -> tuple[list[float], list[bool], int]:
    """
    Match a pair's detections greedily, highest score first, as COCO does.

    With greedy matching, a threshold removes detections without changing the matches of the others.

    Returns:
        `tuple[list[float], list[bool], int]`: Scores of the detections, whether each is a true positive, and the
        number of objects.
    """
    presence = 1.0 if pair.presence is None else pair.presence
    scores = [thresholds.rescore(detection["score"], presence) for detection in pair.detections]
    is_free: np.ndarray = np.ones(len(pair.objects), dtype=bool)
    is_correct: list[bool] = []
    crowds = [a for a in pair.truth if a.get("iscrowd") and (kind == "box" or "segmentation" in a)]
    in_crowd = np.any(overlaps(pair.detections, crowds, kind) >= IOU, axis=1)
    for ious in overlaps(pair.detections, pair.objects, kind):
        best = int(np.argmax(np.where(is_free, ious, -1))) if len(ious) else 0
        hit = bool(len(ious)) and bool(is_free[best]) and ious[best] >= IOU
        is_free[best : best + 1] &= not hit
        is_correct.append(hit)
    counted = [i for i, hit in enumerate(is_correct) if hit or not in_crowd[i]]
    return [scores[i] for i in counted], [is_correct[i] for i in counted], len(pair.objects)


def _choose(labelled: list[tuple[list[float], list[bool], int]], allowed: float | None, default: float) -> float:
    """Return the threshold with the best F1, or the lowest with at most `allowed` false positives."""
    scores = np.array([score for group, _, _ in labelled for score in group])
    is_correct = np.array([hit for _, hits, _ in labelled for hit in hits], dtype=bool)
    objects = sum(number for *_, number in labelled)
    if not len(scores):
        return default
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_correct[order])
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # detections with equal scores share a threshold
    false_positives = ends + 1 - hits[ends]
    if allowed is None:
        f1 = 2 * hits[ends] / (ends + 1 + objects)
        if f1.max() == 0:
            return default
        cut = int(ends[np.argmax(f1)])
    else:
        fitting = ends[false_positives <= allowed]
        if not len(fitting):
            return float(min(1.0, scores[0] + 1e-6))
        cut = int(fitting[-1])
    below = scores[cut + 1] if cut + 1 < len(scores) else scores[cut]  # no lower score was observed
    return round(float((scores[cut] + below) / 2), 6) if allowed is None else float(scores[cut])


def _temperature(pairs: list[Pair]) -> float:
    """
    Fit the temperature with the lowest cross-entropy of presence; 1 without both present and absent phrases.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    labelled = [(p.presence, p.is_present) for p in pairs if p.presence is not None and (p.is_present or p.is_absent)]
    logits = _logit(np.array([probability for probability, _ in labelled]))
    is_present = np.array([present for _, present in labelled], dtype=bool)
    if is_present.all() or not is_present.any():
        return 1.0
    signed = np.where(is_present, -logits, logits)
    fitted = minimize_scalar(
        lambda log: np.logaddexp(0, signed / np.exp(log)).mean(), bounds=(-2, 2), method="bounded"
    )
    return round(float(np.exp(fitted.x)), 4)


def _logit(probability):
    clipped = np.clip(probability, _EPSILON, 1 - _EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(value):
    return 1 / (1 + np.exp(-value))
