"""COCO average precision of masks and boxes, computed by pycocotools or, where it is installed, faster-coco-eval."""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .metric import CocoMetric, drop_null_fields


# Names in the order of COCOeval.stats; AP over IoU 0.50:0.05:0.95, all sizes, 100 detections per image and category.
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = {"mask": "segm", "box": "bbox"}


@dataclass
class CocoScores:
    """
    COCO metrics of one evaluation.

    Attributes:
        stats (`dict[str, float]`): Values of `NAMES`, each in `[0, 1]`, or -1 where no instance of that size exists.
        by_category (`dict[int, dict[str, float]]`): Category id -> `AP` and `AP50`, for categories with an instance.
        curves (`dict[int, list[float]]`): Category id -> precision at IoU 0.5 for recall 0, 0.01, … 1.
    """

    stats: dict[str, float]
    by_category: dict[int, dict[str, float]]
    curves: dict[int, list[float]]


def coco_average_precision(ground_truth: dict, results: list[dict], kind: str) -> dict[str, float]:
    """Compute the twelve COCO metrics; arguments as in [`coco_scores`]."""
    return coco_scores(ground_truth, results, kind).stats


def coco_scores(ground_truth: dict, results: list[dict], kind: str) -> CocoScores:
    """
    Compute COCO's metrics with pycocotools, or with faster-coco-eval if it is installed.

    Args:
        ground_truth (`dict`): Content of a COCO file: `images`, `annotations` with `area` and `iscrowd`, `categories`.
        results (`list[dict]`): Results with `image_id`, `category_id`, `score`, and `segmentation` (mask) or `bbox`
            (box).
        kind (`str`): `mask` or `box`.

    Returns:
        `CocoScores`: Metrics, per-category AP and precision-recall curves.

    Source:
        Lin et al. 2014; cocodataset.org, "Detection Evaluation".
    """
    evaluation = _choose_backend(ground_truth)(ground_truth, results, kind)
    objects = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
    if evaluation is None:
        sizes = {"s": lambda a: a < 32**2, "m": lambda a: 32**2 <= a <= 96**2, "l": lambda a: a > 96**2}
        areas = [a["area"] for a in objects]
        stats = {n: 0.0 if any(sizes.get(n[-1], lambda _: True)(a) for a in areas) else -1.0 for n in NAMES}
        categories = sorted({a["category_id"] for a in objects})
        by_category = {i: {"AP": 0.0, "AP50": 0.0} for i in categories}
        return CocoScores(stats, by_category, {i: [0.0] * 101 for i in categories})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    # The shape is (10 IoUs, 101 recalls, categories), for all sizes and 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_category, curves = {}, {}
    for column, category in enumerate(evaluation.params.catIds):
        if (precision[:, :, column] > -1).all():
            by_category[category] = {
                "AP": float(precision[:, :, column].mean()),
                "AP50": float(precision[0, :, column].mean()),
            }
            curves[category] = precision[0, :, column].tolist()
    return CocoScores(dict(zip(NAMES, map(float, evaluation.stats), strict=True)), by_category, curves)


def coco_evaluation(ground_truth: dict, results: list[dict], kind: str) -> COCOeval | None:
    """
    Run and accumulate the evaluation of pycocotools.

    Unmatched detections of pairs that `ground_truth["pairs"]` marks as not exhaustive are ignored: they are neither
    true nor false positives.

    Args:
        ground_truth (`dict`): Ground truth as in [`coco_scores`].
        results (`list[dict]`): Results as in [`coco_scores`].
        kind (`str`): `mask` or `box`.

    Returns:
        `COCOeval` or `None`: The evaluation; `None` without results, which pycocotools does not accept.
    """
    results = _select_results(results, kind)
    if not results:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _copy_annotations(ground_truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), IOU_TYPES[kind])
        evaluation.evaluate()
        not_exhaustive = {
            (p["image_id"], p["category_id"]) for p in ground_truth.get("pairs", ()) if not p["exhaustive"]
        }
        for result in evaluation.evalImgs if not_exhaustive else ():
            if result is not None and (result["image_id"], result["category_id"]) in not_exhaustive:
                # An unmatched detection may be an unlabelled instance, as in LVIS.
                is_unmatched = np.asarray(result["dtMatches"]) == 0
                result["dtIgnore"] = np.asarray(result["dtIgnore"], dtype=bool) | is_unmatched
        evaluation.accumulate()
    return evaluation


def has_faster_coco_eval() -> bool:
    """Return whether faster-coco-eval is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


def _choose_backend(ground_truth: dict) -> Callable:
    """Return the evaluation by faster-coco-eval, if it is installed and supports the ground truth, or pycocotools."""
    is_exhaustive = all(pair["exhaustive"] for pair in ground_truth.get("pairs", ()))
    with_sizes = all({"height", "width"} <= image.keys() for image in ground_truth["images"])
    return run_faster_coco_eval if is_exhaustive and with_sizes and has_faster_coco_eval() else coco_evaluation


def run_faster_coco_eval(ground_truth: dict, results: list[dict], kind: str):
    """
    Run and accumulate the evaluation of faster-coco-eval, which counts all pairs as exhaustive.

    Args:
        ground_truth (`dict`): Ground truth as in [`coco_scores`].
        results (`list[dict]`): Results as in [`coco_scores`].
        kind (`str`): `mask` or `box`.

    Returns:
        `COCOeval_faster` or `None`: The evaluation, with `eval` and `summarize` as in pycocotools; `None` without
            results.
    """
    import faster_coco_eval

    results = _select_results(results, kind)
    if not results:
        return None
    options = {"print_function": lambda *_: None}
    truth = faster_coco_eval.COCO(_copy_annotations(ground_truth), **options)
    evaluation = faster_coco_eval.COCOeval_faster(
        truth, truth.loadRes(results), IOU_TYPES[kind], separate_eval=True, **options
    )
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _copy_annotations(ground_truth: dict) -> dict:
    """Copy the annotations, because both libraries add keys to them."""
    return {**ground_truth, "annotations": [dict(annotation) for annotation in ground_truth["annotations"]]}


def _select_results(results: list[dict], kind: str) -> list[dict]:
    """Select the results of a kind. With both fields, masks would be assigned to sizes by the area of their boxes."""
    field = "segmentation" if kind == "mask" else "bbox"
    return [{k: r[k] for k in ("image_id", "category_id", "score", field)} for r in results if field in r]


def coco_ground_truth(rows: Iterable[dict], category_ids: dict[str, int]) -> dict:
    """
    Convert rows to the content of a COCO file, with integer image and category ids for pycocotools.

    Args:
        rows (`Iterable[dict]`): Rows of `sam_ft/data/row_schema.py`; their images are not read.
        category_ids (`dict[str, int]`): Phrase -> category id.

    Returns:
        `dict`: `images` (each with its `example_id`), `annotations` numbered from 1 (for pycocotools, 0 means
        unmatched), `categories`, and `pairs`: image id and category id of each prompted phrase, and whether it is
        exhaustive.
    """
    rows = list(rows)
    is_number = [row["example_id"].isdecimal() and row["example_id"] == str(int(row["example_id"])) for row in rows]
    images: list[dict] = []
    annotations: list[dict] = []
    pairs: list[dict] = []
    for number, row in enumerate(rows, 1):
        image_id = int(row["example_id"]) if all(is_number) else number
        size = {"width": row["width"], "height": row["height"]}
        images.append({"id": image_id, "example_id": row["example_id"], **size})
        for phrase in row["phrases"]:
            category_id = category_ids[phrase["text"]]
            pairs.append({"image_id": image_id, "category_id": category_id, "exhaustive": phrase["exhaustive"]})
            for index in phrase["instances"]:
                instance = row["instances"][index]
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": list(instance["bbox"]),
                    "area": instance["area"],
                    "iscrowd": int(instance["is_crowd"]),
                }
                if instance["segmentation"] is not None:
                    annotation["segmentation"] = {
                        "size": [row["height"], row["width"]],
                        "counts": instance["segmentation"],
                    }
                annotations.append(annotation)
    categories = [{"id": i, "name": phrase} for phrase, i in category_ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories, "pairs": pairs}


class CocoAveragePrecision(CocoMetric):
    """[`coco_average_precision`] as an `evaluate.Metric`; see [`CocoMetric`]."""

    description = "COCO average precision of masks and boxes, equal to pycocotools."
    citation = "Lin et al. 2014, Microsoft COCO: Common Objects in Context"

    def _compute(self, predictions, ground_truth, kind="mask"):
        return coco_average_precision(ground_truth, drop_null_fields(predictions), kind)
