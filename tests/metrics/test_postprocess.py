import torch

from sam_ft.metrics.postprocess import to_detections
from sam_ft.ops.masks import decode_mask


def test_detections_are_brought_to_the_image():
    masks = torch.full((20, 8, 8), -5.0)
    masks[:, 2:6, 2:6] = 5.0
    scores = torch.linspace(1, 0, 20)
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).repeat(20, 1)
    found = to_detections(scores, boxes, masks, 40, 80)
    assert len(found) == 20
    assert found[0]["bbox"] == [20, 10, 40, 20]
    mask = torch.from_numpy(decode_mask(found[19]["segmentation"]["counts"], 40, 80))
    # the bilinear edge lies halfway between the centres of a cell inside and one outside, corners are rounded off
    assert mask[10:30, 25:55].all()
    assert mask[13:27, 20:60].all()
    assert not mask[:9].any()
    assert not mask[:, :19].any()


def test_no_masks_and_no_detections():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert to_detections(torch.tensor([0.5]), boxes, None, 10, 20) == [{"score": 0.5, "bbox": [0, 0, 20, 10]}]
    assert to_detections(torch.zeros(0), boxes[:0], None, 10, 20) == []
