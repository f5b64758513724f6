"""Folds: copies and groups stay together, phrases are spread, and impossible requests are refused."""

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.folds import assign_folds
from sam_ft.data.row_schema import to_dataset


def make_rows(phrases: list[str], pictures: list[int] | None = None, side=24):
    """Build rows that each show one phrase, `""` for no label, with the pictures of these seeds."""
    pictures = list(range(len(phrases))) if pictures is None else pictures
    cells = [np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8) for seed in pictures]
    images = [Image.fromarray(cell).resize((side, side), Image.Resampling.BICUBIC) for cell in cells]
    instance = {"bbox": [1.0, 1.0, 5.0, 5.0], "segmentation": None, "area": 25.0, "is_crowd": False}
    return to_dataset(
        [
            {
                "example_id": str(i),
                "image": image,
                "width": side,
                "height": side,
                "instances": [instance] if text else [],
                "phrases": [{"text": text, "instances": [0], "exhaustive": True}] if text else [],
            }
            for i, (image, text) in enumerate(zip(images, phrases, strict=True))
        ]
    )


def test_every_image_is_predicted_by_one_fold_that_was_not_trained_on_it():
    rows = make_rows(["nut"] * 7 + [""] * 4)
    folds = assign_folds(rows, 3, [])
    predicted = []
    for fold in range(3):
        train, held_out = folds.split(rows, fold)
        assert not set(train["example_id"]) & set(held_out["example_id"])
        assert len(train) + len(held_out) == 11
        predicted += held_out["example_id"]
    assert sorted(predicted, key=int) == rows["example_id"]
    sizes = np.bincount(folds.fold_of)
    assert sizes.max() - sizes.min() <= 2
    assert folds == assign_folds(rows, 3, [])


def test_copies_and_groups_share_a_fold():
    rows, notes = make_rows(["nut"] * 12, [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]), []
    folds = assign_folds(rows, 3, notes, groups=[*[None] * 8, "video", "video", "video", None]).fold_of
    assert folds[0] == folds[1]
    assert folds[2] == folds[3]
    assert folds[8] == folds[9] == folds[10]
    assert notes == [
        "7 images are copies of another image or in one group with it; each of the 3 groups is in one fold"
    ]


def test_rare_phrases_are_spread_over_the_folds():
    phrases = np.random.default_rng(0).permutation(["nut"] * 30 + ["bolt"] * 5 + ["screw"] * 2).tolist()
    notes = []
    folds = assign_folds(make_rows(phrases), 5, notes)
    fold_of = np.array(folds.fold_of)
    assert sorted(fold_of[np.array(phrases) == "bolt"]) == [0, 1, 2, 3, 4]
    assert len(set(fold_of[np.array(phrases) == "screw"])) == 2
    assert folds.untrained_phrases == []
    assert not notes


def test_phrase_of_a_single_image_is_noted():
    notes = []
    folds = assign_folds(make_rows(["nut"] * 5 + ["bolt"]), 3, notes)
    assert folds.untrained_phrases == ["bolt"]
    assert notes == [
        "all images of 1 of 2 phrases are in one fold, so the model that reviews their labels is not trained on them: "
        "bolt"
    ]


def test_no_fold_is_empty():
    for number in range(2, 7):
        phrases = [["nut", "bolt", ""][i % 3] for i in range(number)]
        assert set(assign_folds(make_rows(phrases), number, []).fold_of) == set(range(number))


@pytest.mark.parametrize(
    ("phrases", "pictures", "num_folds", "message"),
    [
        (["nut"] * 3, None, 1, "`num_folds` must be at least 2, got 1"),
        (["nut"] * 3, None, 5, "5 folds need at least 5 images, got 3. Add images, or set `num_folds: 3`"),
        (["nut"], None, 2, "2 folds need at least 2 images, got 1. Add images$"),
        ([""] * 4, None, 2, "the 4 images have no labels, so there is nothing to review. Label some images"),
        (["nut"] * 4, [0, 0, 1, 1], 3, "the 4 images are copies or groups of 2. Add images, or set `num_folds: 2`"),
    ],
)
def test_impossible_folds_are_refused(phrases, pictures, num_folds, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(make_rows(phrases, pictures), num_folds, [])
