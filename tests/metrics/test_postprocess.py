import pytest
import torch

from sam_ft.metrics import postprocess
from sam_ft.metrics.postprocess import DetectionTransfer, masks_at, to_detections
from sam_ft.ops.masks import decode_mask, encode_mask


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
    assert to_detections(torch.zeros(0), boxes[:0], torch.zeros(0, 4, 4), 10, 20) == []


def test_pixels_with_a_logit_of_0_are_outside_the_mask():
    assert masks_at(torch.tensor([[[0.0, 1e-6]]]), 1, 2).tolist() == [[[False, True]]]


@pytest.mark.parametrize(("pixels", "values"), [(1, 10**9), (2**24, 1), (700, 10**9)])
def test_blocks_and_transfers_of_any_size_give_equal_detections(monkeypatch, pixels, values):
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for key, (number, size) in enumerate([(3, (17, 31)), (0, (5, 4)), (1, (1, 9)), (2, (40, 3))]):
        masks = None if key == 2 else torch.randn(number, 6, 6, generator=generator)
        scores, boxes = torch.rand(number, generator=generator), torch.rand(number, 4, generator=generator)
        pairs.append((key, torch.rand((), generator=generator), scores, boxes, masks, size))
    expected = []
    for key, presence, scores, boxes, masks, (height, width) in pairs:
        detections = []
        for i, (score, box) in enumerate(zip(scores, boxes)):
            x1, y1, x2, y2 = (box * torch.tensor([width, height, width, height])).tolist()
            detections.append({"score": score.item(), "bbox": [x1, y1, x2 - x1, y2 - y1]})
            if masks is not None:
                counts = encode_mask(masks_at(masks[i : i + 1], height, width)[0])
                detections[-1]["segmentation"] = {"size": [height, width], "counts": counts}
        expected.append((key, presence.item(), detections))
    monkeypatch.setattr(postprocess, "PIXELS_PER_BLOCK", pixels)
    monkeypatch.setattr(postprocess, "VALUES_PER_TRANSFER", values)
    received = []
    transfer = DetectionTransfer(lambda *pair: received.append(pair))
    for pair in pairs:
        transfer.add(*pair)
    assert len(received) == (4 if values == 1 else 0)
    transfer.flush()
    transfer.flush()
    assert received == expected
