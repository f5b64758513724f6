import numpy as np
import pytest
import torch

from sam_ft.ops.packed_masks import pack_masks, unpack_masks


@pytest.mark.parametrize("number, side", [(3, 1008), (2, 126), (1, 5), (0, 14)])
def test_packed_masks_return_in_an_eighth_of_the_memory(number, side):
    masks = torch.from_numpy(np.random.default_rng(side).random((number, side, side)) < 0.3)
    packed = pack_masks(masks)
    assert packed.dtype == torch.uint8
    assert packed.shape == (number, side, -(-side // 8))
    assert torch.equal(unpack_masks(packed), masks)


def test_bool_masks_and_missing_masks_are_unchanged():
    masks = torch.ones(1, 4, 4, dtype=torch.bool)
    assert unpack_masks(masks) is masks
    assert pack_masks(None) is None
    assert unpack_masks(None) is None
