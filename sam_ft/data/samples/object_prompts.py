"""Objects of an image with simulated first prompts: clicks, boxes and masks."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from datasets import Dataset as RowDataset

from ...ops.clicks import center_click, tight_box
from ...ops.prompts import PADDING_LABEL, ObjectPrompts
from ...options.augmentation import TransformOptions
from ...options.objects import ClickOptions
from .sample import ImageSample, place_instances
from .transforms import Geometry
from .views import EvaluationViews, TrainingViews


MASK_STRIDE = 4  # px of the canvas per cell of a mask prompt
FIRST, LAST = 2, 3  # point labels of the two corners of a box
_OFFICIAL_SIDE = 1024


@dataclass
class TrueObject:
    """
    Ground truth of one object.

    Attributes:
        instance (`int`): Index of the instance in the row.
        counts (`str`): `counts` of the compressed RLE of its mask, at the size of the image.
        phrases (`list[str]`): Phrases of the instance.
    """

    instance: int
    counts: str
    phrases: list[str]


@dataclass
class ObjectSample(ImageSample):
    """
    [`ImageSample`] with prompts of its objects.

    Attributes:
        prompts (`ObjectPrompts`, *optional*): One entry for each mask of the sample.
        box_prompts (`ObjectPrompts`, *optional*): Boxes of the same objects; evaluation only.
        truth (`list[TrueObject]`, *optional*): Ground truth, with objects that are too small for the canvas;
            evaluation only.
    """

    prompts: ObjectPrompts | None = None
    box_prompts: ObjectPrompts | None = None
    truth: list[TrueObject] | None = None


class ObjectSamples(TrainingViews):
    """
    Training samples with prompted objects instead of phrases, indexed by `(epoch, index)`.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        seed (`int`): Random seed.
        transforms (`TransformOptions`): Options of the transforms.
        clicks (`ClickOptions`): Options of the prompts.
    """

    def __init__(self, rows: RowDataset, *, seed: int, transforms: TransformOptions, clicks: ClickOptions):
        super().__init__(rows, seed=seed, transforms=transforms)
        self.clicks = clicks

    def _make_sample(self, row: dict, epoch: int, geometry: Geometry) -> ObjectSample:
        objects = objects_of(row)
        order = self._draws(row, epoch, "objects").permutation(len(objects))[: self.clicks.max_objects_per_image]
        chosen = [objects[i] for i in sorted(order)]
        sample = place_instances(row, chosen, geometry, with_masks=True, min_visible=self.transforms.min_visible)
        masks = cast(torch.Tensor, sample.masks).numpy()
        prompts = draw_prompts(masks, self._draws(row, epoch, "prompts"), self.clicks)
        return ObjectSample(**vars(sample), prompts=prompts)


class ObjectEvaluation(EvaluationViews):
    """
    Deterministic evaluation samples of all objects: a click at the centre of each, and its tight box.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        resolution (`int`): Side of the canvas, px.
    """

    def _make_sample(self, row: dict, geometry: Geometry) -> ObjectSample:
        sample = place_instances(row, objects_of(row), geometry, with_masks=True, min_visible=0.0)
        masks = cast(torch.Tensor, sample.masks).numpy()
        truth = [
            TrueObject(
                i, row["instances"][i]["segmentation"], [p["text"] for p in row["phrases"] if i in p["instances"]]
            )
            for i in objects_of(row)
        ]
        return ObjectSample(
            **vars(sample), prompts=center_prompts(masks), box_prompts=tight_box_prompts(masks), truth=truth
        )


def objects_of(row: dict) -> list[int]:
    """
    Return the indices of the instances that can be prompted: those with a mask that are no crowd regions.

    Args:
        row (`dict`): A row as in `row_schema.py`.
    """
    return [i for i, item in enumerate(row["instances"]) if item["segmentation"] is not None and not item["is_crowd"]]


def draw_prompts(masks: np.ndarray, rng: np.random.Generator, options: ClickOptions) -> ObjectPrompts:
    """
    Draw the first prompts of the objects of an image, and the random numbers of their corrective clicks.

    Args:
        masks (`np.ndarray` of shape `(N, R, R)`): Masks of the objects, bool, none of them empty.
        rng (`np.random.Generator`): Generator from [`keyed_draws`].
        options (`ClickOptions`): Options of the prompts.
    """
    number, side = len(masks), masks.shape[-1]
    with_box = {"point": False, "box": True, "mixed": rng.random() < options.box_probability}[options.prompt_type]
    inside = int(rng.integers(options.min_points, options.max_points + 1))
    outside = int(rng.integers(options.negative_points + 1))
    with_mask = rng.random() < options.mask_prompt_probability
    boxes = [_jitter_box(tight_box(mask), rng, side, options) for mask in masks]
    if with_box:
        points, labels = np.reshape(boxes, (number, 2, 2)), np.tile([FIRST, LAST], (number, 1))
    else:
        points = np.array([_clicks(mask, inside, outside, rng) for mask in masks]).reshape(number, inside + outside, 2)
        labels = np.tile([1] * inside + [0] * outside, (number, 1))
    mask_prompts = None
    if with_mask:
        stretched = [_stretch_mask(*pair, side // MASK_STRIDE) for pair in zip(masks, boxes, strict=True)]
        mask_prompts = torch.from_numpy(
            np.array(stretched, dtype=bool).reshape(number, side // MASK_STRIDE, side // MASK_STRIDE)
        )
    rounds = options.n_rounds - 1
    return ObjectPrompts(
        image=[0] * number,
        points=torch.from_numpy(points).float(),
        labels=torch.from_numpy(labels).long(),
        number=[points.shape[1]] * number,
        masks=mask_prompts,
        has_mask=[with_mask] * number,
        click_draws=torch.from_numpy(rng.random((number, rounds), dtype=np.float32)),
        click_from_truth=torch.from_numpy(rng.random((number, rounds)) < options.truth_click_probability),
    )


def center_prompts(masks: np.ndarray) -> ObjectPrompts:
    """
    Build the first clicks of an evaluation: the centre of each mask.

    Args:
        masks (`np.ndarray` of shape `(N, R, R)`): Masks of the objects, bool.
    """
    return _prompts(np.array([center_click(mask)[0] for mask in masks]).reshape(-1, 1, 2), [1])


def tight_box_prompts(masks: np.ndarray) -> ObjectPrompts:
    """
    Build the boxes of an evaluation: the tight box of each mask.

    Args:
        masks (`np.ndarray` of shape `(N, R, R)`): Masks of the objects, bool.
    """
    return _prompts(np.array([tight_box(mask) for mask in masks]).reshape(-1, 2, 2), [FIRST, LAST])


def _prompts(points: np.ndarray, kinds: list[int]) -> ObjectPrompts:
    number = len(points)
    labels = torch.tensor(kinds).expand(number, -1)
    return ObjectPrompts([0] * number, torch.from_numpy(points).float(), labels, [len(kinds)] * number)


def collate_prompts(prompts: list[ObjectPrompts]) -> ObjectPrompts:
    """
    Concatenate the prompts of several images; points are padded at the end.

    Args:
        prompts (`list[ObjectPrompts]`): Prompts of each image.
    """
    max_points = max([1, *(item.points.shape[1] for item in prompts)])

    def pad(values: torch.Tensor, value: int) -> torch.Tensor:
        padded = values.new_full((len(values), max_points, *values.shape[2:]), value)
        padded[:, : values.shape[1]] = values
        return padded

    side = next((item.masks.shape[-1] for item in prompts if item.masks is not None), None)
    masks = None
    if side is not None:
        zeros = (torch.zeros(len(item), side, side, dtype=torch.bool) for item in prompts)
        masks = torch.cat([z if item.masks is None else item.masks for item, z in zip(prompts, zeros, strict=True)])
    draws = [item.click_draws for item in prompts if item.click_draws is not None]
    from_truth = [item.click_from_truth for item in prompts if item.click_from_truth is not None]
    return ObjectPrompts(
        image=[i for i, item in enumerate(prompts) for _ in range(len(item))],
        points=torch.cat([pad(item.points, 0) for item in prompts]),
        labels=torch.cat([pad(item.labels, PADDING_LABEL) for item in prompts]),
        number=[n for item in prompts for n in item.number],
        masks=masks,
        has_mask=[bool(item.has_mask and item.has_mask[i]) for item in prompts for i in range(len(item))],
        click_draws=torch.cat(draws) if draws else None,
        click_from_truth=torch.cat(from_truth) if from_truth else None,
    )


def _clicks(mask: np.ndarray, inside: int, outside: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points `(n, 2)` in px: uniform in the mask, then uniform around it in the box of twice its sides."""
    foreground = np.argwhere(mask)
    chosen = foreground[rng.integers(len(foreground), size=inside)]
    if outside:
        x1, y1, x2, y2 = tight_box(mask)
        w, h = x2 - x1 + 1, y2 - y1 + 1
        top, left = max(int(y1 - h / 2), 0), max(int(x1 - w / 2), 0)
        window = np.s_[top : int(y2 + h / 2) + 1, left : int(x2 + w / 2) + 1]
        around = np.argwhere(~mask[window]) + [top, left]
        # A mask that fills the canvas has no background. The official code clicks on the corner then.
        around = around if len(around) else np.zeros((1, 2), dtype=np.int64)
        chosen = np.concatenate([chosen, around[rng.integers(len(around), size=outside)]])
    return chosen[:, ::-1].astype(np.float32)


def _jitter_box(box: list[float], rng: np.random.Generator, side: int, options: ClickOptions) -> list[float]:
    """
    Add uniform noise to each edge of a box `[x1, y1, x2, y2]`, clipped to the canvas.

    Source:
        Official `sam2_utils.py`, `sample_box_points`.
    """
    size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    max_shift = np.minimum(options.box_jitter * size, options.box_jitter_px * side / _OFFICIAL_SIDE)
    moved = np.clip(np.array(box) + rng.uniform(-1, 1, size=4) * max_shift, 0, side - 1)
    # Opposite edges can cross when the noise exceeds half of a side.
    return [*np.minimum(moved[:2], moved[2:]).tolist(), *np.maximum(moved[:2], moved[2:]).tolist()]


def _stretch_mask(mask: np.ndarray, box: list[float], cells: int) -> np.ndarray:
    """Resample a mask from its tight box to another box, on a grid of `cells` × `cells`."""
    x1, y1, x2, y2 = tight_box(mask)
    scale = mask.shape[0] / cells
    centres = (np.arange(cells) + 0.5) * scale - 0.5  # px
    xs, ys = (
        low + (centres - new_low) * (high - low + 1) / (new_high - new_low + 1)
        for low, high, new_low, new_high in ((x1, x2, box[0], box[2]), (y1, y2, box[1], box[3]))
    )
    side = mask.shape[0]
    drawn = mask[np.clip(ys.round(), 0, side - 1).astype(int)][:, np.clip(xs.round(), 0, side - 1).astype(int)]
    within = ((ys >= 0) & (ys <= side - 1))[:, None] & ((xs >= 0) & (xs <= side - 1))[None]
    return drawn & within
