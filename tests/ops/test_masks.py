import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam_ft.ops import masks


def test_encoding_round_trips_as_text():
    mask = np.random.rand(13, 17) > 0.5
    counts = masks.encode_mask(mask)
    assert isinstance(counts, str)
    assert np.array_equal(masks.decode_mask(counts, 13, 17), mask)
    assert masks.mask_area(counts, 13, 17) == mask.sum()
    assert masks.encode_masks(mask[None]) == [counts]
    assert masks.check_compressed_counts(counts, [13, 17], 13, 17) == counts


def test_run_lengths_equal_pycocotools():
    for _ in range(20):
        mask = np.random.rand(23, 31) > np.random.rand()
        counts = masks.encode_mask(mask)
        flat = mask.T.ravel()  # COCO runs go down columns, background first
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
        runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
        assert masks._runs(counts) == runs
        assert masks.uncompressed_to_counts(runs, [23, 31], 23, 31) == counts


def test_boxes_are_tight():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:9, 10:12] = True
    assert masks.mask_box_xywh(masks.encode_mask(mask), 20, 30) == [10, 4, 2, 5]


def test_polygon_parts_are_united():
    parts = [[2, 2, 8, 2, 8, 8, 2, 8], [10, 10, 16, 10, 16, 16, 10, 16]]
    counts = masks.polygons_to_counts(parts, 20, 20)
    expected = coco_mask.merge(coco_mask.frPyObjects(parts, 20, 20))
    assert counts == expected["counts"].decode()
    assert masks.mask_area(counts, 20, 20) == 72


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([[1, 1, float("nan"), 5, 5, 5]], "NaN or infinity"),
        ([[1, 1, float("inf"), 5, 5, 5]], "NaN or infinity"),
        ([[1, 1, 1e9, 5, 5, 5]], "1e\\+09"),
        ([[1, 1, 5, 5]], "2 point"),
        ([[1, 1, 5, 5, 7, 7, 3]], "odd number of values \\(7\\)"),
        ([[]], "0 point"),
        ([], "empty"),
        ([1, 1, 5, 5, 7, 7], "one more pair of brackets"),
        ([["a", 1, 5, 5, 7, 7]], "not a number"),
        ([[[1, 1], [5, 5], [7, 7]]], "nested too deep"),
    ],
)
def test_bad_polygons_are_named(polygon, message):
    with pytest.raises(ValueError, match=message):
        masks.polygons_to_counts(polygon, 20, 20)


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ("<<", [20, 20], "add up to"),
        (masks.encode_mask(np.ones((20, 20), bool)), [20, 10], r"size is \[20, 10\].*\[20, 20\]"),
        ("\x10", [20, 20], "character"),
        ("P", [20, 20], "middle of a number"),
    ],
)
def test_bad_compressed_rle_is_named(counts, size, message):
    with pytest.raises(ValueError, match=message):
        masks.check_compressed_counts(counts, size, 20, 20)


def test_bad_uncompressed_rle_is_named():
    with pytest.raises(ValueError, match="add up to 399 pixels, the image has 20×20 = 400"):
        masks.uncompressed_to_counts([399], [20, 20], 20, 20)
