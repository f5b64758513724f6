"""Rows to samples: what a training or evaluation step sees of one image, in the worker that loads it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import Dataset as RowDataset
from torch.utils.data import Dataset, Sampler

from ...ops.boxes import box_xyxy_to_cxcywh
from ..keyed_random import keyed_draws
from ..lazy_rows import order_of
from ..phrases.sampling import AskedPhrase, PhraseOptions, all_phrases, choose_phrases, choose_soft
from ..row_schema import to_rgb
from .canvas import draw_region, limit_masks, move_instance
from .feature_store import FeatureStore
from .transforms import Geometry, TransformOptions, draw_geometry, jitter_colors


GEOMETRY_TOKENS = ("always", "never", "mixed")


@dataclass
class PromptOptions:
    """
    Attributes:
        exemplar_probability (`float`): chance that a present phrase also gets one of its own instances as a box.
        geometry_token (`str`): whether a text-only pair sees the geometry encoder's CLS token: `always` (the official
            model), `never` (`Sam3Model`), `mixed` (drawn a pair, so that the tuned model is right in both).
    """

    exemplar_probability: float = 0.0
    geometry_token: str = "mixed"

    def __post_init__(self):
        if self.geometry_token not in GEOMETRY_TOKENS:
            raise ValueError(f"`geometry_token` is {self.geometry_token!r}; choose from {', '.join(GEOMETRY_TOKENS)}")
        if not 0 <= self.exemplar_probability <= 1:
            raise ValueError(f"`exemplar_probability` is {self.exemplar_probability}; it must lie between 0 and 1")


@dataclass
class SamplePhrase:
    """A phrase of a sample; indices refer to the sample's own lists."""

    text: str
    instances: list[int]
    ignore: list[int]
    exhaustive: bool
    geometry_token: bool
    exemplar_cxcywh: list[float] | None = None


@dataclass
class Sample:
    """
    One image as the collator takes it, on the model's canvas of side R.

    Attributes:
        example_id (`str`), original_size (`tuple[int, int]`): the row's, as `(height, width)`.
        image (`torch.Tensor` of shape `(3, R, R)` or `None`): uint8; `None` where features stand for it.
        boxes (`torch.Tensor` of shape `(N, 4)`): normalised `(cx, cy, w, h)`, from the masks where there are any.
        masks (`torch.Tensor` of shape `(N, R, R)` or `None`): bool; zeros where `has_mask` is false.
        has_mask (`list[bool]` of length N).
        ignore (`torch.Tensor` of shape `(C, R, R)` or `None`): bool, the crowd regions.
        phrases (`list[SamplePhrase]`).
        features (`torch.Tensor` or `None`): the frozen image encoder's answer to the image, from a cache.
        soft (`list[SamplePhrase]`): phrases without labels, which a teacher answers.
        instances (`list[int]` of length N): which of the row's each is.
    """

    example_id: str
    original_size: tuple[int, int]
    image: torch.Tensor | None
    boxes: torch.Tensor
    masks: torch.Tensor | None
    has_mask: list[bool]
    ignore: torch.Tensor | None
    phrases: list[SamplePhrase] = field(default_factory=list)
    features: torch.Tensor | None = None
    soft: list[SamplePhrase] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)


class TrainingSamples(Dataset):
    """
    Samples for training, indexed by `(epoch, index)` so that no worker needs to be told the epoch.

    Args:
        rows (`datasets.Dataset` or `SceneRows`): see `example.py`. Those drawn when asked for come in their order, and never
            twice.
        seed (`int`): of every draw, together with the epoch and the example.
        phrases (`PhraseOptions`), transforms (`TransformOptions`), prompts (`PromptOptions`).
        with_masks (`bool`): decode masks at all.
    """

    def __init__(
        self,
        rows: RowDataset,
        *,
        seed: int,
        phrases: PhraseOptions,
        transforms: TransformOptions,
        prompts: PromptOptions,
        with_masks: bool = True,
    ):
        self.rows, self.seed, self.with_masks = rows, seed, with_masks
        self.in_order = getattr(rows, "in_order", False)
        self.phrases, self.transforms, self.prompts = phrases, transforms, prompts
        self.store, self._rows = None, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        row = self._rows.row(epoch * len(self._rows) + index) if self.in_order else self._rows[index]
        view = epoch % self.store.views if self.store is not None else epoch
        geometry = self._geometry(row, view)
        sample = make_sample(row, self._ask(row, epoch), geometry, self.with_masks, self.transforms.min_visible)
        if self.store is None:
            sample.image = self._image(row, geometry, view)
        else:
            sample.features = self.store.read(row["example_id"], view)
        return self._finish(sample, row, epoch)

    def _ask(self, row: dict, epoch: int) -> list[AskedPhrase]:
        return choose_phrases(row, self._draws(row, epoch, "phrases"), self.phrases)

    def _finish(self, sample: Sample, row: dict, epoch: int) -> Sample:
        soft = choose_soft(row, self._draws(row, epoch, "soft"), self.phrases)
        sample.soft = [SamplePhrase(text, [], [], False, geometry_token=True) for text in soft]
        self._add_prompts(sample, self._draws(row, epoch, "prompts"), self.transforms.resolution)
        return sample

    def _draws(self, row: dict, epoch: int, purpose: str) -> np.random.Generator:
        return keyed_draws(self.seed, epoch, row["example_id"], purpose)

    def use(self, store: FeatureStore) -> None:
        """From now on no image is decoded: samples carry what the store has of them."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, view: int) -> torch.Tensor:
        """The canvas `(3, R, R)`, uint8, that epoch `view` sees of a row's image."""
        row = self.rows[index]
        return self._image(row, self._geometry(row, view), view)

    def describe_view(self, row: dict, view: int) -> str:
        """What a view is, as text: two that are described alike have the same pixels."""
        return f"{self._geometry(row, view)} {self.transforms.color_jitter} {self.seed}"

    def _geometry(self, row: dict, view: int) -> Geometry:
        draws = self._draws(row, view, "geometry")
        return draw_geometry(row["width"], row["height"], self._texts(row), draws, self.transforms)

    def _texts(self, row: dict) -> list[str]:
        """All that may be asked of a row."""
        return [
            text
            for phrase in row["phrases"]
            for text in (phrase["text"], *self.phrases.synonyms.get(phrase["text"], []))
        ]

    def _image(self, row: dict, geometry: Geometry, view: int) -> torch.Tensor:
        draws = self._draws(row, view, "color")
        return _on_canvas(jitter_colors(to_rgb(row["image"]), draws, self.transforms.color_jitter), geometry)

    def _add_prompts(self, sample: Sample, rng: np.random.Generator, side: int):
        for phrase in (*sample.phrases, *sample.soft):
            shown, exemplar, chosen = rng.random(), rng.random(), rng.random()
            noise = rng.normal(size=4)
            phrase.geometry_token = {"always": True, "never": False, "mixed": shown < 0.5}[self.prompts.geometry_token]
            if phrase.instances and exemplar < self.prompts.exemplar_probability:
                box = sample.boxes[phrase.instances[int(chosen * len(phrase.instances))]].numpy()
                phrase.exemplar_cxcywh = _noisy_box(box, noise, side)


class EvaluationSamples(Dataset):
    """Samples for evaluation: every phrase of the row, the whole image, nothing drawn."""

    def __init__(self, rows: RowDataset, *, resolution: int, geometry_token: bool, with_masks: bool = True):
        self.rows, self.resolution, self.with_masks = rows, resolution, with_masks
        self.geometry_token = geometry_token
        self.store, self._rows = None, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self._rows[index]
        geometry = self._geometry(row)
        sample = make_sample(row, self._ask(row), geometry, self.with_masks, 0.0, all_asked=True)
        if self.store is None:
            sample.image = _on_canvas(to_rgb(row["image"]), geometry)
        else:
            sample.features = self.store.read(row["example_id"], 0)
        return self._finish(sample, row)

    def _ask(self, row: dict) -> list[AskedPhrase]:
        return all_phrases(row)

    def _finish(self, sample: Sample, row: dict) -> Sample:
        for phrase in sample.phrases:
            phrase.geometry_token = self.geometry_token
        return sample

    def use(self, store: FeatureStore) -> None:
        """As [`TrainingSamples.use`]."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, view: int) -> torch.Tensor:
        """The canvas `(3, R, R)`, uint8; there is one view."""
        row = self.rows[index]
        return _on_canvas(to_rgb(row["image"]), self._geometry(row))

    def describe_view(self, row: dict, view: int) -> str:
        """As [`TrainingSamples.describe_view`]."""
        return str(self._geometry(row))

    def _geometry(self, row: dict) -> Geometry:
        return Geometry.whole(row["width"], row["height"], self.resolution)


class EpochSampler(Sampler):
    """
    Shuffles by (seed, epoch) and yields `(epoch, index)`.

    Args:
        rows: sized; the order of an epoch is their own where they have one, see [`order_of`]. seed (`int`): the run's.
        shuffle (`bool`): keep the rows' order where false.
    """

    def __init__(self, rows, seed: int, shuffle: bool = True):
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self):
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = order_of(self.rows, self.seed, epoch) if self.shuffle else range(len(self.rows))
        return iter([(epoch, int(i)) for i in order])


def _on_canvas(image, geometry: Geometry) -> torch.Tensor:
    return torch.from_numpy(geometry.image(image)).permute(2, 0, 1).contiguous()


def make_sample(
    row: dict,
    asked: list[AskedPhrase],
    geometry: Geometry,
    with_masks: bool,
    min_visible: float,
    *,
    all_asked: bool = False,
) -> Sample:
    """
    Moves the instances that an image's phrases refer to onto the canvas; the image itself is the caller's.

    An instance that vanishes (cropped away, or without a pixel at this size) leaves its phrase, which then is no longer
    exhaustive; a phrase that loses all of them is not asked, since it is neither present nor absent.

    Args:
        row (`dict`): see `example.py`; its image is not read.
        asked (`list[AskedPhrase]`), geometry (`Geometry`).
        with_masks (`bool`): decode masks; boxes alone otherwise.
        min_visible (`float`): share below which an instance counts as vanished.
        all_asked (`bool`): keep phrases that lost all their instances, as an evaluation does.

    Raises:
        `ValueError`: Names the row, where its masks would take more than `MAX_MASK_BYTES`.
    """
    canvas = geometry.canvas
    wanted = sorted({i for phrase in asked for i in phrase.instances})
    crowds = sorted({i for phrase in asked for i in phrase.crowds})
    limit_masks(row, (len(wanted) if with_masks else 0) + len(crowds), canvas)
    boxes, has_mask, place = [], [], {}
    # all at once: what no mask covers is never touched
    masks = np.zeros((len(wanted), canvas, canvas), dtype=bool) if with_masks else None
    for i in wanted:
        box, is_mask = move_instance(row, i, geometry, None if masks is None else masks[len(boxes)], min_visible)
        if box is None:
            continue
        place[i] = len(boxes)
        boxes.append(box)
        has_mask.append(is_mask and with_masks)
    regions, region_place = [], {}
    for i in crowds:
        region_place[i] = len(regions)
        regions.append(draw_region(row, i, geometry))
    sample = Sample(
        example_id=row["example_id"],
        original_size=(row["height"], row["width"]),
        image=None,
        boxes=box_xyxy_to_cxcywh(torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4)) / canvas),
        masks=None if masks is None else torch.from_numpy(masks[: len(boxes)]),
        has_mask=has_mask,
        ignore=torch.from_numpy(np.stack(regions)) if regions else None,
        instances=list(place),
    )
    for phrase in asked:
        kept = [place[i] for i in phrase.instances if i in place]
        lost = len(kept) < len(phrase.instances)
        if lost and not kept and not all_asked:
            continue
        ignored = [region_place[i] for i in phrase.crowds]
        sample.phrases.append(
            SamplePhrase(phrase.text, kept, ignored, phrase.exhaustive and not lost, geometry_token=True)
        )
    return sample


def _noisy_box(box_cxcywh: np.ndarray, noise: np.ndarray, side: int, spread: float = 0.1, limit_px: float = 20.0):
    """Official box noise (`RandomizeInputBbox`): each edge moves by a tenth of its side, by 20 px at most."""
    cx, cy, w, h = box_cxcywh
    size = np.array([w, h, w, h])
    shift = np.clip(noise * spread * size, -limit_px / side, limit_px / side)
    edges = np.clip(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) + shift, 0, 1)
    low, high = np.minimum(edges[:2], edges[2:]), np.maximum(edges[:2], edges[2:])
    return [float(v) for v in (*((low + high) / 2), *np.maximum(high - low, 1 / side))]
