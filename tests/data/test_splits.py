"""Tests of `sam_ft.data.splits`."""

import pytest

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.splits import all_rows, split_by_image, split_by_phrase, subset
from sam_ft.options.data import DatasetOptions, ReadOptions


@pytest.fixture
def splits(shapes):
    data = load_phrase_dataset(DatasetOptions(str(shapes)), ReadOptions())
    return {"train": data.train, "validation": data.validation}


def texts(rows) -> set[str]:
    return {phrase["text"] for phrases in rows["phrases"] for phrase in phrases}


def test_all_rows_makes_ids_unique(splits):
    rows = all_rows(splits)
    assert list(rows["example_id"]) == ["train/1", "train/2", "train/3", "train/4", "validation/1", "validation/2"]


def test_unseen_phrases_are_evaluated_and_not_trained(shapes, splits):
    phrase = next(p["text"] for p in splits["train"][0]["phrases"] if p["instances"])
    options = DatasetOptions(str(shapes), unseen_phrases=[phrase])
    data = load_phrase_dataset(options, ReadOptions())
    shown = [r for r in splits["train"] if any(p["text"] == phrase and p["instances"] for p in r["phrases"])]
    assert len(data.train) == len(splits["train"]) - len(shown)
    assert len(data.validation) == len(splits["validation"]) + len(shown)
    assert phrase not in texts(data.train)
    assert data.learned == texts(data.train)
    evaluation = load_phrase_dataset(options, ReadOptions(), with_train=False)
    assert evaluation.train is None
    assert list(evaluation.validation["example_id"]) == list(data.validation["example_id"])
    with pytest.raises(ValueError, match="`unseen_phrases` contains 'zebra', which is not among the 3 phrases"):
        load_phrase_dataset(DatasetOptions(str(shapes), unseen_phrases=["zebra"]), ReadOptions())


def test_a_split_by_image_is_the_same_for_the_same_seed(splits):
    rows = all_rows(splits)
    first, second = (split_by_image(rows, 0.3, 0) for _ in range(2))
    assert sorted([*first["train"]["example_id"], *first["validation"]["example_id"]]) == sorted(rows["example_id"])
    assert list(first["validation"]["example_id"]) == list(second["validation"]["example_id"])
    drawn = {tuple(split_by_image(rows, 0.3, seed)["validation"]["example_id"]) for seed in range(8)}
    assert len(drawn) > 1
    assert {len(names) for names in drawn} == {2}


def test_held_out_phrases_are_not_in_the_training_split(splits):
    rows = all_rows(splits)
    shown = [
        i
        for i, phrases in enumerate(rows["phrases"])
        if any(p["text"] == "triangle" and p["instances"] for p in phrases)
    ]
    parts = split_by_phrase(rows, ["triangle"])
    assert "triangle" not in texts(parts["train"])
    assert len(parts["validation"]) == len(shown) > 0
    assert "triangle" in texts(parts["validation"])
    with pytest.raises(ValueError, match="'plum', which is not among the 3 phrases: circle, rectangle, triangle"):
        split_by_phrase(rows, ["plum"])
    with pytest.raises(ValueError, match="every image shows circle or rectangle or triangle"):
        split_by_phrase(rows, ["circle", "rectangle", "triangle"])


def test_a_subset_has_only_its_phrases(splits):
    rows = subset(splits["train"], phrases=["circle"], limit=3)
    assert texts(rows) == {"circle"}
    assert len(rows) == 3
    assert len(subset(splits["train"], phrases=None, limit=None)) == 4
