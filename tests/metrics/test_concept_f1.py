"""cgF1, compared with the official evaluator and with hand-computed values."""

import numpy as np
import pytest
from sam3.eval.cgf1_eval import CGF1Evaluator

from sam_ft.metrics.concept_f1 import ConceptF1, PairCounts, concept_f1, concept_f1_of, count_pair
from sam_ft.metrics.pairs import Pair

from .saco_files import HEIGHT, WIDTH, disc, make, save, shape_of


OFFICIAL = {"positive_micro_F1": "pmF1", "positive_micro_precision": "pm_precision"}
CASES = [(seed, 1 + seed % 3, "mask" if seed % 2 else "box", seed % 5 == 0) for seed in range(50)]


def with_pairs(truth: dict) -> dict:
    """Add `pairs` to a SA-Co file, in which an entry of `images` is an (image, phrase) pair of the only category."""
    (category,) = truth["categories"]
    pairs = [
        {"image_id": entry["id"], "category_id": category["id"], "exhaustive": bool(entry["is_instance_exhaustive"])}
        for entry in truth["images"]
    ]
    return {**truth, "pairs": pairs}


@pytest.mark.parametrize(("seed", "annotators", "kind", "crowds"), CASES)
def test_metrics_equal_official_evaluator(tmp_path, seed, annotators, kind, crowds):
    """Random files have one to three annotators, masks or boxes, and non-exhaustive pairs; some have crowd regions."""
    truths, results = make(seed, annotators, crowds)
    files, predictions = save(tmp_path, truths, results)
    iou_type = {"mask": "segm", "box": "bbox"}[kind]
    expected = CGF1Evaluator(files, iou_type).evaluate(predictions)
    first, *others = map(with_pairs, truths)
    fields = ("image_id", "category_id", "score", "bbox", "segmentation")
    metrics = ConceptF1().compute(
        predictions=[{name: result[name] for name in fields} for result in results],
        ground_truth=first, other_annotators=others, kind=kind,
    )  # fmt: skip
    compared = 0
    for name, value in expected.items():
        base, _, at = name.removeprefix(f"cgF1_eval_{iou_type}_").partition("@")
        ours = metrics[OFFICIAL.get(base, base) + (f"@{at}" if at else "")]
        assert ours == pytest.approx(value, abs=1e-9), name
        compared += 1
    assert compared == 26


def pair(truth, found, **more) -> Pair:
    found = [{"score": score, **shape_of(mask)} for mask, score in found]
    return Pair(1, "disc", (HEIGHT, WIDTH), [shape_of(mask) for mask in truth], found, **more)


def test_hand_computed_values():
    """With a correct present and a correct absent pair, all metrics are 1 except for the evaluator's epsilons."""
    mask = disc(None, (20, 20), 9)
    right = [pair([mask], [(mask, 0.9)]), pair([], [])]
    numbers = concept_f1_of(right)
    assert numbers["cgF1"] == pytest.approx(1, abs=1e-3)
    assert numbers["IL_MCC"] == pytest.approx(1, abs=1e-5)
    # A false positive in the absent pair reduces IL_MCC and cgF1 to 0; pmF1 ignores it.
    wrong = [pair([mask], [(mask, 0.9)]), pair([], [(mask, 0.9)])]
    assert concept_f1_of(wrong)["IL_MCC"] == 0
    assert concept_f1_of(wrong)["pmF1"] == pytest.approx(1, abs=1e-3)
    assert concept_f1_of(wrong)["precision"] == pytest.approx(0.5, abs=1e-3)


def test_detections_below_a_score_of_a_half_do_not_count():
    mask = disc(None, (20, 20), 9)
    assert count_pair(pair([mask], [(mask, 0.49)])).num_detections == 0
    assert count_pair(pair([mask], [(mask, 0.5)])).num_detections == 1
    assert count_pair(pair([mask], [(mask, 0.3)]), threshold=0.2).num_detections == 1


def test_non_exhaustive_pairs_do_not_count():
    mask = disc(None, (20, 20), 9)
    exhaustive = [pair([mask], [(mask, 0.9)]), pair([], [])]
    assert concept_f1_of([*exhaustive, pair([], [(mask, 0.9)], exhaustive=False)]) == concept_f1_of(exhaustive)


def test_weights_equal_repetitions():
    rng = np.random.default_rng(0)
    counts = [
        PairCounts(np.sort(rng.integers(0, min(found, truth) + 1, 10))[::-1], found, truth)
        for found, truth in rng.integers(0, 5, (20, 2)).tolist()
    ]
    times = rng.integers(0, 4, 20)
    repeated = [count for count, n in zip(counts, times, strict=True) for _ in range(n)]
    weighted = concept_f1(counts, times)
    for name, value in concept_f1(repeated).items():
        assert weighted[name] == pytest.approx(value, abs=1e-12)


def test_evaluate_metric():
    shape = shape_of(disc(None, (20, 20), 9))
    truth = {
        "images": [{"id": 1, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **shape}],
        "pairs": [{"image_id": 1, "category_id": i, "exhaustive": True} for i in (1, 2)],
    }
    metric = ConceptF1()
    result = {
        "image_id": 1,
        "category_id": 1,
        "score": 0.9,
        "bbox": shape["bbox"],
        "segmentation": shape["segmentation"],
    }
    metric.add_batch(predictions=[result])
    assert metric.compute(ground_truth=truth)["cgF1"] == pytest.approx(1, abs=1e-3)
