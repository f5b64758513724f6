"""Committee of a label review: predictions of the unlabelled images by its fold models, and features of all images."""

import dataclasses
import gc
import logging
import os
import shutil
from collections.abc import Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from ..data.image_entries import ImageEntry
from ..data.samples.feature_store import FeatureStore, fingerprint_of
from ..data.samples.pipeline import EvaluationSamples
from ..inference.batch_prediction import run_job
from ..inference.image_list import ImageList
from ..inference.prediction_job import PredictionJob
from ..inference.prediction_records import PredictionRecords, open_records
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.tiling import ImageViews
from ..inference.weights_fingerprint import compute_weights_fingerprint
from ..metrics.label_overlap import LOWEST_SCORE
from ..metrics.thresholds import FILE as THRESHOLDS
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.model_files import find_saved_file
from ..models.unwrapping import unwrap_sam
from ..options.prediction import PredictOptions
from ..training.feature_cache import STORED_DTYPE
from ..utils.console import progress_bar
from ..utils.json_files import read_json_file, write_json
from ..utils.text import list_some
from .key_conversion import to_model_options
from .review_data import ReviewData
from .review_folds import UNTRAINED, FoldRuns, list_fold_models


logger = logging.getLogger("sam_ft.run")

UNLABELLED_FOLDER = "unlabelled"
_UNREADABLE = "unreadable.json"


@dataclasses.dataclass
class CommitteeMember:
    """
    Model of a committee.

    Attributes:
        name (`str`): Name of its folder.
        loading (`ModelOptions`): Options that load it.
        device (`torch.device`): Its device.
    """

    name: str
    loading: object
    device: torch.device

    def load(self) -> Sam3Predictor:
        """Load the model; low scores count for the selection."""
        return Sam3Predictor.load(
            self.loading, options=PredictOptions(score_threshold=LOWEST_SCORE), device=self.device
        )

    def read_thresholds(self) -> Thresholds:
        """Return the score thresholds that are saved with the model."""
        file = find_saved_file(self.loading.model_name_or_path, THRESHOLDS, self.loading.revision)
        return (file and read_thresholds(file.parent)) or Thresholds()

    def fingerprint(self) -> str:
        """Return a fingerprint of the weights."""
        return compute_weights_fingerprint(self.loading.model_name_or_path, self.loading.revision)


def list_committee(runs: FoldRuns, data: ReviewData) -> list[CommitteeMember]:
    """
    List the models of a review: those of the folds, or the model as it is without them.

    Args:
        runs (`FoldRuns`): Keys of the runs.
        data (`ReviewData`): Data of the review.
    """
    loading, device = to_model_options(runs.model, seed=0), runs.build(None).training.device
    if data.folds is None:
        return [CommitteeMember(UNTRAINED, loading, device)]
    return [
        CommitteeMember(
            folder.name,
            dataclasses.replace(loading, model_name_or_path=str(folder), revision=None, concepts=[]),
            device,
        )
        for folder in list_fold_models(runs.folder, data.folds.num_folds)
    ]


class Committee:
    """
    Models of a review with their predictions and features of the unlabelled images, from which a later call continues.

    With a frozen image encoder, which all models have in common, an image is encoded once: its ViT features are stored
    until all models have predicted it. Without a common encoder or enough space, each model encodes the images.

    Args:
        runs (`FoldRuns`): Keys of the runs, whose folds are complete.
        data (`ReviewData`): Labelled images.

    Attributes:
        members (`list[CommitteeMember]`): The models.
    """

    def __init__(self, runs: FoldRuns, data: ReviewData):
        self.data, self.members = data, list_committee(runs, data)
        self._workers = runs.build(None).training.dataloader_num_workers
        self.folder, weights = runs.folder / UNLABELLED_FOLDER, {"weights": self.members[0].fingerprint()}
        self._pooled = FeatureStore(self.folder / "pooled", weights)
        self._features = FeatureStore(self.folder / "features", weights)
        self._labelled = None if runs.feature_cache is None else FeatureStore.find(f"{runs.feature_cache}/validation")
        self._is_stored = runs.feature_cache is not None or len(self.members) == 1
        self._encoder: Sam3Predictor | None = None
        file = self.folder / _UNREADABLE
        self._problems: dict[str, str] = read_json_file(file, "review_dir") if file.is_file() else {}
        self._transient: set[str] = set()  # images that may become readable without a change

    def predict(self, images: ImageList, phrases: list[str]) -> tuple[ImageList, list[PredictionRecords]]:
        """
        Predict the images without a record by all models.

        Args:
            images (`ImageList`): Unlabelled images.
            phrases (`list[str]`): Phrases that each image is prompted with.

        Returns:
            `tuple[ImageList, list[PredictionRecords]]`: The images that can be read, and their records of each model.

        Raises:
            ValueError: If no image can be read.
        """
        keys = [_key_of(entry) for entry in images]
        self._encode(images, keys, [i for i, _ in self._pooled.missing(map(_pooled_name, keys))])
        unreadable = [entry.path for key, entry in zip(keys, images, strict=True) if key in self._problems]
        if len(unreadable) == len(images):
            raise ValueError(f"`unlabelled`: none of the {len(images)} images can be read. Give other images")
        if unreadable:
            numbers = len(unreadable), len(images)
            logger.info("note: %d of %d images cannot be read and are left out: %s", *numbers, list_some(unreadable))
            images = ImageList(image for key, image in zip(keys, images, strict=True) if key not in self._problems)
            keys = [key for key in keys if key not in self._problems]
        records = [open_records(self.folder / member.name, images) for member in self.members]
        missing = [_find_missing(store) for store in records]
        needed = sorted(set().union(*missing))
        if needed and self._is_stored:
            self._encode(images, keys, [needed[i] for i, _ in self._features.missing(keys[i] for i in needed)])
        self._unload()
        for member, indices in zip(self.members, missing, strict=True):
            if indices:
                self._predict_by(member, images, keys, phrases)
        self._features.remove(keys)
        return images, records

    def _predict_by(self, member: CommitteeMember, images: ImageList, keys: list[str], phrases: list[str]) -> None:
        settings = {"model": member.loading.model_name_or_path, "weights": member.fingerprint()}
        folder, workers = self.folder / member.name, self._workers
        job = PredictionJob(images, phrases, folder, ["coco"], workers=workers, settings=settings)
        predictor, key_of = member.load(), dict(zip((image.name for image in images), keys, strict=True))
        stored = self._features

        def read_features(name: str) -> torch.Tensor | None:
            return None if stored.missing([key_of[name]]) else stored.read(key_of[name], 0)

        predictor.read_features = read_features
        run_job(predictor, job)

    @torch.no_grad()
    def _encode(self, images: ImageList, keys: list[str], indices: list[int]) -> None:
        """Store the pooled features of images and, for the predictions, their ViT features."""
        indices = [i for i in indices if keys[i] not in self._problems]
        if not indices:
            return
        predictor, problems = self._load(), {}
        views = DataLoader(
            Subset(ImageViews(images, predictor.resolution), indices),
            batch_size=None,
            num_workers=min(self._workers, len(indices)),
        )
        bar = progress_bar(views, total=len(indices), caption="encoding images")
        for number, (index, image) in enumerate(zip(indices, bar, strict=True)):
            if image.problem:
                logger.info("  skipped %s", image.problem)
                problems[keys[index]] = image.problem
                continue
            features = _encode_canvas(predictor, image.views[0].canvas)
            if number == len(problems):  # the first image that can be read
                self._check_space(features.nbytes * len(indices))
            if self._is_stored:
                self._features.write(keys[index], 0, features)
            self._pooled.write(_pooled_name(keys[index]), 0, _pool(features))
        self._problems |= problems
        # A later call reads files again that may become readable without a change, such as remote ones.
        files = {keys[i]: images[i].file for i in indices}
        self._transient |= {key for key, file in files.items() if "://" in file or not os.access(file, os.R_OK)}
        if problems.keys() - self._transient:
            lasting = {key: text for key, text in self._problems.items() if key not in self._transient}
            write_json(self.folder / _UNREADABLE, lasting)

    def _check_space(self, num_bytes: int) -> None:
        if self._is_stored and len(self.members) > 1 and shutil.disk_usage(self.folder).free < num_bytes:
            self._is_stored = False
            logger.info(
                "note: the features of the images need %.1f GB, more than %s has, so each model encodes the images",
                num_bytes / 1e9,
                self.folder,
            )

    def pool_features(self, images: ImageList) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the mean ViT features of the labelled images and of unlabelled images that were predicted.

        Args:
            images (`ImageList`): Unlabelled images that can be read.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Features of shape `(labelled images, C)` and `(unlabelled images, C)`.
        """
        examples = list(self.data.rows["example_id"])
        labelled = [f"labelled {name}" for name in examples]
        for index, _ in self._pooled.missing(labelled):
            self._pooled.write(labelled[index], 0, _pool(self._read_labelled(index, examples[index])))
        self._unload()
        unlabelled = [_pooled_name(_key_of(entry)) for entry in images]
        return tuple(self._read_pooled(names) for names in (labelled, unlabelled))

    def _read_pooled(self, names: Iterable[str]) -> np.ndarray:
        return np.stack([self._pooled.read(name, 0).numpy() for name in names])

    def _read_labelled(self, index: int, name: str) -> torch.Tensor:
        """Return the ViT features of a labelled image, from the feature cache of the folds if it contains them."""
        if self._labelled is not None and not self._labelled.missing([name]):
            return self._labelled.read(name, 0)
        predictor = self._load()
        samples = EvaluationSamples(self.data.rows, resolution=predictor.resolution, geometry_token=False)
        return _encode_canvas(predictor, samples.view(index, 0))

    def _load(self) -> Sam3Predictor:
        """Return the first model, whose image encoder computes the features."""
        if self._encoder is None:
            self._encoder = self.members[0].load()
        return self._encoder

    def _unload(self) -> None:
        self._encoder = None
        gc.collect()


@torch.no_grad()
def _encode_canvas(predictor: Sam3Predictor, canvas: torch.Tensor) -> torch.Tensor:
    with predictor.autocast():
        encoded = unwrap_sam(predictor.model).encode_images(canvas[None].to(predictor.device))
    return encoded[0].to(STORED_DTYPE)


def _pool(features: torch.Tensor) -> torch.Tensor:
    return features.float().mean((0, 1)).cpu()


def _key_of(entry: ImageEntry) -> str:
    """Return the key of an image file in the stores, which changes with the file."""
    return fingerprint_of(map(str, entry.identity()))


def _pooled_name(key: str) -> str:
    return f"unlabelled {key}"


def _find_missing(records: PredictionRecords) -> list[int]:
    """Return the images without a record."""
    number, size = len(records.images), records.block_size
    blocks = (range(start, min(start + size, number)) for start in range(0, number, size))
    return [index for block in blocks for index in records.find_missing(block)]
