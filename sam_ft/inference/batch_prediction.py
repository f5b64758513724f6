"""Batch prediction over images, by one or several processes; a stopped one resumes with images without a record."""

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from torch.utils.data import DataLoader

from ..data.image_entries import ImageEntry
from ..utils.console import progress_bar
from ..utils.output_folders import FolderKind, claim_settings, lock_folder
from ..utils.processes import ALONE, ProcessGroup
from ..utils.text import count_noun
from .image_outputs import ImageOutputs
from .merged_outputs import check_merged_outputs, write_merged_outputs
from .prediction_job import PredictionJob
from .prediction_records import ImageRecords, PredictionRecords, open_records
from .predictor import ImagePrediction, Predictor
from .tiling import ImageViews, PackedViews


logger = logging.getLogger("sam_ft.run")

PREDICTIONS = FolderKind(
    "predictions_dir", "predict.yaml", "prediction", "delete this folder to predict with the new settings"
)
_NOT_COMPARED = {"views_per_batch"}  # changes the speed, and the last digits of scores
_LOADED_TOGETHER = 8  # images of a long list that a worker sends at once, because each message takes time


def run_job(predictor: Predictor, job: PredictionJob, group: ProcessGroup = ALONE) -> list[str]:
    """
    Predict the images that have no record yet and write all outputs.

    Each process predicts a share of the images; the first one then writes the outputs that cover all images.

    Args:
        predictor (`Predictor`): Predictor of SAM 3 or SAM 2.
        job (`PredictionJob`): Images, prompts and outputs.
        group (`ProcessGroup`): Processes of this prediction, one by default.

    Returns:
        `list[str]`: Lines for the log: detections per phrase, notes, and skipped images; empty in other processes than
            the first.

    Raises:
        `ValueError`: If an image cannot be read and `skip_bad` is false, if the folder contains predictions of other
            settings, or if the processes found different images.
    """
    records = open_records(job.folder, job.images)
    with open_job(job, predictor.options, records, group):
        outputs = ImageOutputs(job, records)
        _predict_share(predictor, job, outputs, group)
        return merge_share(job, outputs, group)


def open_job(job: PredictionJob, options, records: PredictionRecords, group: ProcessGroup = ALONE) -> ExitStack:
    """
    Lock and claim the output folder of a prediction until the result is closed.

    Args:
        job (`PredictionJob`): Images, prompts and outputs.
        options: Options of the predictor.
        records (`PredictionRecords`): Records of the predictions.
        group (`ProcessGroup`): Processes of this prediction; the first one holds the lock.

    Raises:
        `ValueError`: See [`run_job`].
    """
    lists, stack = group.gather((job.images.digest, len(job.images))), ExitStack()

    def compare() -> None:
        if len(set(lists)) > 1:
            numbers = sorted({number for _, number in lists})
            raise ValueError(
                f"`images`: the processes found different images ({' and '.join(map(str, numbers))} of them). Give "
                "all machines the same files"
            )

    def claim() -> None:
        stack.enter_context(lock_folder(job.folder, PREDICTIONS))
        settings = {key: value for key, value in job.describe(options).items() if key not in _NOT_COMPARED}
        claim_settings(job.folder, PREDICTIONS, json.loads(json.dumps(settings)), has_results=records.exist)
        check_merged_outputs(job)

    with stack:  # closed here only if the folder cannot be claimed
        group.run(compare)
        group.run_first(claim)
        return stack.pop_all()


def find_missing(
    job: PredictionJob, outputs: ImageOutputs, block_size: int, group: ProcessGroup
) -> list[Sequence[int]]:
    """
    Find the images of this process without a record, write absent files of the others, and log how many they are.

    Args:
        job (`PredictionJob`): Images, prompts and outputs.
        outputs (`ImageOutputs`): Outputs and records of the predictions.
        block_size (`int`): Number of neighbouring images that one process predicts.
        group (`ProcessGroup`): Processes of this prediction.

    Returns:
        `list[Sequence[int]]`: Indices of the missing images of each block, in order.
    """
    num_images = len(job.images)
    starts = range(group.index * block_size, num_images, group.count * block_size)
    blocks = [range(start, min(start + block_size, num_images)) for start in starts]
    missing = []
    for block in blocks:
        missing.append(outputs.records.find_missing(block))
        outputs.restore(block, missing[-1])
    num_missing = sum(group.gather(sum(map(len, missing))))
    if num_missing < num_images:
        total = count_noun(num_images, "image")
        logger.info("%d of %s predicted before; resuming", num_images - num_missing, total)
    return missing


def _predict_share(predictor: Predictor, job: PredictionJob, outputs: ImageOutputs, group: ProcessGroup) -> None:
    """Predict the images of this process that have no record."""
    records = outputs.records
    block_size = max(records.block_size, count_images_per_batch(predictor.options))
    batch_size = count_loaded_together(predictor.options, records)
    missing = find_missing(job, outputs, block_size, group)
    num_missing = sum(map(len, missing))
    indices = itertools.chain.from_iterable(missing)
    results = predict_images(predictor, job, job.images, itertools.chain.from_iterable(missing), batch_size)
    with progress_bar(total=num_missing, leave=True) as bar:
        for result, index in zip(results, indices, strict=False):
            outputs.add(index, result)
            bar.update()


def count_images_per_batch(options) -> int:
    """
    Return the number of images that are predicted at once; the tiles of one image fill a batch.

    Args:
        options: Options of the predictor.
    """
    return 1 if getattr(options, "tile_size", None) else options.views_per_batch


def count_loaded_together(options, records: PredictionRecords) -> int:
    """
    Return the number of images that a worker process loads at once: a batch, or several in a long prediction.

    Args:
        options: Options of the predictor.
        records (`PredictionRecords`): Records of the predictions.
    """
    batch_size = count_images_per_batch(options)
    if records.block_size == 1 or getattr(options, "tile_size", None):
        return batch_size
    return batch_size * -(-_LOADED_TOGETHER // batch_size)


def predict_images(
    predictor: Predictor, job: PredictionJob, images: Sequence[ImageEntry], indices: Iterator[int], batch_size: int
) -> Iterator[ImagePrediction | str]:
    """
    Load and predict images.

    Args:
        predictor (`Predictor`): Predictor of SAM 3 or SAM 2.
        job (`PredictionJob`): Prompts, loading processes, and handling of images that cannot be read.
        images (`Sequence[ImageEntry]`): Images.
        indices (`Iterator[int]`): Indices of the images that are predicted.
        batch_size (`int`): Number of images that are loaded at once.

    Returns:
        `Iterator[ImagePrediction | str]`: Prediction of each image, or the reason why it cannot be read.

    Raises:
        `ValueError`: If an image cannot be read and `skip_bad` is false.
    """
    views = ImageViews(images, predictor.resolution, *predictor.tiling, channels=job.image_channels)
    loader = DataLoader(
        views,
        batch_sampler=_Batches(indices, batch_size),
        num_workers=min(job.workers, len(images)),
        collate_fn=PackedViews.pack,
    )
    for packed in loader:
        batch = packed.unpack()
        bad = next((views for views in batch if views.problem), None)
        if bad is not None and not job.skip_bad:
            raise ValueError(f"{bad.problem}. Correct it, or set `--on_bad_images skip` to skip such files")
        predictions = iter(predictor.predict_job([views for views in batch if not views.problem], job))
        for views in batch:
            yield views.problem or next(predictions)


class _Batches:
    """Batch sampler over an iterator of indices, which is not turned into a list."""

    def __init__(self, indices: Iterator[int], batch_size: int):
        self.indices, self.batch_size = indices, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        while batch := list(itertools.islice(self.indices, self.batch_size)):
            yield batch


def merge_share(job: PredictionJob, outputs: ImageOutputs, group: ProcessGroup = ALONE) -> list[str]:
    """
    Write the outputs that cover all images, in the first process, when every image has a record.

    Args:
        job (`PredictionJob`): Images, prompts and outputs.
        outputs (`ImageOutputs`): Outputs of the images of this process.
        group (`ProcessGroup`): Processes of this prediction.

    Returns:
        `list[str]`: See [`run_job`].
    """
    records, lines = outputs.records, []
    filled = sum(group.gather(outputs.num_filled))
    if isinstance(records, ImageRecords):
        for problems in group.gather(records.problems):
            records.problems |= problems

    def merge() -> None:
        lines.extend(write_merged_outputs(job, records))
        if filled:
            lines.append(f"note: {filled} masks have holes; the YOLO format has none, so they are filled there")
        lines.sort(key=lambda line: line.startswith("skipped"))

    group.run_first(merge)
    return lines
