"""Masks: run lengths, polygons, boxes, and rejected inputs."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sam_ft.ops import masks


def test_encoding_round_trip_as_text():
    mask = np.random.rand(13, 17) > 0.5
    counts = masks.encode_mask(mask)
    assert isinstance(counts, str)
    assert np.array_equal(masks.decode_mask(counts, 13, 17), mask)
    assert masks.mask_area(counts, 13, 17) == mask.sum()
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


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_part_inside_the_box_equals_the_whole_mask(share):
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:17, 5:30] = np.random.default_rng(0).random((14, 25)) < share
    part, x, y = masks.decode_mask_box(masks.encode_mask(mask), 20, 30)
    whole = np.zeros_like(mask)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    assert np.array_equal(whole, mask)
    assert part.any(axis=0).all() or share < 0.5


def test_part_of_a_mask_with_runs_of_length_zero():
    counts = masks.uncompressed_to_counts([0, 0, 5, 2, 5], [3, 4], 3, 4)
    part, x, y = masks.decode_mask_box(counts, 3, 4)
    assert np.array_equal(part, masks.decode_mask(counts, 3, 4)[y : y + part.shape[0], x : x + part.shape[1]])
    assert part.sum() == 2


def test_boxes_are_tight():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:9, 10:12] = True
    assert masks.mask_box_xywh(masks.encode_mask(mask), 20, 30) == [10, 4, 2, 5]


def test_polygon_parts_are_merged():
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
def test_invalid_polygons_are_rejected(polygon, message):
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
def test_invalid_compressed_rle_is_rejected(counts, size, message):
    with pytest.raises(ValueError, match=message):
        masks.check_compressed_counts(counts, size, 20, 20)


def test_invalid_uncompressed_rle_is_rejected():
    with pytest.raises(ValueError, match="add up to 399 pixels, the image has 20×20 = 400"):
        masks.uncompressed_to_counts([399], [20, 20], 20, 20)


def decode_runs_by_character(counts: str) -> list[int]:
    """Decode the format of pycocotools' `rleFrString` character by character."""
    runs, i = [], 0
    while i < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if i >= len(counts):
                raise ValueError("the RLE's counts end in the middle of a number; export the annotation again")
            code = ord(counts[i]) - 48
            if not 0 <= code < 64:
                raise ValueError(f"the RLE's counts contain the character {counts[i]!r}; export the annotation again")
            value |= (code & 0x1F) << shift
            more = bool(code & 0x20)
            shift += 5
            i += 1
        if code & 0x10:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise ValueError("the RLE's counts contain a negative run; export the annotation again")
        runs.append(value)
    return runs


def outcome(decode, counts: str):
    try:
        return decode(counts)
    except ValueError as error:
        return str(error)


# numbers with one or several characters, and invalid characters
PIECES = st.one_of(
    st.sampled_from([chr(48 + code) for code in range(16)]),
    st.text(st.sampled_from([chr(48 + code) for code in range(64)]), max_size=8),
    st.sampled_from(["\x10", "é", "\ud800", "o" * 11 + "?", "o" * 5 + "7", ""]),
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=12).map("".join).filter(lambda text: not re.search("[P-o]{12}", text)))
def test_run_lengths_equal_a_character_loop(counts):
    assert outcome(masks._runs, counts) == outcome(decode_runs_by_character, counts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1" * 1_000_000, "add up to"),
        ("o" * 999_999 + "0", "a number of 1000000 characters"),
        ("o" * 1_000_000, "end in the middle of a number"),
        ("P" * 999_999 + "0", "a number of 1000000 characters"),
        ("@" * 1_000_000, "a negative run"),
        (("o" * 11 + "7") * 80_000, "a negative run|add up to"),
    ],
)
def test_long_invalid_rle_texts_are_rejected_within_a_second(text, message):
    begin = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        masks.rle_to_counts({"size": [20, 20], "counts": text}, 20, 20)
    assert time.perf_counter() - begin < 1
