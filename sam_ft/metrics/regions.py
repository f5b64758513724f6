"""How well regions fit: IoU, Dice and boundary F1 of masks, of one object or of all that a phrase names."""

from collections.abc import Iterable

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from .metric import CocoMetric, given
from .pairs import SCORE, Pair, pairs_of


NAMES = ("mean_IoU", "dice", "boundary_F1")
BOUNDARY_SHARE = 0.008  # of the image's diagonal: how far a boundary may be off (DAVIS, `db_eval_boundary`)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two bool masks `(H, W)`; 1 where both are empty."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """`2 |A ∩ B| / (|A| + |B|)` (Dice 1945) of two bool masks `(H, W)`; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return float(2 * np.logical_and(first, second).sum() / total) if total else 1.0


def boundary_f1(found: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """
    F1 of boundaries (Csurka et al. 2013; the F of DAVIS, Perazzi et al. 2016): precision is the share of the found boundary within
    `tolerance` of the true one, recall the other way round.

    Args:
        found, truth (`np.ndarray` of shape `(H, W)`): bool. tolerance (`float`): px, Euclidean.

    Returns:
        `float`: in `[0, 1]`; 1 where neither has a boundary, 0 where one alone has.
    """
    edges = boundary(found), boundary(truth)
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision, recall = (
        float((ndimage.distance_transform_edt(~other)[edge] <= tolerance).mean())
        for edge, other in (edges, edges[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool mask `(H, W)` that have a neighbour, to the side or above or below, outside it; the image's rim is no outside."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def region_quality(pairs: Iterable[Pair], threshold: float = SCORE) -> dict[str, float]:
    """
    The union of all that is found against the union of all that is there, averaged over the exhaustive pairs in which the phrase is
    present and every object has a mask (the gIoU of referring segmentation, Liu et al. 2023, without its absent pairs). Crowd regions
    are cut out of both.

    Returns:
        `dict[str, float]`: `mean_IoU`, `dice`, `boundary_F1` in `[0, 1]`; empty without such a pair.
    """
    return mean_quality([pair_quality(pair, threshold) for pair in pairs])


def mean_quality(rows: Iterable[tuple[float, ...] | None]) -> dict[str, float]:
    """Means of what [`pair_quality`] gives, by `NAMES`; empty where it gives nothing."""
    rows = [row for row in rows if row is not None]
    return dict(zip(NAMES, np.mean(rows, axis=0).tolist(), strict=True)) if rows else {}


def pair_quality(pair: Pair, threshold: float = SCORE) -> tuple[float, float, float] | None:
    """IoU, Dice and boundary F1 of one pair; `None` where [`region_quality`] leaves it out."""
    if not (pair.is_present and pair.exhaustive and all("segmentation" in one for one in pair.truth)):
        return None
    found, truth = _union(pair.kept(threshold), pair.size), _union(pair.objects, pair.size)
    for crowd in pair.truth:
        if crowd.get("iscrowd"):
            outside = coco_mask.decode(crowd["segmentation"]) == 0
            found, truth = found & outside, truth & outside
    return mask_quality(found, truth)


def mask_quality(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """IoU, Dice and boundary F1 of two bool masks `(H, W)`; boundaries may be off by 0.8 % of the diagonal."""
    tolerance = np.ceil(BOUNDARY_SHARE * np.hypot(*truth.shape))
    ys, xs = (np.flatnonzero((found | truth).any(axis)) for axis in (1, 0))
    if not len(ys):
        return 1.0, 1.0, 1.0
    # a pixel around: what the rim of the window cuts off is no boundary, what the rim of the image cuts off is none either
    part = np.s_[max(ys[0] - 1, 0) : ys[-1] + 2, max(xs[0] - 1, 0) : xs[-1] + 2]
    found, truth = found[part], truth[part]
    return mask_iou(found, truth), dice(found, truth), boundary_f1(found, truth, tolerance)


def _union(shapes: list[dict], size: tuple[int, int]) -> np.ndarray:
    masks = [one["segmentation"] for one in shapes if "segmentation" in one]
    return coco_mask.decode(coco_mask.merge(masks)).astype(bool) if masks else np.zeros(size, dtype=bool)


class RegionQuality(CocoMetric):
    """[`region_quality`] as an `evaluate.Metric`; see [`CocoMetric`]."""

    description = "Mean IoU, Dice and boundary F1 of what phrases name."
    citation = "Liu et al. 2023; Dice 1945; Csurka et al. 2013"

    def _compute(self, predictions, ground_truth, kind="mask", threshold=SCORE):
        return region_quality(pairs_of(ground_truth, given(predictions)), threshold)
