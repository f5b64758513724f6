import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_ft.metrics import average_precision
from sam_ft.metrics.average_precision import (
    NAMES,
    CocoAveragePrecision,
    coco_average_precision,
    coco_ground_truth,
    coco_scores,
    has_faster_coco_eval,
)
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


def with_pycocotools(monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(average_precision, "has_faster_coco_eval", lambda: False)
        return call()


@pytest.mark.skipif(not has_faster_coco_eval(), reason="needs faster-coco-eval")
@pytest.mark.parametrize("kind", ["mask", "box"])
def test_faster_coco_eval_equals_pycocotools(case, kind, monkeypatch):
    truth, results = case
    # Equal scores, more than 100 detections of an image, and a phrase without instances.
    results = [{**r, "score": round(r["score"], 1)} for r in results] + [{**results[0], "score": 0.5}] * 120
    truth["categories"].append({"id": 11, "name": "bird"})
    results.append({**results[5], "category_id": 11})
    truth["pairs"] = [{"image_id": 0, "category_id": 3, "exhaustive": True}]
    before = copy.deepcopy(truth)
    fast, slow = (
        coco_scores(truth, results, kind),
        with_pycocotools(monkeypatch, lambda: coco_scores(truth, results, kind)),
    )
    assert truth == before  # both libraries add keys to annotations, and some are not JSON
    assert fast.stats == pytest.approx(slow.stats, abs=1e-12)
    assert 0 < fast.stats["AP"] < 1
    assert fast.by_category.keys() == slow.by_category.keys() == {3, 8}
    for category in (3, 8):
        assert fast.by_category[category] == pytest.approx(slow.by_category[category], abs=1e-12)
        assert fast.curves[category] == pytest.approx(slow.curves[category], abs=1e-12)


def test_pairs_that_are_not_exhaustive_and_images_without_size_need_pycocotools(case, monkeypatch):
    truth, results = case
    without_sizes = {**truth, "images": [{"id": image["id"]} for image in truth["images"]]}
    boxes = [{k: v for k, v in result.items() if k != "segmentation"} for result in results]
    sizeless, sized = (coco_average_precision(content, boxes, "box") for content in (without_sizes, truth))
    assert sizeless == pytest.approx(sized, abs=1e-12)
    truth["pairs"] = [{"image_id": i, "category_id": 8, "exhaustive": False} for i in range(6)]
    ignoring = coco_average_precision(truth, results, "box")
    assert ignoring == with_pycocotools(monkeypatch, lambda: coco_average_precision(truth, results, "box"))
    del truth["pairs"]
    assert ignoring["AP"] > coco_average_precision(truth, results, "box")["AP"]


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
