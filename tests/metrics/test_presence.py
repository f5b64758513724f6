import pytest

from sam_ft.metrics.presence import is_near_miss, presence_accuracy, rejection_rate


def test_presence_accuracy_counts_false_positives_and_negatives():
    predictions = [(0.9, True), (0.5, True), (0.49, True), (0.1, False), (0.5, False)]
    assert presence_accuracy(predictions) == pytest.approx(3 / 5)
    assert presence_accuracy(predictions, threshold=0.2) == pytest.approx(4 / 5)
    assert presence_accuracy([]) is None


def test_rejection_rate_counts_probabilities_below_the_threshold():
    assert rejection_rate([0.1, 0.49, 0.5, 0.9]) == pytest.approx(1 / 2)
    assert rejection_rate([0.1, 0.49, 0.5, 0.9], threshold=0.3) == pytest.approx(1 / 4)
    assert rejection_rate([]) is None


@pytest.mark.parametrize(
    ("absent", "present", "expected"),
    [
        ("red square", ["red circle"], True),
        ("red square", ["blue square"], True),
        ("red square", ["small red circle", "circle"], False),  # different number of words
        ("red square", ["square red"], False),  # two words differ
        ("square", ["circle"], False),  # single word
        ("small red square", ["circle", "small blue square"], True),
        ("red square", [], False),
    ],
)
def test_near_misses_differ_in_one_word(absent, present, expected):
    assert is_near_miss(absent, present) is expected
