"""Bootstrap confidence intervals of metrics over the evaluated images (Efron 1979)."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np

from .average_precision import coco_evaluation
from .concept_f1 import weighted_concept_f1
from .pair_metrics import PAIR_METRICS
from .regions import NAMES as REGION_NAMES
from .summary import Measured


RECALLS = np.linspace(0, 1, 101)
Resampled = Callable[[np.ndarray], dict[str, float]]  # image weights -> metrics


def image_weights(num_images: int, samples: int, seed: int = 0) -> np.ndarray:
    """
    Draw images with replacement and count each of them.

    Args:
        num_images (`int`): Number of evaluated images.
        samples (`int`): Number of bootstrap resamples.
        seed (`int`): Random seed, default 0.

    Returns:
        `np.ndarray` of shape `(samples, num_images)`: Count of each image; a row's sum is `num_images`.
    """
    draws = np.random.default_rng(seed).integers(0, num_images, (samples, num_images))
    return np.stack([np.bincount(row, minlength=num_images) for row in draws])


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """
    Compute the percentile interval of resampled values.

    Args:
        values (`Sequence[float]`): Resampled values; NaN values are left out.
        level (`float`): Confidence level, default 0.95.

    Returns:
        `tuple[float, float]`: Lower and upper bound; -1 without any value.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return -1.0, -1.0
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_pairs(measured: list[Measured], images: list[int], names: Collection[str]) -> Resampled:
    """
    Build a function that computes the pair metrics of resampled images.

    Args:
        measured (`list[Measured]`): Measurements of all pairs.
        images (`list[int]`): Image ids in the order of the weights.
        names (`Collection[str]`): Metrics of [`concept_f1`], [`mean_quality`] and `PAIR_METRICS`.

    Returns:
        `Callable[[np.ndarray], dict[str, float]]`: Metrics for weights of shape `(num_images,)`; NaN where undefined.
    """
    index_of = {image: i for i, image in enumerate(images)}
    with_counts = [(index_of[item.pair.image_id], item.counts) for item in measured if item.counts is not None]
    with_quality = [(index_of[item.pair.image_id], item.quality) for item in measured if item.quality is not None]
    counts_index, quality_index = ([index for index, _ in group] for group in (with_counts, with_quality))
    compute_f1 = weighted_concept_f1([counts for _, counts in with_counts]) if with_counts else None
    quality = {name: np.array([values[i] for _, values in with_quality]) for i, name in enumerate(REGION_NAMES)}
    of_pairs = {}  # name -> image indices and values of the pairs that have one
    for name in PAIR_METRICS.keys() & names:
        chosen = [item for item in measured if name in item.values]
        index = [index_of[item.pair.image_id] for item in chosen]
        of_pairs[name] = index, np.array([item.values[name] for item in chosen])

    def compute(weights: np.ndarray) -> dict[str, float]:
        metrics = compute_f1(weights[counts_index]) if compute_f1 else {}
        metrics |= {name: _weighted_mean(values, weights[quality_index]) for name, values in quality.items()}
        metrics |= {name: _weighted_mean(values, weights[index]) for name, (index, values) in of_pairs.items()}
        return {name: metrics.get(name, np.nan) for name in names}

    return compute


def resampled_means(values: dict[str, list[tuple[Hashable, float]]], images: list) -> Resampled:
    """
    Build a function that computes means over the values of resampled images.

    Args:
        values (`dict[str, list[tuple[Hashable, float]]]`): Image and value of each pair, by metric.
        images (`list`): Images in the order of the weights.

    Returns:
        `Callable[[np.ndarray], dict[str, float]]`: Means for weights of shape `(num_images,)`; NaN where undefined.
    """
    index_of = {image: i for i, image in enumerate(images)}
    arrays = {
        name: (np.array([index_of[image] for image, _ in pairs], dtype=int), np.array([value for _, value in pairs]))
        for name, pairs in values.items()
    }

    def compute(weights: np.ndarray) -> dict[str, float]:
        return {name: _weighted_mean(numbers, weights[index]) for name, (index, numbers) in arrays.items()}

    return compute


def resampled_precision(
    ground_truth: dict,
    results: list[dict],
    kind: str,
    images: list[int],
    groups: dict[str, set[int]] | None = None,
) -> Resampled:
    """
    Build a function that computes COCO's AP and AP50 of resampled images.

    Detections are matched once and accumulated for each resample. An image that is drawn twice counts as two images.

    Args:
        ground_truth (`dict`): Ground truth as in [`coco_scores`].
        results (`list[dict]`): Results as in [`coco_scores`].
        kind (`str`): `mask` or `box`.
        images (`list[int]`): Image ids in the order of the weights.
        groups (`dict[str, set[int]]`, *optional*): Category ids of each group that has metrics of its own, by the
            suffix of their names.

    Returns:
        `Callable[[np.ndarray], dict[str, float]]`: AP and AP50 for weights of shape `(num_images,)`; NaN where
        undefined.
    """
    evaluation = coco_evaluation(ground_truth, results, kind)
    categories = {} if evaluation is None else _by_category(evaluation, {image: i for i, image in enumerate(images)})
    counted = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
    # Suffix of the names, category ids, and number of objects of each image.
    parts = []
    for suffix, ids in [("", None), *((f"_{name}", ids) for name, ids in (groups or {}).items())]:
        objects = Counter(a["image_id"] for a in counted if ids is None or a["category_id"] in ids)
        parts.append((suffix, ids, np.array([objects[image] for image in images])))

    def compute(weights: np.ndarray) -> dict[str, float]:
        values: dict[str, float] = {}
        precisions = {category: _precision(part, weights) for category, part in categories.items()}
        for suffix, ids, objects in parts:
            names = f"{kind}_AP{suffix}", f"{kind}_AP50{suffix}"
            chosen = [ap for i, ap in precisions.items() if ap is not None and (ids is None or i in ids)]
            if evaluation is None and weights @ objects:
                values |= dict.fromkeys(names, 0.0)
            elif not chosen:
                values |= dict.fromkeys(names, np.nan)
            else:
                mean = np.mean(chosen, axis=0)  # over categories, shape (10,)
                values |= {names[0]: float(mean.mean()), names[1]: float(mean[0])}
        return values

    return compute


def _by_category(evaluation, index_of: dict[int, int]) -> dict[int, tuple]:
    """
    Collect the matching results of each category.

    Args:
        evaluation (`COCOeval`): Evaluation after `evaluate()`.
        index_of (`dict[int, int]`): Image id -> index in the weights.

    Returns:
        `dict[int, tuple]`: By the id of each category with objects: image index of each detection, true positives and
        ignored detections at each IoU threshold, highest score first, and image index of each object.
    """
    params = evaluation.params
    ids, areas = list(params.imgIds), len(params.areaRng)
    categories = {}
    for k, category in enumerate(params.catIds):
        # The order of evalImgs is categories, areas, images; the first area covers all sizes.
        evaluated = evaluation.evalImgs[k * areas * len(ids) :][: len(ids)]
        detected, hit, ignored, scores, objects = [], [], [], [], []
        for image, result in zip(ids, evaluated, strict=True):
            if result is None:
                continue
            last = params.maxDets[-1]
            scores += result["dtScores"][:last]
            detected += [index_of[image]] * len(result["dtScores"][:last])
            hit.append(np.asarray(result["dtMatches"])[:, :last] > 0)
            ignored.append(np.asarray(result["dtIgnore"])[:, :last].astype(bool))
            objects += [index_of[image]] * int((np.asarray(result["gtIgnore"]) == 0).sum())
        if objects:
            order = np.argsort(-np.asarray(scores), kind="mergesort")
            hits, is_ignored = (np.concatenate(part, axis=1)[:, order] for part in (hit, ignored))
            categories[category] = np.asarray(detected, dtype=int)[order], hits, is_ignored, np.asarray(objects)
    return categories


def _precision(category: tuple, weights: np.ndarray) -> np.ndarray | None:
    """Compute AP at each of the ten IoU thresholds; `None` where no object was drawn."""
    detected, hit, ignored, objects = category
    total = weights[objects].sum()
    if total == 0:
        return None
    counts = weights[detected] * ~ignored
    right, wrong = np.cumsum(counts * hit, axis=1), np.cumsum(counts * ~hit, axis=1)
    recall, precision = right / total, right / np.maximum(right + wrong, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # maximum at this recall or higher
    result = np.zeros(len(hit))
    for t in range(len(hit)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        result[t] = precision[t][at[at < recall.shape[1]]].sum() / len(RECALLS)
    return result


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(values @ weights / weights.sum()) if len(values) and weights.sum() else np.nan
