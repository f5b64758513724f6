"""Rows to samples: inputs and targets of one image, built in the data-loading worker."""

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
    Options of the geometric prompts of phrases.

    Attributes:
        exemplar_probability (`float`): Probability that a present phrase also gets one of its instances as an exemplar
            box.
        geometry_token (`str`): Use of the CLS token of the geometry encoder for text-only pairs. `always`: as in the
            official model; `never`: as in `Sam3Model`; `mixed`: drawn for each pair, for both.
    """

    exemplar_probability: float = 0.0
    geometry_token: str = "mixed"

    def __post_init__(self):
        if self.geometry_token not in GEOMETRY_TOKENS:
            raise ValueError(f"`geometry_token` is {self.geometry_token!r}; choose from {', '.join(GEOMETRY_TOKENS)}")
        if not 0 <= self.exemplar_probability <= 1:
            raise ValueError(f"`exemplar_probability` is {self.exemplar_probability}; it must be between 0 and 1")


@dataclass
class SamplePhrase:
    """Phrase of a sample; `instances` are indices into its boxes, `ignore` into its crowd regions."""

    text: str
    instances: list[int]
    ignore: list[int]
    exhaustive: bool
    geometry_token: bool
    exemplar_cxcywh: list[float] | None = None


@dataclass
class Sample:
    """
    Inputs and targets of one image, on the canvas of side R.

    Attributes:
        example_id (`str`): Identifier of the row.
        original_size (`tuple[int, int]`): Height and width of the image, px.
        image (`torch.Tensor` of shape `(3, R, R)` or `None`): Pixels, uint8; `None` if `features` replaces them.
        boxes (`torch.Tensor` of shape `(N, 4)`): Normalised `(cx, cy, w, h)`, of the masks if there are any.
        masks (`torch.Tensor` of shape `(N, R, R)` or `None`): Masks, bool; zeros where `has_mask` is false.
        has_mask (`list[bool]` of length N): Whether each instance has a mask.
        ignore (`torch.Tensor` of shape `(C, R, R)` or `None`): Crowd regions, bool.
        phrases (`list[SamplePhrase]`): Labelled phrases.
        features (`torch.Tensor` or `None`): Cached features of the frozen image encoder.
        soft (`list[SamplePhrase]`): Phrases without labels, for which the teacher of a distillation predicts targets.
        instances (`list[int]` of length N): Index of each instance in the row.
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
    Training samples, indexed by `(epoch, index)` so that workers need no epoch state.

    Args:
        rows (`datasets.Dataset` or `SceneRows`): Rows as in `row_schema.py`. Generated rows are read in order
            and never repeat.
        seed (`int`): Random seed.
        phrases (`PhraseOptions`): Options of phrase sampling.
        transforms (`TransformOptions`): Options of the transforms.
        prompts (`PromptOptions`): Options of the geometric prompts.
        with_masks (`bool`): Decode masks. Default: `True`.
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
        sample = make_sample(
            row, self._choose_phrases(row, epoch), geometry, self.with_masks, self.transforms.min_visible
        )
        if self.store is None:
            sample.image = self._image(row, geometry, view)
        else:
            sample.features = self.store.read(row["example_id"], view)
        return self._finish(sample, row, epoch)

    def _choose_phrases(self, row: dict, epoch: int) -> list[AskedPhrase]:
        return choose_phrases(row, self._draws(row, epoch, "phrases"), self.phrases)

    def _finish(self, sample: Sample, row: dict, epoch: int) -> Sample:
        soft = choose_soft(row, self._draws(row, epoch, "soft"), self.phrases)
        sample.soft = [SamplePhrase(text, [], [], False, geometry_token=True) for text in soft]
        self._add_prompts(sample, self._draws(row, epoch, "prompts"), self.transforms.resolution)
        return sample

    def _draws(self, row: dict, epoch: int, purpose: str) -> np.random.Generator:
        return keyed_draws(self.seed, epoch, row["example_id"], purpose)

    def use(self, store: FeatureStore) -> None:
        """Read cached features of all views instead of decoding images."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, view: int) -> torch.Tensor:
        """Compute the canvas `(3, R, R)`, uint8, of the image of row `index` in epoch `view`."""
        row = self.rows[index]
        return self._image(row, self._geometry(row, view), view)

    def describe_view(self, row: dict, view: int) -> str:
        """Describe a view by its random parameters: views with the same description have the same pixels."""
        return f"{self._geometry(row, view)} {self.transforms.color_jitter} {self.seed}"

    def _geometry(self, row: dict, view: int) -> Geometry:
        draws = self._draws(row, view, "geometry")
        return draw_geometry(row["width"], row["height"], self._texts(row), draws, self.transforms)

    def _texts(self, row: dict) -> list[str]:
        """Return all texts that may be sampled for a row."""
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
            token, exemplar, chosen = rng.random(), rng.random(), rng.random()
            noise = rng.normal(size=4)
            phrase.geometry_token = {"always": True, "never": False, "mixed": token < 0.5}[self.prompts.geometry_token]
            if phrase.instances and exemplar < self.prompts.exemplar_probability:
                box = sample.boxes[phrase.instances[int(chosen * len(phrase.instances))]].numpy()
                phrase.exemplar_cxcywh = _noisy_box(box, noise, side)


class EvaluationSamples(Dataset):
    """
    Deterministic evaluation samples: every phrase of the row on the whole image.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        resolution (`int`): Side of the canvas, px.
        geometry_token (`bool`): Use the CLS token of the geometry encoder.
        with_masks (`bool`): Decode masks. Default: `True`.
    """

    def __init__(self, rows: RowDataset, *, resolution: int, geometry_token: bool, with_masks: bool = True):
        self.rows, self.resolution, self.with_masks = rows, resolution, with_masks
        self.geometry_token = geometry_token
        self.store, self._rows = None, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self._rows[index]
        geometry = self._geometry(row)
        sample = make_sample(row, self._choose_phrases(row), geometry, self.with_masks, 0.0, with_all_phrases=True)
        if self.store is None:
            sample.image = _on_canvas(to_rgb(row["image"]), geometry)
        else:
            sample.features = self.store.read(row["example_id"], 0)
        return self._finish(sample, row)

    def _choose_phrases(self, row: dict) -> list[AskedPhrase]:
        return all_phrases(row)

    def _finish(self, sample: Sample, row: dict) -> Sample:
        for phrase in sample.phrases:
            phrase.geometry_token = self.geometry_token
        return sample

    def use(self, store: FeatureStore) -> None:
        """Read cached features instead of decoding images."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, view: int) -> torch.Tensor:
        """Compute the canvas `(3, R, R)`, uint8, of the image of row `index`; there is one view."""
        row = self.rows[index]
        return _on_canvas(to_rgb(row["image"]), self._geometry(row))

    def describe_view(self, row: dict, view: int) -> str:
        """Describe the view of an image: views with the same description have the same pixels."""
        return str(self._geometry(row))

    def _geometry(self, row: dict) -> Geometry:
        return Geometry.whole(row["width"], row["height"], self.resolution)


class EpochSampler(Sampler):
    """
    Sampler of `(epoch, index)` with an order that depends on the seed and the epoch alone.

    Args:
        rows (`Sized`): Rows, which may define the order of an epoch, see [`order_of`].
        seed (`int`): Random seed.
        shuffle (`bool`): Shuffle the rows. Default: `True`.
    """

    def __init__(self, rows, seed: int, shuffle: bool = True):
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
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
    prompted: list[AskedPhrase],
    geometry: Geometry,
    with_masks: bool,
    min_visible: float,
    *,
    with_all_phrases: bool = False,
) -> Sample:
    """
    Build a sample without its image: move the instances of the prompted phrases onto the canvas.

    An instance that vanishes (cropped away, or smaller than a pixel) is removed from its phrase, which is then no
    longer exhaustive. A phrase without a visible instance is dropped because it is neither present nor absent.

    Args:
        row (`dict`): A row as in `row_schema.py`; its image is not read.
        prompted (`list[AskedPhrase]`): Phrases of the sample.
        geometry (`Geometry`): Map from the image to the canvas.
        with_masks (`bool`): Decode masks; otherwise the sample has boxes alone.
        min_visible (`float`): Visible share below which an instance counts as vanished.
        with_all_phrases (`bool`): Keep phrases without a visible instance, for evaluation. Default: `False`.

    Raises:
        `ValueError`: If the masks of the row would take more than `MAX_MASK_BYTES`.
    """
    canvas = geometry.canvas
    objects = sorted({i for phrase in prompted for i in phrase.instances})
    crowds = sorted({i for phrase in prompted for i in phrase.crowds})
    limit_masks(row, (len(objects) if with_masks else 0) + len(crowds), canvas)
    boxes, has_mask, object_index = [], [], {}
    # One allocation of zeros: memory pages that no mask covers are never touched.
    masks = np.zeros((len(objects), canvas, canvas), dtype=bool) if with_masks else None
    for i in objects:
        box, is_mask = move_instance(row, i, geometry, None if masks is None else masks[len(boxes)], min_visible)
        if box is None:
            continue
        object_index[i] = len(boxes)
        boxes.append(box)
        has_mask.append(is_mask and with_masks)
    regions, region_index = [], {}
    for i in crowds:
        region_index[i] = len(regions)
        regions.append(draw_region(row, i, geometry))
    sample = Sample(
        example_id=row["example_id"],
        original_size=(row["height"], row["width"]),
        image=None,
        boxes=box_xyxy_to_cxcywh(torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4)) / canvas),
        masks=None if masks is None else torch.from_numpy(masks[: len(boxes)]),
        has_mask=has_mask,
        ignore=torch.from_numpy(np.stack(regions)) if regions else None,
        instances=list(object_index),
    )
    for phrase in prompted:
        visible = [object_index[i] for i in phrase.instances if i in object_index]
        is_complete = len(visible) == len(phrase.instances)
        if not is_complete and not visible and not with_all_phrases:
            continue
        ignored = [region_index[i] for i in phrase.crowds]
        sample.phrases.append(
            SamplePhrase(phrase.text, visible, ignored, phrase.exhaustive and is_complete, geometry_token=True)
        )
    return sample


def _noisy_box(box_cxcywh: np.ndarray, noise: np.ndarray, side: int, spread: float = 0.1, limit_px: float = 20.0):
    """
    Add noise to a box: each edge moves with a standard deviation of a tenth of its side, by at most 20 px.

    Source:
        Official `RandomizeInputBbox`.
    """
    cx, cy, w, h = box_cxcywh
    size = np.array([w, h, w, h])
    shift = np.clip(noise * spread * size, -limit_px / side, limit_px / side)
    edges = np.clip(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) + shift, 0, 1)
    low, high = np.minimum(edges[:2], edges[2:]), np.maximum(edges[:2], edges[2:])
    return [float(v) for v in (*((low + high) / 2), *np.maximum(high - low, 1 / side))]
