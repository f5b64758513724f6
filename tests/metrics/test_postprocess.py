import torch

from sam_ft.metrics.postprocess import masks_at, to_detections
from sam_ft.ops.masks import decode_mask


def test_detections_have_the_original_image_size():
    masks = torch.full((20, 8, 8), -5.0)
    masks[:, 2:6, 2:6] = 5.0
    scores = torch.linspace(1, 0, 20)
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).repeat(20, 1)
    detections = to_detections(scores, boxes, masks, 40, 80)
    assert len(detections) == 20
    assert detections[0]["bbox"] == [20, 10, 40, 20]
    mask = torch.from_numpy(decode_mask(detections[19]["segmentation"]["counts"], 40, 80))
    # The bilinear edge is halfway between the centres of adjacent cells, with rounded corners.
    assert mask[10:30, 25:55].all()
    assert mask[13:27, 20:60].all()
    assert not mask[:9].any()
    assert not mask[:, :19].any()


def test_empty_masks_and_detections():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert to_detections(torch.tensor([0.5]), boxes, None, 10, 20) == [{"score": 0.5, "bbox": [0, 0, 20, 10]}]
    assert to_detections(torch.zeros(0), boxes[:0], None, 10, 20) == []


def test_pixels_with_a_logit_of_0_are_outside_the_mask():
    assert masks_at(torch.tensor([[[0.0, 1e-6]]]), 1, 2).tolist() == [[[False, True]]]
