"""Region metrics: IoU, Dice and boundary F1 of masks, for one object or for all objects of a phrase."""

from collections.abc import Iterable

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from .metric import CocoMetric, drop_null_fields
from .pairs import SCORE, Pair, pairs_of


NAMES = ("mean_IoU", "dice", "boundary_F1")
BOUNDARY_SHARE = 0.008  # boundary tolerance as a share of the image diagonal (DAVIS, `db_eval_boundary`)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the intersection over union (Jaccard index) of two bool masks `(H, W)`; 1 where both are empty."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Compute `2 |A ∩ B| / (|A| + |B|)` (Dice 1945) of two bool masks `(H, W)`; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return float(2 * np.logical_and(first, second).sum() / total) if total else 1.0


def boundary_f1(predicted: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """
    Compute the F1 of boundary pixels.

    Precision is the share of the predicted boundary within `tolerance` of the true boundary; recall is the share of
    the true boundary within `tolerance` of the predicted one.

    Args:
        predicted (`np.ndarray` of shape `(H, W)`): Predicted bool mask.
        truth (`np.ndarray` of shape `(H, W)`): True bool mask.
        tolerance (`float`): Euclidean distance, px.

    Returns:
        `float`: In `[0, 1]`; 1 where neither mask has a boundary, 0 where only one has.

    Source:
        Csurka et al. 2013; F of DAVIS, Perazzi et al. 2016.
    """
    edges = boundary(predicted), boundary(truth)
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision, recall = (
        float((ndimage.distance_transform_edt(~other)[edge] <= tolerance).mean())
        for edge, other in (edges, edges[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a bool mask `(H, W)` with a 4-neighbour outside it; the image border is no boundary."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def region_quality(pairs: Iterable[Pair], threshold: float = SCORE) -> dict[str, float]:
    """
    Compare the union of detections with the union of objects, averaged over pairs.

    Only exhaustive pairs count whose phrase is present and whose objects all have a mask. Crowd regions are removed
    from both unions.

    Args:
        pairs (`Iterable[Pair]`): Pairs with ground truth and detections.
        threshold (`float`): Lowest score of a detection that counts, default 0.5.

    Returns:
        `dict[str, float]`: `mean_IoU`, `dice`, `boundary_F1` in `[0, 1]`; empty without such a pair.

    Source:
        gIoU of referring segmentation, Liu et al. 2023, without its absent pairs.
    """
    return mean_quality([pair_quality(pair, threshold) for pair in pairs])


def mean_quality(rows: Iterable[tuple[float, ...] | None]) -> dict[str, float]:
    """Average the values of [`pair_quality`], by `NAMES`; empty without any value."""
    values = [row for row in rows if row is not None]
    return dict(zip(NAMES, np.mean(values, axis=0).tolist(), strict=True)) if values else {}


def pair_quality(pair: Pair, threshold: float = SCORE) -> tuple[float, float, float] | None:
    """Compute IoU, Dice and boundary F1 of one pair; `None` for a pair that [`region_quality`] leaves out."""
    if not (pair.is_present and pair.exhaustive and all("segmentation" in annotation for annotation in pair.truth)):
        return None
    predicted, truth = _union(pair.detections_above(threshold), pair.size), _union(pair.objects, pair.size)
    for crowd in pair.truth:
        if crowd.get("iscrowd"):
            outside = coco_mask.decode(crowd["segmentation"]) == 0
            predicted, truth = predicted & outside, truth & outside
    return mask_quality(predicted, truth)


def mask_quality(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Compute IoU, Dice and boundary F1 (tolerance 0.8 % of the image diagonal) of two bool masks `(H, W)`."""
    tolerance = np.ceil(BOUNDARY_SHARE * np.hypot(*truth.shape))
    ys, xs = (np.flatnonzero((predicted | truth).any(axis)) for axis in (1, 0))
    if not len(ys):
        return 1.0, 1.0, 1.0
    # One pixel of margin keeps the window border from adding a boundary; the image border adds none either.
    part = np.s_[max(ys[0] - 1, 0) : ys[-1] + 2, max(xs[0] - 1, 0) : xs[-1] + 2]
    predicted, truth = predicted[part], truth[part]
    return mask_iou(predicted, truth), dice(predicted, truth), boundary_f1(predicted, truth, tolerance)


def _union(shapes: list[dict], size: tuple[int, int]) -> np.ndarray:
    masks = [shape["segmentation"] for shape in shapes if "segmentation" in shape]
    return coco_mask.decode(coco_mask.merge(masks)).astype(bool) if masks else np.zeros(size, dtype=bool)


class RegionQuality(CocoMetric):
    """[`region_quality`] as an `evaluate.Metric`; see [`CocoMetric`]."""

    description = "Mean IoU, Dice and boundary F1 of phrases."
    citation = "Liu et al. 2023; Dice 1945; Csurka et al. 2013"

    # `evaluate` passes arguments by name, and all metrics of this package take `kind`.
    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE):  # noqa: ARG002
        return region_quality(pairs_of(ground_truth, drop_null_fields(predictions)), threshold)
