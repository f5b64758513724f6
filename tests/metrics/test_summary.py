import pytest

from sam_ft.metrics.concept_f1 import concept_f1, count_pair
from sam_ft.metrics.grounding import compute_phrase_metrics
from sam_ft.metrics.pairs import pairs_of
from sam_ft.metrics.regions import region_quality
from sam_ft.metrics.summary import measure, summarize

from .saco_files import HEIGHT, WIDTH, make


def pairs_with_presence():
    (truth,), results = make(3)
    pairs = [
        {"image_id": image["id"], "category_id": 1, "exhaustive": bool(image["is_instance_exhaustive"])}
        for image in truth["images"]
    ]
    presence = {(pair["image_id"], 1): 0.1 + 0.07 * i for i, pair in enumerate(pairs)}
    return pairs_of(truth | {"pairs": pairs}, results, presence)


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_summary_equals_the_metrics_of_all_pairs(kind, threshold):
    pairs = pairs_with_presence()
    assert {pair.size for pair in pairs} == {(HEIGHT, WIDTH)}
    expected = concept_f1([count_pair(pair, kind, threshold) for pair in pairs if pair.exhaustive])
    expected |= region_quality(pairs, threshold) if kind == "mask" else {}
    expected |= compute_phrase_metrics(pairs, kind, threshold)
    assert {"presence_accuracy", "concept_recall"} <= expected.keys()
    assert summarize(measure(pairs, kind, threshold)) == expected
