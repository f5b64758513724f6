"""Data sets of samples with phrases for training and evaluation, built from rows in the data-loading worker."""

from collections.abc import Iterator

import numpy as np
from datasets import Dataset as RowDataset
from torch.utils.data import Sampler

from ...options.augmentation import TransformOptions
from ...options.phrases import PhraseOptions, PromptOptions
from ..lazy_rows import order_of
from ..phrases.sampling import all_phrases, choose_distill_phrases, choose_phrases
from .sample import Sample, SamplePhrase, make_sample
from .transforms import Geometry
from .views import EvaluationViews, TrainingViews


class TrainingSamples(TrainingViews):
    """
    Training samples with phrases, indexed by `(epoch, index)`.

    Args:
        rows (`datasets.Dataset` or `SceneRows`): As in [`TrainingViews`].
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
        super().__init__(rows, seed=seed, transforms=transforms)
        self.phrases, self.prompts, self.with_masks = phrases, prompts, with_masks

    def _make_sample(self, row: dict, epoch: int, geometry: Geometry) -> Sample:
        prompted = choose_phrases(row, self._draws(row, epoch, "phrases"), self.phrases)
        sample = make_sample(row, prompted, geometry, self.with_masks, self.transforms.min_visible)
        # The purpose "soft" is part of the seed: another name would draw other phrases.
        texts = choose_distill_phrases(row, self._draws(row, epoch, "soft"), self.phrases)
        sample.distill_phrases = [SamplePhrase(text, [], [], False, geometry_token=True) for text in texts]
        self._add_prompts(sample, self._draws(row, epoch, "prompts"), self.transforms.resolution)
        return sample

    def _texts(self, row: dict) -> list[str]:
        return [
            text
            for phrase in row["phrases"]
            for text in (phrase["text"], *self.phrases.synonyms.get(phrase["text"], []))
        ]

    def _add_prompts(self, sample: Sample, rng: np.random.Generator, side: int):
        for phrase in (*sample.phrases, *sample.distill_phrases):
            token, exemplar, chosen = rng.random(), rng.random(), rng.random()
            noise = rng.normal(size=4)
            phrase.geometry_token = {"always": True, "never": False, "mixed": token < 0.5}[self.prompts.geometry_token]
            if phrase.instances and exemplar < self.prompts.exemplar_probability:
                box = sample.boxes[phrase.instances[int(chosen * len(phrase.instances))]].numpy()
                phrase.exemplar_cxcywh = _add_box_noise(box, noise, side)


class EvaluationSamples(EvaluationViews):
    """
    Deterministic evaluation samples: every phrase of the row on the whole image.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        resolution (`int`): Side of the canvas, px.
        geometry_token (`bool`): Use the CLS token of the geometry encoder.
        with_masks (`bool`): Decode masks. Default: `True`.
    """

    def __init__(self, rows: RowDataset, *, resolution: int, geometry_token: bool, with_masks: bool = True):
        super().__init__(rows, resolution=resolution)
        self.geometry_token, self.with_masks = geometry_token, with_masks

    def _make_sample(self, row: dict, geometry: Geometry) -> Sample:
        sample = make_sample(row, all_phrases(row), geometry, self.with_masks, 0.0, with_all_phrases=True)
        for phrase in sample.phrases:
            phrase.geometry_token = self.geometry_token
        return sample


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


def _add_box_noise(box_cxcywh: np.ndarray, noise: np.ndarray, side: int, spread: float = 0.1, limit_px: float = 20.0):
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
