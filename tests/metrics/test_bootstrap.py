"""Bootstrap metrics, compared with pycocotools on data with repeated images."""

import copy

import numpy as np
import pytest

from sam_ft.metrics.average_precision import coco_average_precision
from sam_ft.metrics.bootstrap import image_weights, interval, resampled_pairs, resampled_precision
from sam_ft.metrics.pairs import pairs_of
from sam_ft.metrics.summary import measure, summarize

from .saco_files import HEIGHT, WIDTH, disc, shape_of


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    truth = {
        "images": [],
        "annotations": [],
        "pairs": [],
        "categories": [{"id": i, "name": n} for i, n in ((1, "a"), (2, "b"))],
    }
    results = []
    for image in range(1, 9):
        truth["images"].append({"id": image, "height": HEIGHT, "width": WIDTH})
        for category in (1, 2):
            truth["pairs"].append({"image_id": image, "category_id": category, "exhaustive": True})
            for _ in range(int(rng.integers(0, 4))):
                center, radius = rng.uniform(8, 40, 2), rng.uniform(5, 12)
                common = {"image_id": image, "category_id": category}
                number = len(truth["annotations"]) + 1
                truth["annotations"].append(
                    {"id": number, "iscrowd": int(rng.random() < 0.1), **common, **shape_of(disc(rng, center, radius))}
                )
                if rng.random() < 0.8:
                    moved = shape_of(disc(rng, center + rng.normal(0, 2, 2), radius))
                    results.append({"score": float(rng.random()), **common, **moved})
            if rng.random() < 0.4:
                results.append(
                    {"image_id": image, "category_id": category, "score": float(rng.random()), **shape_of(disc(rng))}
                )
    return truth, [result for result in results if result["area"] > 0]


def repeated(truth, results, weights):
    """Repeat each image according to its weight, with a new image id for each copy."""
    copies = {"images": [], "annotations": [], "pairs": [], "categories": truth["categories"]}
    repeated_results = []
    for image, times in zip(truth["images"], weights, strict=True):
        for _ in range(int(times)):
            number = len(copies["images"]) + 1
            copies["images"].append({**image, "id": number})
            for key in ("annotations", "pairs"):
                for entry in copy.deepcopy(truth[key]):
                    if entry["image_id"] == image["id"]:
                        new_id = {"id": len(copies[key]) + 1} if key == "annotations" else {}
                        copies[key].append({**entry, "image_id": number} | new_id)
            repeated_results += [{**r, "image_id": number} for r in results if r["image_id"] == image["id"]]
    return copies, repeated_results


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_resampled_images_equal_repeated_images(case, kind):
    truth, results = case
    images = [image["id"] for image in truth["images"]]
    precision = resampled_precision(truth, results, kind, images)
    names = ("cgF1", "pmF1", "IL_MCC", "mean_IoU")
    pairs = resampled_pairs(measure(pairs_of(truth, results), kind), images, names)
    for weights in [np.ones(8, dtype=int), *image_weights(8, 6, seed=3)]:
        repeated_truth, repeated_results = repeated(truth, results, weights)
        expected = coco_average_precision(repeated_truth, repeated_results, kind)
        numbers = precision(weights)
        assert numbers[f"{kind}_AP"] == pytest.approx(expected["AP"], abs=1e-12)
        assert numbers[f"{kind}_AP50"] == pytest.approx(expected["AP50"], abs=1e-12)
        summary = summarize(measure(pairs_of(repeated_truth, repeated_results), kind))
        numbers = pairs(weights)
        for name in ("cgF1", "pmF1", "IL_MCC"):
            assert numbers[name] == pytest.approx(summary[name], abs=1e-12)
        if kind == "mask":
            assert numbers["mean_IoU"] == pytest.approx(summary["mean_IoU"], abs=1e-12)


def test_weights_sum_to_the_number_of_images():
    weights = image_weights(50, 200)
    assert (weights.sum(1) == 50).all()
    assert weights.mean() == pytest.approx(1)
    assert (image_weights(50, 200) == weights).all()
    assert not (image_weights(50, 200, seed=1) == weights).all()


def test_interval_of_a_mean_equals_the_normal_interval():
    """The half-width for the mean of 400 normal values is 1.96 standard deviations divided by 20."""
    values = np.random.default_rng(0).normal(size=400)
    means = image_weights(400, 2000) @ values / 400
    low, high = interval(means)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08)  # accuracy of 2,000 resamples
