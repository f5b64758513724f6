"""How sure a number is: intervals over the images that happened to be in the evaluation (Efron 1979)."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .average_precision import coco_evaluation
from .concept_f1 import weighted_concept_f1
from .pairs import SCORE
from .summary import Measured


RECALLS = np.linspace(0, 1, 101)
Resampled = Callable[[np.ndarray], dict[str, float]]  # how often each image counts -> numbers


def image_weights(num_images: int, samples: int, seed: int = 0) -> np.ndarray:
    """
    How often each image is drawn, with replacement.

    Returns:
        `np.ndarray` of shape `(samples, num_images)`, each row adding up to `num_images`.
    """
    draws = np.random.default_rng(seed).integers(0, num_images, (samples, num_images))
    return np.stack([np.bincount(row, minlength=num_images) for row in draws])


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of resampled values (percentile interval); those that do not exist, NaN, are left out."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return -1.0, -1.0
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_pairs(measured: list[Measured], images: list[int]) -> Resampled:
    """`cgF1`, `pmF1`, `IL_MCC`, `mean_IoU` and `presence_accuracy` of resampled images; `images`: ids in the weights' order."""
    place = {image: i for i, image in enumerate(images)}
    counted = [one for one in measured if one.counts is not None]
    fitted = [one for one in measured if one.quality is not None]
    asked = [
        one.pair for one in measured if one.pair.presence is not None and (one.pair.is_present or one.pair.is_absent)
    ]
    of_counts, of_quality = ([place[one.pair.image_id] for one in some] for some in (counted, fitted))
    of_asked = [place[pair.image_id] for pair in asked]
    found_of = weighted_concept_f1([one.counts for one in counted]) if counted else None
    quality = np.array([one.quality[0] for one in fitted])
    right = np.array([(pair.presence >= SCORE) == pair.is_present for pair in asked], dtype=np.float64)

    def numbers(weights: np.ndarray) -> dict[str, float]:
        found = found_of(weights[of_counts]) if found_of else {}
        result = {name: found.get(name, np.nan) for name in ("cgF1", "pmF1", "IL_MCC")}
        result["mean_IoU"] = _weighted(quality, weights[of_quality])
        result["presence_accuracy"] = _weighted(right, weights[of_asked])
        return result

    return numbers


def resampled_precision(ground_truth: dict, results: list[dict], kind: str, images: list[int]) -> Resampled:
    """
    COCO's AP and AP50 of resampled images: matched once, added up anew. An image that is drawn twice counts as two images would.

    Args:
        ground_truth (`dict`), results (`list[dict]`), kind (`str`): as for [`coco_scores`]. images (`list[int]`): ids in the weights' order.
    """
    evaluation = coco_evaluation(ground_truth, results, kind)
    categories = [] if evaluation is None else _by_category(evaluation, {image: i for i, image in enumerate(images)})
    names = f"{kind}_AP", f"{kind}_AP50"
    shown = Counter(a["image_id"] for a in ground_truth["annotations"] if not a["iscrowd"])
    objects = np.array([shown[image] for image in images])

    def numbers(weights: np.ndarray) -> dict[str, float]:
        if evaluation is None:
            return dict.fromkeys(names, 0.0 if weights @ objects else np.nan)
        found = [ap for ap in (_precision(category, weights) for category in categories) if ap is not None]
        if not found:
            return dict.fromkeys(names, np.nan)
        mean = np.mean(found, axis=0)  # over categories, (10,)
        return {names[0]: float(mean.mean()), names[1]: float(mean[0])}

    return numbers


def _by_category(evaluation, place: dict[int, int]) -> list[tuple]:
    """For each category: image of each detection and whether it is right or ignored, best first; image of each object."""
    params = evaluation.params
    ids, areas = list(params.imgIds), len(params.areaRng)
    categories = []
    for k in range(len(params.catIds)):
        # evalImgs runs over categories, areas, images; the first area is all
        found = evaluation.evalImgs[k * areas * len(ids) :][: len(ids)]
        detected, hit, ignored, scores, objects = [], [], [], [], []
        for image, one in zip(ids, found, strict=True):
            if one is None:
                continue
            last = params.maxDets[-1]
            scores += one["dtScores"][:last]
            detected += [place[image]] * len(one["dtScores"][:last])
            hit.append(np.asarray(one["dtMatches"])[:, :last] > 0)
            ignored.append(np.asarray(one["dtIgnore"])[:, :last].astype(bool))
            objects += [place[image]] * int((np.asarray(one["gtIgnore"]) == 0).sum())
        if objects:
            order = np.argsort(-np.asarray(scores), kind="mergesort")
            hits, left_out = (np.concatenate(part, axis=1)[:, order] for part in (hit, ignored))
            categories.append((np.asarray(detected, dtype=int)[order], hits, left_out, np.asarray(objects)))
    return categories


def _precision(category: tuple, weights: np.ndarray) -> np.ndarray | None:
    """AP at each of the ten IoU thresholds; `None` where no object was drawn."""
    detected, hit, ignored, objects = category
    total = weights[objects].sum()
    if total == 0:
        return None
    times = weights[detected] * ~ignored
    right, wrong = np.cumsum(times * hit, axis=1), np.cumsum(times * ~hit, axis=1)
    recall, precision = right / total, right / np.maximum(right + wrong, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best at this recall or a higher one
    result = np.zeros(len(hit))
    for t in range(len(hit)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        result[t] = precision[t][at[at < recall.shape[1]]].sum() / len(RECALLS)
    return result


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    return float(values @ weights / weights.sum()) if len(values) and weights.sum() else np.nan
