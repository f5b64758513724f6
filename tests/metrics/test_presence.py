import pytest

from sam_ft.metrics.presence import is_near_miss, rejection_rate


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
