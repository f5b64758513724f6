"""Run-length encoding on the device: equal to pycocotools."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_ft.ops.masks import encode_mask
from sam_ft.ops.run_lengths import compress_run_ends, find_run_ends


def encode(masks):
    return compress_run_ends(find_run_ends(torch.from_numpy(masks)).numpy(), *masks.shape)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_random_masks_have_the_counts_of_pycocotools(number, height, width, share, seed):
    masks = np.random.default_rng(seed).random((number, height, width)) < share
    assert encode(masks) == [encode_mask(mask) for mask in masks]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 65)])
def test_empty_full_and_single_pixel_masks(shape):
    masks = [np.zeros(shape, bool), np.ones(shape, bool)]
    for y, x in ((0, 0), (shape[0] - 1, 0), (0, shape[1] - 1), (shape[0] - 1, shape[1] - 1)):
        masks.append(np.zeros(shape, bool))
        masks[-1][y, x] = True
    assert encode(np.stack(masks)) == [encode_mask(mask) for mask in masks]
