import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_ft.metrics.average_precision import NAMES, CocoAveragePrecision, coco_average_precision, coco_ground_truth
from sam_ft.ops.masks import encode_mask, mask_area, mask_box_xywh


def random_mask(rng, size):
    mask = np.zeros((200, 240), dtype=bool)
    x, y = rng.integers(0, 240 - size), rng.integers(0, 200 - size)
    mask[y : y + size, x : x + size] = True
    return mask


@pytest.fixture
def case():
    """Build ground truth of all sizes with a crowd region, and results with shifted, missing and false detections."""
    rng = np.random.default_rng(0)
    truth = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]}
    results = []
    for image in range(6):
        truth["images"].append({"id": image, "width": 240, "height": 200})
        for k, size in enumerate((12, 20, 40, 60, 110)):
            mask = random_mask(rng, size)
            counts = encode_mask(mask)
            common = {"image_id": image, "category_id": [3, 8][k % 2]}
            segmentation = {"size": [200, 240], "counts": counts}
            box = mask_box_xywh(counts, 200, 240)
            truth["annotations"].append(
                {
                    **common,
                    "id": len(truth["annotations"]) + 1,
                    "segmentation": segmentation,
                    "bbox": box,
                    "area": mask_area(counts, 200, 240),
                    "iscrowd": int(image == 2 and k == 3),
                }
            )
            moved = np.roll(mask, rng.integers(-4, 5), axis=1)
            counts = encode_mask(moved)
            results.append(
                {
                    **common,
                    "score": float(rng.random()),
                    "bbox": mask_box_xywh(counts, 200, 240),
                    "segmentation": {"size": [200, 240], "counts": counts},
                }
            )
    return truth, results[:-2] + [{**results[0], "category_id": 8, "score": 0.99}]


@pytest.mark.parametrize(("kind", "iou_type"), [("mask", "segm"), ("box", "bbox")])
def test_equals_pycocotools(case, kind, iou_type):
    truth, results = case
    field = {"mask": "segmentation", "box": "bbox"}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        plain = [{k: r[k] for k in ("image_id", "category_id", "score", field)} for r in results]
        evaluation = COCOeval(coco, coco.loadRes(plain), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = coco_average_precision(truth, results, kind)
    assert list(metrics) == list(NAMES)
    assert list(metrics.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    assert 0 < metrics["AP"] < 1


def test_perfect_results_have_an_ap_of_one(case):
    truth, _ = case
    perfect = [{**a, "score": 1.0} for a in truth["annotations"] if not a["iscrowd"]]
    assert coco_average_precision(truth, perfect, "mask")["AP"] == pytest.approx(1.0)


def test_empty_results_have_an_ap_of_zero(case):
    truth, _ = case
    metrics = coco_average_precision(truth, [], "mask")
    assert metrics["AP"] == metrics["APs"] == 0
    truth["annotations"] = [a for a in truth["annotations"] if a["area"] > 96**2]
    assert coco_average_precision(truth, [], "mask")["APs"] == -1  # pycocotools' value without an object of this size


def test_evaluate_metric_equals_the_function(case):
    truth, results = case
    metric = CocoAveragePrecision()
    metric.add_batch(predictions=results)
    assert metric.compute(ground_truth=truth, kind="box") == coco_average_precision(truth, results, "box")


def test_rows_are_converted_to_ground_truth():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:10, 5:15] = True
    row = {
        "example_id": "17",
        "width": 30,
        "height": 20,
        "instances": [{"bbox": [5, 5, 10, 5], "segmentation": encode_mask(mask), "area": 50.0, "is_crowd": False}],
        "phrases": [
            {"text": "cat", "instances": [0], "exhaustive": True},
            {"text": "red cat", "instances": [0], "exhaustive": True},
            {"text": "dog", "instances": [], "exhaustive": True},
        ],
    }
    truth = coco_ground_truth([row], {"cat": 4, "red cat": 5, "dog": 9})
    assert truth["images"] == [{"id": 17, "example_id": "17", "width": 30, "height": 20}]
    assert [(a["id"], a["category_id"]) for a in truth["annotations"]] == [(1, 4), (2, 5)]
    named = coco_ground_truth([row | {"example_id": "x"}], {"cat": 4, "red cat": 5, "dog": 9})
    assert named["images"][0]["id"] == 1
