"""Objects of an image and their first prompts: clicks, boxes, masks, as a person would give them."""

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset as RowDataset

from ...ops.clicks import center_click, tight_box
from ...ops.prompts import PADDING, ObjectPrompts
from ..phrases.sampling import AskedPhrase, PhraseOptions
from .pipeline import EvaluationSamples, PromptOptions, Sample, TrainingSamples
from .transforms import TransformOptions


MASK_STRIDE = 4  # px of the canvas a side of a cell of a mask prompt
FIRST, LAST = 2, 3  # labels of a box's corners
_OFFICIAL_SIDE = 1024
_EVERYTHING = ""  # the objects' phrase, which nobody asks


@dataclass
class ClickOptions:
    """
    How the objects of an image are prompted. Form and number are drawn for each image (officially for each batch of all processes, from which
    accumulation and the number of processes could not be hidden).

    Attributes:
        prompt_type (`str`): `point`, `box`, or `mixed`: a box with `box_probability` (`float`), else clicks.
        min_points, max_points (`int`): first clicks in the object. negative_points (`int`): first clicks outside it at most.
        box_jitter (`float`), box_jitter_px (`float`): each edge moves by up to this share of its side, and this many px of 1024.
        mask_prompt_probability (`float`): a mask beside them, the object's own stretched into the jittered box.
        n_rounds (`int`): in all; those behind the first add one click where the mask is wrong, with `truth_click_probability` (`float`) anywhere in
            the object.
        max_objects_per_image (`int`): drawn anew each epoch where there are more.
    """

    prompt_type: str = "mixed"
    box_probability: float = 0.5
    min_points: int = 1
    max_points: int = 1
    negative_points: int = 0
    box_jitter: float = 0.1
    box_jitter_px: float = 20.0
    mask_prompt_probability: float = 0.0
    n_rounds: int = 3
    truth_click_probability: float = 0.1
    max_objects_per_image: int = 16

    def __post_init__(self):
        if self.prompt_type not in ("point", "box", "mixed"):
            raise ValueError(f"`prompt_type` is {self.prompt_type!r}; choose point, box or mixed")

    @property
    def shows_masks(self) -> bool:
        """Whether the decoder ever sees a mask prompt: only then can its part of the prompt encoder learn."""
        return self.n_rounds > 1 or self.mask_prompt_probability > 0


@dataclass
class TrueObject:
    """An object of a row: its instance, the `counts` of its mask at the image's size, and the phrases that name it."""

    instance: int
    counts: str
    phrases: list[str]


@dataclass
class ObjectSample(Sample):
    """
    [`Sample`] with one entry of `prompts` (`ObjectPrompts`) for each of its masks. Of evaluation: `box_prompts`, the same objects' boxes, and `truth
    (list[TrueObject])`, with those that are too small for the canvas.
    """

    prompts: ObjectPrompts | None = None
    box_prompts: ObjectPrompts | None = None
    truth: list[TrueObject] | None = None


class ObjectSamples(TrainingSamples):
    """
    Training samples of objects instead of phrases, indexed by `(epoch, index)`.

    Args:
        rows, seed, transforms: as in [`TrainingSamples`]. clicks (`ClickOptions`).
    """

    def __init__(self, rows: RowDataset, *, seed: int, transforms: TransformOptions, clicks: ClickOptions):
        super().__init__(rows, seed=seed, phrases=PhraseOptions(), transforms=transforms, prompts=PromptOptions())
        self.clicks = clicks

    def _ask(self, row: dict, epoch: int) -> list[AskedPhrase]:
        objects = objects_of(row)
        order = self._draws(row, epoch, "objects").permutation(len(objects))[: self.clicks.max_objects_per_image]
        return [AskedPhrase(_EVERYTHING, _EVERYTHING, [objects[i] for i in sorted(order)], [], True)]

    def _finish(self, sample: Sample, row: dict, epoch: int) -> ObjectSample:
        prompts = draw_prompts(sample.masks.numpy(), self._draws(row, epoch, "prompts"), self.clicks)
        return ObjectSample(**vars(sample), prompts=prompts)

    def _texts(self, row: dict) -> list[str]:
        return []  # no phrase forbids a flip


class ObjectEvaluation(EvaluationSamples):
    """Samples of all objects for evaluation, nothing drawn: a click at the centre of each, and its tight box. Arguments as in [`EvaluationSamples`]."""

    def __init__(self, rows: RowDataset, *, resolution: int):
        super().__init__(rows, resolution=resolution, geometry_token=False)

    def _ask(self, row: dict) -> list[AskedPhrase]:
        return [AskedPhrase(_EVERYTHING, _EVERYTHING, objects_of(row), [], True)]

    def _finish(self, sample: Sample, row: dict) -> ObjectSample:
        masks = sample.masks.numpy()
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
    """Indices of the instances that can be prompted: those with a mask, crowds apart."""
    return [i for i, one in enumerate(row["instances"]) if one["segmentation"] is not None and not one["is_crowd"]]


def draw_prompts(masks: np.ndarray, rng: np.random.Generator, options: ClickOptions) -> ObjectPrompts:
    """
    First prompts of an image's objects, and the draws of their corrective clicks.

    Args:
        masks (`np.ndarray` of shape `(N, R, R)`): bool, none of them empty. rng (`np.random.Generator`): of [`keyed_draws`].
        options (`ClickOptions`).
    """
    number, side = len(masks), masks.shape[-1]
    with_box = {"point": False, "box": True, "mixed": rng.random() < options.box_probability}[options.prompt_type]
    inside = int(rng.integers(options.min_points, options.max_points + 1))
    outside = int(rng.integers(options.negative_points + 1))
    with_mask = rng.random() < options.mask_prompt_probability
    boxes = [_jittered(tight_box(mask), rng, side, options) for mask in masks]
    if with_box:
        points, labels = np.reshape(boxes, (number, 2, 2)), np.tile([FIRST, LAST], (number, 1))
    else:
        points = np.array([_clicks(mask, inside, outside, rng) for mask in masks]).reshape(number, inside + outside, 2)
        labels = np.tile([1] * inside + [0] * outside, (number, 1))
    shown = None
    if with_mask:
        stretched = [_stretched(*pair, side // MASK_STRIDE) for pair in zip(masks, boxes, strict=True)]
        shown = torch.from_numpy(
            np.array(stretched, dtype=bool).reshape(number, side // MASK_STRIDE, side // MASK_STRIDE)
        )
    rounds = options.n_rounds - 1
    return ObjectPrompts(
        image=[0] * number,
        points=torch.from_numpy(points).float(),
        labels=torch.from_numpy(labels).long(),
        number=[points.shape[1]] * number,
        masks=shown,
        has_mask=[with_mask] * number,
        click_draws=torch.from_numpy(rng.random((number, rounds), dtype=np.float32)),
        click_from_truth=torch.from_numpy(rng.random((number, rounds)) < options.truth_click_probability),
    )


def center_prompts(masks: np.ndarray) -> ObjectPrompts:
    """An evaluation's first clicks: the centre of each mask of `(N, R, R)`."""
    return _prompts(np.array([center_click(mask)[0] for mask in masks]).reshape(-1, 1, 2), [1])


def tight_box_prompts(masks: np.ndarray) -> ObjectPrompts:
    """An evaluation's boxes: the tight one of each mask of `(N, R, R)`."""
    return _prompts(np.array([tight_box(mask) for mask in masks]).reshape(-1, 2, 2), [FIRST, LAST])


def _prompts(points: np.ndarray, kinds: list[int]) -> ObjectPrompts:
    number = len(points)
    labels = torch.tensor(kinds).expand(number, -1)
    return ObjectPrompts([0] * number, torch.from_numpy(points).float(), labels, [len(kinds)] * number)


def collate_prompts(prompts: list[ObjectPrompts]) -> ObjectPrompts:
    """The prompts of several images as one; points are padded at the end."""
    most = max([1, *(one.points.shape[1] for one in prompts)])

    def padded(values: torch.Tensor, by: int) -> torch.Tensor:
        filled = values.new_full((len(values), most, *values.shape[2:]), by)
        filled[:, : values.shape[1]] = values
        return filled

    side = next((one.masks.shape[-1] for one in prompts if one.masks is not None), None)
    masks = None
    if side is not None:
        empty = (torch.zeros(len(one), side, side, dtype=torch.bool) for one in prompts)
        masks = torch.cat([none if one.masks is None else one.masks for one, none in zip(prompts, empty, strict=True)])
    drawn = [one for one in prompts if one.click_draws is not None]
    return ObjectPrompts(
        image=[i for i, one in enumerate(prompts) for _ in range(len(one))],
        points=torch.cat([padded(one.points, 0) for one in prompts]),
        labels=torch.cat([padded(one.labels, PADDING) for one in prompts]),
        number=[n for one in prompts for n in one.number],
        masks=masks,
        has_mask=[bool(one.has_mask and one.has_mask[i]) for one in prompts for i in range(len(one))],
        click_draws=torch.cat([one.click_draws for one in drawn]) if drawn else None,
        click_from_truth=torch.cat([one.click_from_truth for one in drawn]) if drawn else None,
    )


def _clicks(mask: np.ndarray, inside: int, outside: int, rng: np.random.Generator) -> np.ndarray:
    """Points `(n, 2)` in px: uniform in the mask, then uniform around it, in its box grown to twice its sides."""
    here = np.argwhere(mask)
    chosen = here[rng.integers(len(here), size=inside)]
    if outside:
        x1, y1, x2, y2 = tight_box(mask)
        w, h = x2 - x1 + 1, y2 - y1 + 1
        top, left = max(int(y1 - h / 2), 0), max(int(x1 - w / 2), 0)
        window = np.s_[top : int(y2 + h / 2) + 1, left : int(x2 + w / 2) + 1]
        around = np.argwhere(~mask[window]) + [top, left]
        # what fills the whole canvas has no outside: the corner, as officially
        around = around if len(around) else np.zeros((1, 2), dtype=np.int64)
        chosen = np.concatenate([chosen, around[rng.integers(len(around), size=outside)]])
    return chosen[:, ::-1].astype(np.float32)


def _jittered(box: list[float], rng: np.random.Generator, side: int, options: ClickOptions) -> list[float]:
    """A box `[x1, y1, x2, y2]` with noise on each edge (`sam2_utils.py`, `sample_box_points`), inside the canvas."""
    size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    most = np.minimum(options.box_jitter * size, options.box_jitter_px * side / _OFFICIAL_SIDE)
    moved = np.clip(np.array(box) + rng.uniform(-1, 1, size=4) * most, 0, side - 1)
    # where more than half of a side is noise, edges may pass each other
    return [*np.minimum(moved[:2], moved[2:]).tolist(), *np.maximum(moved[:2], moved[2:]).tolist()]


def _stretched(mask: np.ndarray, box: list[float], cells: int) -> np.ndarray:
    """The part of a mask in its own tight box, drawn into another one, on a grid of `cells` a side."""
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
