"""Batch prediction in the actors of a Ray cluster; the driver writes files and records, so that it can be resumed."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ..data.image_entries import ImageEntry
from ..utils.console import progress_bar
from ..utils.processes import ALONE
from ..utils.ray_actors import ActorPool, choose_items_per_task, map_items, run_task
from .batch_prediction import (
    count_images_per_batch,
    count_loaded_together,
    find_missing,
    merge_share,
    open_job,
    predict_images,
)
from .image_outputs import ImageOutputs
from .prediction_job import PredictionJob
from .prediction_records import open_records
from .predictor import ImagePrediction, Predictor, computes_bf16
from .references import ReferenceImage


class PredictionWorker:
    """
    Predictor in an actor.

    Args:
        load (`Callable[..., Predictor]`): Function that loads the predictor with `options`.
        options: Options of the predictor.
        job (`PredictionJob`): Prompts and loading of the images; its own list of images is not used.
        references (`Sequence[ReferenceImage]`): References in other images, which the predictor prepares.
        num_loaded (`int`): Number of images that are loaded at once.
    """

    def __init__(
        self,
        load: Callable[..., Predictor],
        options,
        job: PredictionJob,
        references: Sequence[ReferenceImage],
        num_loaded: int,
    ):
        self.predictor, self.job, self.num_loaded = load(options=options), job, num_loaded
        if references:
            job.references = self.predictor.prepare_references(references, job.phrases)

    def __call__(self, images: list[ImageEntry]) -> Iterator[ImagePrediction | str]:
        return predict_images(self.predictor, self.job, images, iter(range(len(images))), self.num_loaded)


def run_job_on_ray(
    load: Callable[..., Predictor],
    job: PredictionJob,
    options,
    pool: ActorPool,
    references: Sequence[ReferenceImage] = (),
) -> list[str]:
    """
    Predict the images that have no record yet in the actors of a connected cluster, and write all outputs.

    Args:
        load (`Callable[..., Predictor]`): Picklable function that loads the predictor with `options`.
        job (`PredictionJob`): Images, prompts and outputs.
        options: Options of the predictor.
        pool (`ActorPool`): The actors.
        references (`Sequence[ReferenceImage]`): References in other images.

    Returns:
        `list[str]`: Lines for the log; see [`run_job`].

    Raises:
        `ValueError`: See [`run_job`].
    """
    if options.bf16 is None:  # one precision for all actors
        options = replace(options, bf16=bool(pool.num_gpus) and run_task(_computes_bf16, pool))
    records = open_records(job.folder, job.images)
    with open_job(job, options, records):
        outputs, batch_size = ImageOutputs(job, records), count_images_per_batch(options)
        blocks = find_missing(job, outputs, max(records.block_size, batch_size), ALONE)
        missing = list(itertools.chain.from_iterable(blocks))
        images = ((index, job.images[index]) for index in missing)
        num_per_task = choose_items_per_task(len(missing), batch_size, pool)
        sent = copy.copy(job)
        sent.images = ()
        num_loaded = count_loaded_together(options, records)
        make_worker = functools.partial(PredictionWorker, load, options, sent, references, num_loaded)
        results = map_items(images, make_worker, pool, num_per_task)
        with progress_bar(total=len(missing), leave=True) as bar:
            for index, result in results:
                outputs.add(index, result)
                bar.update()
        return merge_share(job, outputs)


def _computes_bf16() -> bool:
    return computes_bf16(torch.device("cuda"))
