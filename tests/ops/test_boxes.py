import torch
import torchvision

from sam_ft.ops.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, boxes_in_region, paired_box_overlap


def random_boxes(n):
    low = torch.rand(n, 2)
    return torch.cat([low, low + 0.01 + torch.rand(n, 2)], -1)


def test_formats_round_trip():
    boxes = random_boxes(50)
    torch.testing.assert_close(box_cxcywh_to_xyxy(box_xyxy_to_cxcywh(boxes)), boxes)


def test_overlap_equals_torchvision():
    first, second = random_boxes(40), random_boxes(40)
    iou, giou = paired_box_overlap(box_xyxy_to_cxcywh(first), box_xyxy_to_cxcywh(second))
    torch.testing.assert_close(iou, torchvision.ops.box_iou(first, second).diagonal())
    torch.testing.assert_close(giou, torchvision.ops.generalized_box_iou(first, second).diagonal())


def test_boxes_without_area_have_finite_overlaps():
    point = torch.tensor([[0.5, 0.5, 0.0, 0.0]], requires_grad=True)
    iou, giou = paired_box_overlap(point, point.detach())
    (iou + giou).sum().backward()
    assert iou.item() == 0
    assert torch.isfinite(giou).all()
    assert torch.isfinite(point.grad).all()


def test_boxes_in_region_equals_the_covered_share():
    region = torch.zeros(10, 20, dtype=torch.bool)
    region[:, :10] = True  # the left half
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.25, 0.2, 0.75, 0.8], [0.1, 0.1, 0.1, 0.1]])
    torch.testing.assert_close(boxes_in_region(boxes, region), torch.tensor([1.0, 0.0, 0.5, 0.0]))


def test_boxes_in_region_equals_slices_also_outside_the_region():
    region = torch.rand(7, 9) < 0.5
    corners = torch.stack([torch.randint(-3, 13, (200, 2)), torch.randint(-3, 11, (200, 2))], -1).sort(1).values
    shares = boxes_in_region(corners.flatten(1) / torch.tensor([9, 7, 9, 7]), region)
    for share, ((x1, y1), (x2, y2)) in zip(shares, corners.clamp(min=0).tolist(), strict=True):
        pixels = region[y1:y2, x1:x2].float()
        torch.testing.assert_close(share, pixels.mean() if pixels.numel() else torch.tensor(0.0))
