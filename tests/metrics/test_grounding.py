"""Grounding metrics on hand-written pairs."""

import pytest

from sam_ft.metrics.grounding import attribute_accuracy, compute_phrase_metrics
from sam_ft.metrics.pairs import Pair


LEFT, RIGHT = [0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 20.0, 20.0]


def pair(phrase, truth, found=(), presence=0.9, image=1, **more) -> Pair:
    boxes = [{"bbox": box, "iscrowd": 0} for box in truth]
    return Pair(image, phrase, (50, 80), boxes, [{"bbox": b, "score": s} for b, s in found], presence=presence, **more)


def test_presence_accuracy_counts_false_positives_and_negatives():
    predictions = [(0.9, True), (0.5, True), (0.49, True), (0.1, False), (0.5, False)]
    pairs = [pair("a", [LEFT] * present, presence=probability) for probability, present in predictions]
    assert compute_phrase_metrics(pairs, "box")["presence_accuracy"] == pytest.approx(3 / 5)
    assert compute_phrase_metrics(pairs, "box", threshold=0.2)["presence_accuracy"] == pytest.approx(4 / 5)
    assert "presence_accuracy" not in compute_phrase_metrics([pair("a", [LEFT], presence=None)], "box")


def test_recall_and_grounding_accuracy():
    """In the first pair, the best box is wrong and the second one correct: it counts for recall only."""
    both = pair("a", [LEFT], [(RIGHT, 0.9), (LEFT, 0.6)])
    low = pair("b", [LEFT], [(LEFT, 0.2)])
    missed = pair("c", [LEFT])
    numbers = compute_phrase_metrics([both, low, missed], "box")
    assert numbers["concept_recall"] == pytest.approx(1 / 3)
    assert numbers["grounding_accuracy"] == pytest.approx(1 / 3)
    assert "concept_recall" not in compute_phrase_metrics([pair("d", [])], "box")


def test_a_box_needs_an_iou_of_a_half():
    for height, expected in ((10.0, 1), (9.9, 0)):  # IoU 0.5 and less
        pairs = [pair("a", [LEFT], [([0.0, 0.0, 20.0, height], 0.9)])]
        numbers = compute_phrase_metrics(pairs, "box")
        assert numbers["grounding_accuracy"] == numbers["concept_recall"] == expected


def test_attribute_accuracy_compares_phrases_that_differ_in_one_word():
    present = pair("red square", [LEFT], presence=0.8)
    others = [pair("blue square", [], presence=0.3), pair("red circle", [], presence=0.9), pair("blue star", [])]
    assert attribute_accuracy([present, *others]) == 0.5  # "blue star" differs in two words
    assert attribute_accuracy([present, pair("blue square", [], presence=0.8)]) == 0.5
    assert attribute_accuracy([present, pair("blue square", [], presence=0.3, image=2)]) is None
    assert attribute_accuracy([present, pair("blue square", [], presence=0.3, exhaustive=False)]) is None


def test_false_positives_of_absent_phrases():
    crowd = pair("c", [LEFT], [(LEFT, 0.9)])
    crowd.truth[0]["iscrowd"] = 1
    pairs = [pair("a", [], [(LEFT, 0.9), (RIGHT, 0.5), (RIGHT, 0.4)]), pair("b", []), crowd]
    # A pair with a crowd region only is neither present nor absent.
    assert compute_phrase_metrics(pairs, "box")["false_positives_per_absent"] == 1
    assert compute_phrase_metrics(pairs, "box", threshold=0.6)["false_positives_per_absent"] == 0.5


def test_all_metrics():
    numbers = compute_phrase_metrics(
        [pair("red square", [LEFT], [(LEFT, 0.9)]), pair("blue square", [], presence=0.2)], "box"
    )
    expected = {
        "presence_accuracy": 1,
        "near_miss_rejection": 1,
        "false_positives_per_absent": 0,
        "concept_recall": 1,
        "grounding_accuracy": 1,
        "attribute_accuracy": 1,
    }
    assert {name: numbers[name] for name in expected} == expected
