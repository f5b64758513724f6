import pytest
import torch

from sam_ft.losses.structures import DenseMasks, FactoredMasks


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_factored_masks_equal_dense_masks(size):
    embeddings, pixels = torch.randn(3, 5, 4), torch.randn(3, 4, 2, 3)
    dense = DenseMasks(torch.einsum("pqc,pchw->pqhw", embeddings, pixels))
    pairs, query = [0, 0, 1, 2, 2, 2], torch.tensor([4, 1, 0, 3, 2, 0])
    selected = [
        masks.select(torch.tensor(pairs), query, pairs, size) for masks in (FactoredMasks(embeddings, pixels), dense)
    ]
    for start in range(0, 6, size):
        factored, expected = (rows(start, min(start + size, 6), *tensors) for tensors, rows in selected)
        torch.testing.assert_close(factored, expected)
