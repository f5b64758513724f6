"""Order of unlabelled images for labelling, against closed forms."""

import math

import numpy as np
import pytest

from sam_ft.metrics.label_acquisition import CommitteePredictions, binary_entropy, savage_scores, select_images


def committee(*members) -> CommitteePredictions:
    """Build a committee from the presence of one phrase in each image, by member."""
    return CommitteePredictions.collect(["nut"], [[({"nut": p}, {}) for p in images] for images in members])


def select(predictions, number=10, counts=(0,), **features) -> list[int]:
    return [i.index for i in select_images(predictions, number, phrase_counts=np.array(counts), **features)]


def test_binary_entropy_is_highest_at_one_half_and_zero_at_both_ends():
    assert binary_entropy(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, math.log(2), 0])


def test_savage_scores_depend_on_ranks_alone_and_ties_share_their_mean():
    expected = [-math.log(1 - q) for q in (1 / 6, 1 / 2, 5 / 6)]
    assert savage_scores(np.array([1.0, 2.0, 900.0])).tolist() == pytest.approx(expected)
    assert savage_scores(np.array([5.0, 5.0])).tolist() == pytest.approx([math.log(2)] * 2)


def test_parts_of_two_models():
    parts = CommitteePredictions.collect(
        ["nut", "bolt"], [[({"nut": 1.0}, {"nut": [0.5, 1.0]})], [({"nut": 0.0}, {})]]
    ).compute_parts()
    assert parts["presence"].tolist() == [pytest.approx([math.log(2), 0])]
    assert parts["score"].tolist() == [pytest.approx([math.log(2) / 2, 0])]  # one score of 0.5 by one of two models
    assert parts["disagreement"].tolist() == [pytest.approx([math.log(2), 0])]


def test_models_that_are_equally_unsure_agree():
    assert committee([0.5], [0.5]).compute_parts()["disagreement"].tolist() == [[0.0]]


def test_a_single_model_votes_with_its_presence_and_its_best_score():
    values = CommitteePredictions.collect(["nut"], [[({"nut": 1.0}, {"nut": []}), ({"nut": 1.0}, {"nut": [1.0]})]])
    assert values.compute_parts()["disagreement"][:, 0].tolist() == pytest.approx([math.log(2), 0])


def test_the_most_doubtful_image_comes_first():
    assert select(committee([0.01, 0.5, 0.2], [0.01, 0.6, 0.3])) == [1, 2, 0]


def test_rare_phrases_count_more():
    images = [({"nut": 0.5}, {}), ({"bolt": 0.4}, {})]
    predictions = CommitteePredictions.collect(["nut", "bolt"], [images])
    assert select(predictions, 1, [0, 0]) == [0]
    assert select(predictions, 1, [9, 0]) == [1]


def test_an_image_like_a_selected_or_labelled_one_comes_later():
    predictions = committee([0.5, 0.5, 0.4], [0.5, 0.5, 0.4])
    features = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    labelled = np.array([[9.0, 0.0]])
    ranked = select_images(predictions, 3, phrase_counts=np.array([0]), features=features, labelled_features=labelled)
    assert [image.index for image in ranked] == [0, 2, 1]
    assert [image.distance for image in ranked] == pytest.approx([1, 5 / 9, 0])


def test_the_order_does_not_depend_on_the_unit_of_the_features():
    rng = np.random.default_rng(0)
    predictions = committee(rng.random(12), rng.random(12))
    features, labelled = rng.normal(size=(12, 3)), rng.normal(size=(4, 3))
    expected = select(predictions, features=features, labelled_features=labelled)
    assert select(predictions, features=1000 * features, labelled_features=1000 * labelled) == expected


def test_more_images_than_there_are_selects_all_once():
    assert sorted(select(committee([0.1, 0.2, 0.3]), 10)) == [0, 1, 2]
