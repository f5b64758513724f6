"""Base classes of the data sets of samples: views of the images of rows on the canvas, or their cached features."""

import numpy as np
import torch
from datasets import Dataset as RowDataset
from datasets import Image
from torch.utils.data import Dataset

from ...options.augmentation import TransformOptions
from ..keyed_random import keyed_draws
from ..row_schema import open_image_value, to_rgb
from .feature_store import FeatureStore
from .sample import ImageSample
from .transforms import Geometry, draw_geometry, jitter_colors


class TrainingViews(Dataset):
    """
    Base class of training samples, indexed by `(epoch, index)` so that workers need no epoch state.

    A subclass implements `_make_sample`, and `_texts` if it has phrases.

    Args:
        rows (`datasets.Dataset` or `SceneRows`): Rows as in `row_schema.py`. Generated rows are read in order
            and never repeat.
        seed (`int`): Random seed.
        transforms (`TransformOptions`): Options of the transforms.
    """

    def __init__(self, rows: RowDataset, *, seed: int, transforms: TransformOptions):
        self.rows, self.seed, self.transforms = rows, seed, transforms
        self.in_order = getattr(rows, "in_order", False)
        # With `draft_decoding`, rows are read without decoding their images, because the geometry sets the size.
        self._with_drafts = transforms.draft_decoding and isinstance(rows, RowDataset)
        self._image_rows = rows.cast_column("image", Image(decode=False)) if self._with_drafts else rows
        self.store: FeatureStore | None = None
        self._rows = self._image_rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> ImageSample:
        epoch, index = key
        row = self._rows.row(epoch * len(self._rows) + index) if self.in_order else self._rows[index]
        view = epoch % self.store.views if self.store is not None else epoch
        geometry = self._geometry(row, view)
        sample = self._make_sample(row, epoch, geometry)
        if self.store is None:
            sample.image = self._image(row, geometry, view)
        else:
            sample.features = self.store.read(row["example_id"], view)
        return sample

    def _make_sample(self, row: dict, epoch: int, geometry: Geometry) -> ImageSample:
        """Build the sample of a row without its image."""
        raise NotImplementedError

    def _texts(self, _row: dict) -> list[str]:
        """Return all texts that may be sampled for a row; directions in them prevent a flip."""
        return []

    def _draws(self, row: dict, epoch: int, purpose: str) -> np.random.Generator:
        return keyed_draws(self.seed, epoch, row["example_id"], purpose)

    def use(self, store: FeatureStore) -> None:
        """Read cached features of all views instead of decoding images."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, view: int) -> torch.Tensor:
        """Compute the canvas `(3, R, R)`, uint8, of the image of row `index` in epoch `view`."""
        row = self._image_rows[index]
        return self._image(row, self._geometry(row, view), view)

    def describe_view(self, row: dict, view: int) -> str:
        """Describe a view by its random parameters: views with the same description have the same pixels."""
        suffix = " draft" if self._with_drafts else ""
        return f"{self._geometry(row, view)} {self.transforms.color_jitter} {self.seed}{suffix}"

    def _geometry(self, row: dict, view: int) -> Geometry:
        draws = self._draws(row, view, "geometry")
        return draw_geometry(row["width"], row["height"], self._texts(row), draws, self.transforms)

    def _image(self, row: dict, geometry: Geometry, view: int) -> torch.Tensor:
        draws, image, reduction = self._draws(row, view, "color"), row["image"], 1
        if self._with_drafts:
            image = open_image_value(image, geometry.reduction)
            reduction = round(row["width"] / image.width)
        return _on_canvas(jitter_colors(to_rgb(image), draws, self.transforms.color_jitter), geometry, reduction)


class EvaluationViews(Dataset):
    """
    Base class of deterministic evaluation samples: the whole image of each row. A subclass implements `_make_sample`.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        resolution (`int`): Side of the canvas, px.
    """

    def __init__(self, rows: RowDataset, *, resolution: int):
        self.rows, self.resolution = rows, resolution
        self.store: FeatureStore | None = None
        self._rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index: int) -> ImageSample:
        row = self._rows[index]
        geometry = self._geometry(row)
        sample = self._make_sample(row, geometry)
        if self.store is None:
            sample.image = _on_canvas(to_rgb(row["image"]), geometry)
        else:
            sample.features = self.store.read(row["example_id"], 0)
        return sample

    def _make_sample(self, row: dict, geometry: Geometry) -> ImageSample:
        """Build the sample of a row without its image."""
        raise NotImplementedError

    def use(self, store: FeatureStore) -> None:
        """Read cached features instead of decoding images."""
        self.store, self._rows = store, self.rows.remove_columns("image")

    def view(self, index: int, _view: int) -> torch.Tensor:
        """Compute the canvas `(3, R, R)`, uint8, of the image of row `index`; there is one view."""
        row = self.rows[index]
        return _on_canvas(to_rgb(row["image"]), self._geometry(row))

    def describe_view(self, row: dict, _view: int) -> str:
        """Describe the view of an image: views with the same description have the same pixels."""
        return str(self._geometry(row))

    def _geometry(self, row: dict) -> Geometry:
        return Geometry.whole(row["width"], row["height"], self.resolution)


def _on_canvas(image, geometry: Geometry, reduction: int = 1) -> torch.Tensor:
    return torch.from_numpy(geometry.image(image, reduction))
