import torch

from sam_ft.ops.prompts import PADDING_LABEL, ObjectPrompts


def five_objects(has_mask):
    number = [1, 2, 1, 1, 2]
    labels = torch.tensor([[1] * n + [PADDING_LABEL] * (2 - n) for n in number])
    masks = torch.arange(5 * 4).view(5, 2, 2) if has_mask else None
    return ObjectPrompts([0, 0, 1, 1, 2], torch.arange(20.0).view(5, 2, 2), labels, number, masks, has_mask)


def test_chunks_have_equally_many_points_and_at_most_size_objects():
    prompts = five_objects(None)
    assert prompts.chunks(5) == [[0, 2, 3], [1, 4]]
    assert prompts.chunks(2) == [[0, 2], [3], [1, 4]]
    images, points, labels, masks = prompts.of([0, 2, 3])
    assert images.tolist() == [0, 1, 1]
    torch.testing.assert_close(points, prompts.points[[0, 2, 3], :1])
    assert PADDING_LABEL not in labels
    assert masks is None


def test_objects_with_and_without_a_mask_are_in_different_chunks():
    prompts = five_objects([False, False, True, False, True])
    assert prompts.chunks(5) == [[0, 3], [1], [2], [4]]
    assert prompts.of([0, 3])[3] is None
    torch.testing.assert_close(prompts.of([2])[3], prompts.masks[[2]])
