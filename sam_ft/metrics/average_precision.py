"""COCO average precision of masks and boxes, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .metric import CocoMetric, given


# the order of COCOeval.stats; AP over IoU 0.50:0.05:0.95, all sizes, at most 100 detections an image and category
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = {"mask": "segm", "box": "bbox"}


@dataclass
class CocoScores:
    """
    Attributes:
        stats (`dict[str, float]`): the twelve COCO numbers by `NAMES`, each in `[0, 1]`, or -1 where no instance of that size exists.
        by_category (`dict[int, dict[str, float]]`): category id -> `AP`, `AP50`, of those that have an instance.
        curves (`dict[int, list[float]]`): category id -> precision at IoU 0.5 for recall 0, 0.01, … 1.
    """

    stats: dict[str, float]
    by_category: dict[int, dict[str, float]]
    curves: dict[int, list[float]]


def coco_average_precision(ground_truth: dict, results: list[dict], kind: str) -> dict[str, float]:
    """The twelve COCO numbers; see [`coco_scores`]."""
    return coco_scores(ground_truth, results, kind).stats


def coco_scores(ground_truth: dict, results: list[dict], kind: str) -> CocoScores:
    """
    COCO's numbers, computed by pycocotools (Lin et al. 2014, cocodataset.org, "Detection Evaluation").

    Args:
        ground_truth (`dict`): a COCO file's content: `images`, `annotations` with `area` and `iscrowd`, `categories`.
        results (`list[dict]`): `image_id`, `category_id`, `score`, and `segmentation` (mask) or `bbox` (box).
        kind (`str`): `mask` or `box`.
    """
    evaluation = coco_evaluation(ground_truth, results, kind)
    objects = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
    if evaluation is None:
        sizes = {"s": lambda a: a < 32**2, "m": lambda a: 32**2 <= a <= 96**2, "l": lambda a: a > 96**2}
        areas = [a["area"] for a in objects]
        stats = {n: 0.0 if any(sizes.get(n[-1], lambda a: True)(a) for a in areas) else -1.0 for n in NAMES}
        there = sorted({a["category_id"] for a in objects})
        return CocoScores(stats, {i: {"AP": 0.0, "AP50": 0.0} for i in there}, {i: [0.0] * 101 for i in there})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    precision = evaluation.eval["precision"][
        :, :, :, 0, -1
    ]  # (10 IoUs, 101 recalls, categories), all sizes, 100 detections
    by_category, curves = {}, {}
    for place, category in enumerate(evaluation.params.catIds):
        if (precision[:, :, place] > -1).all():
            by_category[category] = {
                "AP": float(precision[:, :, place].mean()),
                "AP50": float(precision[0, :, place].mean()),
            }
            curves[category] = precision[0, :, place].tolist()
    return CocoScores(dict(zip(NAMES, map(float, evaluation.stats), strict=True)), by_category, curves)


def coco_evaluation(ground_truth: dict, results: list[dict], kind: str) -> COCOeval | None:
    """
    pycocotools' evaluation, accumulated; `None` without results, which it does not take. Where `ground_truth["pairs"]` says that a pair is
    not exhaustive, detections that match nothing are left out, neither right nor wrong.
    """
    field = "segmentation" if kind == "mask" else "bbox"
    keep = ("image_id", "category_id", "score", field)
    # one of the two fields only: with both, pycocotools would sort masks into sizes by their boxes
    results = [{k: r[k] for k in keep} for r in results if field in r]
    if not results:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), IOU_TYPES[kind])
        evaluation.evaluate()
        doubtful = {(p["image_id"], p["category_id"]) for p in ground_truth.get("pairs", ()) if not p["exhaustive"]}
        for found in evaluation.evalImgs if doubtful else ():
            if found is not None and (found["image_id"], found["category_id"]) in doubtful:
                # what matches nothing may be an instance that nobody has labelled, as in LVIS
                found["dtIgnore"] = np.asarray(found["dtIgnore"], dtype=bool) | (np.asarray(found["dtMatches"]) == 0)
        evaluation.accumulate()
    return evaluation


def coco_ground_truth(rows: Iterable[dict], category_ids: dict[str, int]) -> dict:
    """
    Rows as a COCO file's content, so that a row's example id and phrase become numbers that pycocotools reads.

    Args:
        rows (`Iterable[dict]`): rows of `sam_ft/data/row_schema.py`; their images are not read.
        category_ids (`dict[str, int]`): phrase -> category id.

    Returns:
        `dict`: `images` (each with its `example_id`), `annotations` numbered from 1 (pycocotools takes 0 for unmatched),
        `categories`, and `pairs`: which category was asked of which image, and whether all its instances are labelled.
    """
    rows = list(rows)
    own = [row["example_id"].isdecimal() and row["example_id"] == str(int(row["example_id"])) for row in rows]
    images, annotations, pairs = [], [], []
    for number, row in enumerate(rows, 1):
        image_id = int(row["example_id"]) if all(own) else number
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

    description = "COCO average precision of masks and boxes, computed by pycocotools."
    citation = "Lin et al. 2014, Microsoft COCO: Common Objects in Context"

    def _compute(self, predictions, ground_truth, kind="mask"):
        return coco_average_precision(ground_truth, given(predictions), kind)
