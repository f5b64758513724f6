"""From which score on a detection is shown: chosen for each phrase on validation images, with a temperature for presence."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from ..utils.json_files import read_json_file, write_json
from ..utils.text import phrase_spellings, phrase_words
from .pairs import SCORE, Pair, by_phrase, overlaps


FILE = "thresholds.json"
IOU = 0.5
FEWEST = 3  # objects of a phrase below which it shares the threshold of all
_EDGE = 1e-6  # probabilities are kept so far from 0 and 1


@dataclass
class Thresholds:
    """
    Attributes:
        presence_temperature (`float`): presence is `sigmoid(logit / temperature)`; scores change with it.
        default (`float`): for phrases without a threshold of their own. phrases (`dict[str, float]`): those that have one.
        rule (`str`): how they were chosen. num_images (`int`): on how many.
    """

    presence_temperature: float = 1.0
    default: float = SCORE
    phrases: dict[str, float] = field(default_factory=dict)
    rule: str = "none: 0.5 for all"
    num_images: int = 0

    def of(self, phrase: str) -> float:
        """
        Find a phrase's threshold: its own, or that of a phrase which differs in case, separators and brackets only.

        Args:
            phrase (`str`): In any spelling: `Circle` and `traffic_light` have the thresholds of `circle` and `traffic light`.

        Returns:
            `float`: `default` for a phrase without a threshold.
        """
        if phrase in self.phrases:
            return self.phrases[phrase]
        normalized = {phrase_words(name): threshold for name, threshold in reversed(self.phrases.items())}
        return next((normalized[text] for text in phrase_spellings(phrase) if text in normalized), self.default)

    def presence(self, probability: float) -> float:
        """A probability at the chosen temperature."""
        return float(_sigmoid(_logit(probability) / self.presence_temperature))

    def rescore(self, score: float, presence: float) -> float:
        """A detection's score, the product of its query's and the phrase's probability, at the chosen temperature."""
        return score / max(presence, _EDGE) * self.presence(presence)

    def save(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self), indent=1)


def read_thresholds(folder: Path) -> Thresholds | None:
    """
    Those that were saved with a model; `None` where there are none.

    Raises:
        `ValueError`: where the file holds something else; names it.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        read = Thresholds(**read_json_file(file, remedy="Delete it, or evaluate the model again"))
        numbers = [read.default, *read.phrases.values()]
        if not all(0 <= number <= 1 for number in numbers) or not read.presence_temperature > 0:
            raise ValueError("thresholds lie between 0 and 1, the temperature above 0")
        if not isinstance(read.rule, str):
            raise ValueError("`rule` is no text")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} holds no thresholds ({error}); remove it, or evaluate the model again") from error
    return read


def at_thresholds(pairs: Iterable[Pair], thresholds: Thresholds) -> list[Pair]:
    """The same pairs with what the thresholds leave, their presence at the temperature; each detection that is left counts."""
    chosen = []
    for pair in pairs:
        presence = 1.0 if pair.presence is None else pair.presence
        least = thresholds.of(pair.phrase)
        kept = [one | {"score": 1.0} for one in pair.found if thresholds.rescore(one["score"], presence) >= least]
        calm = None if pair.presence is None else thresholds.presence(pair.presence)
        chosen.append(replace(pair, found=kept, presence=calm))
    return chosen


def choose_thresholds(pairs: Iterable[Pair], kind: str, max_false_positives: float | None = None) -> Thresholds:
    """
    Args:
        pairs (`Iterable[Pair]`): of validation images, with all detections that an evaluation keeps.
        kind (`str`): `mask` or `box`.
        max_false_positives (`float`, *optional*): as many false detections an image at most, of all phrases together, each taking its
            part; the best F1 where not given.

    Returns:
        `Thresholds`: a phrase with at least three objects has its own.
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
        phrase: [_labelled(pair, kind, chosen) for pair in group] for phrase, group in by_phrase(pairs).items()
    }
    own = {phrase for phrase, group in labelled.items() if sum(objects for *_, objects in group) >= FEWEST}
    rare = [phrase for phrase in labelled if phrase not in own]
    share = None if allowed is None else allowed / max(len(labelled), 1)
    # of the best F1 all phrases know more than the rare ones alone; an allowance is spent once
    together = list(labelled) if allowed is None or not rare else rare
    pooled = [one for phrase in together for one in labelled[phrase]]
    chosen.default = _choose(pooled, None if share is None else share * len(together), SCORE)
    for phrase in sorted(own):
        chosen.phrases[phrase] = _choose(labelled[phrase], share, chosen.default)
    return chosen


def _labelled(pair: Pair, kind: str, thresholds: Thresholds) -> tuple[list[float], list[bool], int]:
    """
    Scores of a pair's detections, whether each is right, and how many objects there are. Matched greedily, best first, as COCO does: a
    threshold then takes the worst away and leaves the others as they are.
    """
    presence = 1.0 if pair.presence is None else pair.presence
    scores = [thresholds.rescore(one["score"], presence) for one in pair.found]
    free, right = np.ones(len(pair.objects), dtype=bool), []
    crowds = [one for one in pair.truth if one.get("iscrowd") and (kind == "box" or "segmentation" in one)]
    in_crowd = (overlaps(pair.found, crowds, kind) >= IOU).any(axis=1)
    for ious in overlaps(pair.found, pair.objects, kind):
        best = int(np.argmax(np.where(free, ious, -1))) if len(ious) else 0
        hit = bool(len(ious)) and bool(free[best]) and ious[best] >= IOU
        free[best : best + 1] &= not hit
        right.append(hit)
    kept = [i for i, hit in enumerate(right) if hit or not in_crowd[i]]
    return [scores[i] for i in kept], [right[i] for i in kept], len(pair.objects)


def _choose(labelled: list[tuple[list[float], list[bool], int]], allowed: float | None, otherwise: float) -> float:
    scores = np.array([score for found, _, _ in labelled for score in found])
    right = np.array([hit for _, hits, _ in labelled for hit in hits], dtype=bool)
    objects = sum(number for *_, number in labelled)
    if not len(scores):
        return otherwise
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # equal scores stand or fall together
    false = ends + 1 - hits[ends]
    if allowed is None:
        f1 = 2 * hits[ends] / (ends + 1 + objects)
        if f1.max() == 0:
            return otherwise
        cut = int(ends[np.argmax(f1)])
    else:
        fitting = ends[false <= allowed]
        if not len(fitting):
            return float(min(1.0, scores[0] + 1e-6))
        cut = int(fitting[-1])
    below = scores[cut + 1] if cut + 1 < len(scores) else scores[cut]  # nothing lower was looked at
    return round(float((scores[cut] + below) / 2), 6) if allowed is None else float(scores[cut])


def _temperature(pairs: list[Pair]) -> float:
    """The temperature of least cross entropy (Guo et al. 2017, "On Calibration of Modern Neural Networks"); 1 where there is nothing to fit."""
    asked = [(p.presence, p.is_present) for p in pairs if p.presence is not None and (p.is_present or p.is_absent)]
    logits, there = _logit(np.array([p for p, _ in asked])), np.array([yes for _, yes in asked], dtype=bool)
    if there.all() or not there.any():
        return 1.0
    signed = np.where(there, -logits, logits)
    fitted = minimize_scalar(
        lambda log: np.logaddexp(0, signed / np.exp(log)).mean(), bounds=(-2, 2), method="bounded"
    )
    return round(float(np.exp(fitted.x)), 4)


def _logit(probability):
    clipped = np.clip(probability, _EDGE, 1 - _EDGE)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(value):
    return 1 / (1 + np.exp(-value))
