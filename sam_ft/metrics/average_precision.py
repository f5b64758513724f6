"""COCO average precision of masks and boxes, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterable

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .metric import CocoMetric, given


# the order of COCOeval.stats; AP over IoU 0.50:0.05:0.95, all sizes, at most 100 detections an image and category
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = {"mask": "segm", "box": "bbox"}


def coco_average_precision(ground_truth: dict, results: list[dict], kind: str) -> dict[str, float]:
    """
    The twelve COCO numbers (Lin et al. 2014, cocodataset.org, "Detection Evaluation").

    Args:
        ground_truth (`dict`): a COCO file's content: `images`, `annotations` with `area` and `iscrowd`, `categories`.
        results (`list[dict]`): `image_id`, `category_id`, `score`, and `segmentation` (mask) or `bbox` (box).
        kind (`str`): `mask` or `box`.

    Returns:
        `dict[str, float]`: by the names of `NAMES`, each in `[0, 1]`, or -1 where no instance of that size exists.
    """
    field = "segmentation" if kind == "mask" else "bbox"
    keep = ("image_id", "category_id", "score", field)
    # one of the two fields only: with both, pycocotools would sort masks into sizes by their boxes
    results = [{k: r[k] for k in keep} for r in results if field in r]
    if not results:
        areas = [a["area"] for a in ground_truth["annotations"] if not a["iscrowd"]]
        sizes = {"s": lambda a: a < 32**2, "m": lambda a: 32**2 <= a <= 96**2, "l": lambda a: a > 96**2}
        return {name: 0.0 if any(sizes.get(name[-1], lambda a: True)(a) for a in areas) else -1.0 for name in NAMES}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), IOU_TYPES[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, map(float, evaluation.stats), strict=True))


def coco_ground_truth(rows: Iterable[dict], category_ids: dict[str, int]) -> dict:
    """
    Rows as a COCO file's content, so that a row's example id and phrase become numbers that pycocotools reads.

    Args:
        rows (`Iterable[dict]`): rows of `sam_ft/data/example.py`; their images are not read.
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
