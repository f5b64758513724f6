"""First prompts of objects: positions, random seeds, and collation of prompts of different lengths."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.row_schema import to_dataset
from sam_ft.data.samples.collators import Sam2Collator
from sam_ft.data.samples.object_prompts import (
    ObjectEvaluation,
    ObjectSamples,
    center_prompts,
    collate_prompts,
    draw_prompts,
    objects_of,
)
from sam_ft.ops.masks import encode_mask
from sam_ft.options.augmentation import TransformOptions
from sam_ft.options.objects import ClickOptions


SIDE = 64


def disc(cx, cy, radius, side=SIDE):
    y, x = np.mgrid[:side, :side]
    return (x - cx) ** 2 + (y - cy) ** 2 <= radius**2


MASKS = np.stack([disc(20, 20, 9), disc(45, 40, 12), disc(50, 8, 4)])


def row(name, masks, crowd=(), boxes=()):
    instances = [
        {"bbox": [1, 1, 5, 5], "segmentation": encode_mask(mask), "area": float(mask.sum()), "is_crowd": i in crowd}
        for i, mask in enumerate(masks)
    ]
    instances += [{"bbox": box, "segmentation": None, "area": 9.0, "is_crowd": False} for box in boxes]
    phrases = [{"text": "disc", "instances": list(range(len(instances))), "exhaustive": True}]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
    return {
        "example_id": name,
        "image": image,
        "width": SIDE,
        "height": SIDE,
        "instances": instances,
        "phrases": phrases,
    }


def draw(seed=0, **options):
    return draw_prompts(MASKS, np.random.default_rng(seed), ClickOptions(**options))


def test_points_lie_in_their_mask_and_outside_near_it():
    many = [draw(seed, prompt_type="point", min_points=1, max_points=5, negative_points=3) for seed in range(40)]
    inside = {int((prompts.labels[0] == 1).sum()) for prompts in many}
    assert inside == {1, 2, 3, 4, 5}
    assert {int((prompts.labels[0] == 0).sum()) for prompts in many} == {0, 1, 2, 3}
    for prompts in many:
        for mask, points, labels in zip(MASKS, prompts.points.long(), prompts.labels, strict=True):
            assert (mask[points[:, 1], points[:, 0]] == labels.numpy().astype(bool)).all()
            ys, xs = np.nonzero(mask)
            # the box grown to twice its sides
            reach = np.array([np.ptp(xs) + 1, np.ptp(ys) + 1])
            centre = np.array([xs.mean(), ys.mean()])
            assert (np.abs(points.numpy() - centre) <= reach + 1).all()


def test_points_of_a_mask_that_fills_the_canvas():
    full = np.ones((1, SIDE, SIDE), dtype=bool)
    prompts = draw_prompts(full, np.random.default_rng(1), ClickOptions(prompt_type="point", negative_points=1))
    assert prompts.points[prompts.labels == 0].tolist() in ([], [[0, 0]])


def test_boxes_are_tight_and_jittered_by_a_tenth():
    exact = draw(prompt_type="box", box_jitter=0.0)
    assert exact.points[0].tolist() == [[11, 11], [29, 29]]
    assert exact.labels.tolist() == [[2, 3]] * 3
    noisy = torch.stack([draw(seed, prompt_type="box").points for seed in range(200)])
    shift = (noisy - exact.points).abs().amax(0)
    sides = (exact.points[:, 1] - exact.points[:, 0])[:, None]
    # the limit of 20 px of 1024 is 1.25 px here
    limit = torch.minimum(0.1 * sides, torch.tensor(1.25)).expand_as(shift)
    assert (shift <= limit + 1e-5).all()
    assert (shift >= 0.8 * limit).all(), "200 draws reach 80 % of the limit"
    assert (noisy >= 0).all()
    assert (noisy <= SIDE - 1).all()


def test_boxes_with_large_noise_have_ordered_corners():
    for seed in range(50):
        points = draw(seed, prompt_type="box", box_jitter=1.0, box_jitter_px=1e6, mask_prompt_probability=1.0).points
        assert (points[:, 0] <= points[:, 1]).all()


def test_mixed_draws_boxes_for_their_share_of_images():
    boxes = sum(draw(seed, box_probability=0.3).labels[0, 0].item() == 2 for seed in range(400))
    assert pytest.approx(boxes, abs=30) == 0.3 * 400  # three standard deviations


def test_a_mask_prompt_is_the_mask_moved_into_its_jittered_box():
    prompts = draw(mask_prompt_probability=1.0, box_jitter=0.0)
    assert prompts.has_mask == [True] * 3
    assert prompts.masks.shape == (3, SIDE // 4, SIDE // 4)
    for mask, prompt in zip(MASKS[:2], prompts.masks[:2].numpy(), strict=True):
        small = mask[2::4, 2::4]  # the middle of each cell
        assert (small & prompt).sum() / (small | prompt).sum() > 0.8
    assert draw(mask_prompt_probability=0.0).masks is None


def test_draws_depend_on_seed_epoch_and_example_alone():
    rows = to_dataset([row(f"image-{i}", MASKS) for i in range(3)])

    def samples(seed=1):
        return ObjectSamples(
            rows, seed=seed, transforms=TransformOptions(SIDE, "plain"), clicks=ClickOptions(max_objects_per_image=2)
        )

    first, again = samples(), samples()
    assert torch.equal(first[(0, 1)].prompts.points, again[(0, 1)].prompts.points)
    assert torch.equal(first[(0, 1)].prompts.click_draws, again[(0, 1)].prompts.click_draws)
    assert any(
        not torch.equal(first[(e, 1)].prompts.click_draws, first[(0, 1)].prompts.click_draws) for e in range(1, 3)
    )
    assert not torch.equal(samples(2)[(0, 1)].prompts.click_draws, first[(0, 1)].prompts.click_draws)


def test_objects_are_capped_and_drawn_anew_each_epoch():
    rows = to_dataset([row("image", MASKS)])
    samples = ObjectSamples(
        rows, seed=0, transforms=TransformOptions(SIDE, "plain"), clicks=ClickOptions(max_objects_per_image=2)
    )
    chosen = {tuple(samples[(epoch, 0)].instances) for epoch in range(20)}
    assert chosen == {(0, 1), (0, 2), (1, 2)}


def test_boxes_without_masks_and_crowds_are_no_objects():
    example = row("image", MASKS, crowd={1}, boxes=[[3, 3, 4, 4]])
    assert objects_of(example) == [0, 2]


def test_an_image_without_objects_is_an_empty_sample():
    rows = to_dataset([row("image", [], boxes=[[3, 3, 4, 4]]), row("other", MASKS)])
    samples = ObjectSamples(rows, seed=0, transforms=TransformOptions(SIDE, "plain"), clicks=ClickOptions())
    batch = Sam2Collator()([samples[(0, 0)], samples[(0, 1)]])
    assert batch["prompts"].image == [1, 1, 1]
    assert [len(label["masks"]) for label in batch["labels"]] == [0, 3]
    assert len(Sam2Collator()([samples[(0, 0)]])["prompts"]) == 0


def test_evaluation_prompts_are_centres_and_tight_boxes_and_truth_has_vanished_objects():
    speck = np.zeros((SIDE, SIDE), dtype=bool)
    speck[1, 1] = True
    rows = to_dataset([row("image", [*MASKS, speck])])
    sample = ObjectEvaluation(rows, resolution=SIDE // 4)[0]
    assert sample.instances == [0, 1, 2]
    assert [truth.instance for truth in sample.truth] == [0, 1, 2, 3]
    assert sample.truth[0].phrases == ["disc"]
    for mask, point in zip(sample.masks.numpy(), sample.prompts.points[:, 0].long(), strict=True):
        assert mask[point[1], point[0]]
    assert sample.box_prompts.labels.tolist() == [[2, 3]] * 3


def test_prompts_of_different_lengths_are_padded_in_the_batch_alone():
    point, box = center_prompts(MASKS), draw(prompt_type="box", mask_prompt_probability=1.0, n_rounds=1)
    prompts = collate_prompts([point, box, center_prompts(MASKS[:1])])
    assert prompts.image == [0, 0, 0, 1, 1, 1, 2]
    assert prompts.points.shape == (7, 2, 2)
    assert prompts.labels[0].tolist() == [1, -10]
    chunks = prompts.chunks(2)
    assert chunks == [[0, 1], [2, 6], [3, 4], [5]]
    for chunk in chunks:
        images, points, labels, masks = prompts.of(chunk)
        assert images.tolist() == [prompts.image[i] for i in chunk]
        assert (labels != -10).all()
        assert points.shape[1] == prompts.number[chunk[0]]
        assert (masks is not None) == (prompts.image[chunk[0]] == 1)
