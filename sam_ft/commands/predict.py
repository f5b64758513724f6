"""Prediction for many images: phrases or exemplar boxes to masks with SAM 3, clicks and boxes to masks with SAM 2."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..arguments import ModelArguments, PredictArguments, Sam2ModelArguments, Sam2PredictArguments
from ..inference.batch_prediction import PREDICTIONS, run_job
from ..inference.image_list import ImageList
from ..inference.image_sources import find_images
from ..inference.prediction_job import PredictionJob
from ..inference.prediction_records import FOLDER as RECORDS
from ..inference.predictor import Predictor
from ..inference.prompt_files import read_exemplar_images, read_exemplars, read_prompts
from ..inference.ray_engine import run_job_on_ray
from ..inference.references import ReferenceImage, assign_phrases
from ..inference.sam2_predictor import Sam2Predictor
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.weights_fingerprint import compute_weights_fingerprint
from ..models.model_files import describe_neighbours, read_trained_phrases
from ..models.sam3.concept_files import read_concept_source
from ..utils.console import log_to_console_and_file, stage
from ..utils.output_folders import check_unclaimed
from ..utils.processes import ProcessGroup
from ..utils.ray_actors import check_reachable, connect, import_ray
from ..utils.text import count_noun
from .key_conversion import to_model_options, to_predict_options


logger = logging.getLogger("sam_ft.run")


def predict_sam3(model_args: ModelArguments, predict_args: PredictArguments) -> None:
    """
    Predict the masks of phrases or exemplar boxes and write them to files.

    Args:
        model_args (`ModelArguments`): Model to predict with.
        predict_args (`PredictArguments`): Images, phrases, exemplars, outputs and folder.

    Raises:
        ValueError: If there are no images or prompts, or a file cannot be read.
    """
    group = _start_processes(predict_args)
    job, references = group.run(lambda: _prepare_sam3(model_args, predict_args))
    _run(_make_loader(Sam3Predictor, model_args, predict_args, group), job, predict_args, group, references)


def _prepare_sam3(
    model_args: ModelArguments, predict_args: PredictArguments
) -> tuple[PredictionJob, list[ReferenceImage]]:
    """Return the job and the references."""
    images = _find_images(predict_args)
    exemplars = {}
    if predict_args.exemplar_file:
        exemplars = read_exemplars(predict_args.exemplar_file, images.list_files())
    phrases, references = predict_args.phrases, []
    if predict_args.exemplar_images:
        references = read_exemplar_images(
            predict_args.exemplar_images, images.list_files(), predict_args.image_channels
        )
        phrases = list(assign_phrases(references, phrases))
    elif not phrases and not exemplars:
        phrases = _read_trained_phrases(model_args)
    job = _make_job(model_args, predict_args, images, phrases, exemplars)
    job.settings["exemplar_images"] = [reference.describe() for reference in references]
    prompts = ", ".join(phrases) or "exemplar boxes"
    logger.info("%s: %d images, prompts: %s", model_args.model_name_or_path, len(images), prompts)
    return job, references


def predict_sam2(model_args: Sam2ModelArguments, predict_args: Sam2PredictArguments) -> None:
    """
    Predict the masks of prompted objects and write them to files.

    Args:
        model_args (`Sam2ModelArguments`): Model to predict with.
        predict_args (`Sam2PredictArguments`): Images, prompts, outputs and folder.

    Raises:
        ValueError: If there are no images or prompts, or a file cannot be read.
    """
    group = _start_processes(predict_args)
    job = group.run(lambda: _prepare_sam2(model_args, predict_args))
    _run(_make_loader(Sam2Predictor, model_args, predict_args, group), job, predict_args, group)


def _prepare_sam2(model_args: Sam2ModelArguments, predict_args: Sam2PredictArguments) -> PredictionJob:
    images = _find_images(predict_args)
    prompts = read_prompts(predict_args.prompt_file, images.list_files())
    job = _make_job(model_args, predict_args, images, [], prompts)
    objects, name = sum(map(len, prompts.values())), model_args.model_name_or_path
    numbers = count_noun(len(images), "image"), count_noun(objects, "object"), len(prompts)
    logger.info("%s: %s, %s prompted in %d of them", name, *numbers)
    return job


def _start_processes(predict_args) -> ProcessGroup:
    group = ProcessGroup.start()
    log_to_console_and_file(None, is_main=group.is_main)
    if predict_args.engine == "ray":
        group.run_first(lambda: _check_ray(predict_args, group))
    return group


def _check_ray(predict_args, group: ProcessGroup) -> None:
    if group.count > 1:
        raise ValueError(
            "`engine: ray` starts its own processes, but this command runs in several. Start it without "
            "`accelerate launch`, or with `engine: processes`"
        )
    import_ray()
    check_reachable(predict_args.ray_address)


def _find_images(predict_args) -> ImageList:
    return find_images(predict_args.images, Path(predict_args.predictions_dir), PREDICTIONS)


def _read_trained_phrases(model_args) -> list[str]:
    name = model_args.model_name_or_path
    phrases = sorted(read_trained_phrases(name, model_args.model_revision) or [])
    if not phrases:
        remedy = describe_neighbours(name) or "Set `phrases`, or the boxes of `exemplar_file` or `exemplar_images`"
        raise ValueError(f"there is no prompt: `phrases` is empty, and {name!r} has no trained phrases. {remedy}")
    return phrases


def _make_job(model_args, predict_args, images: ImageList, phrases: list[str], prompts: dict) -> PredictionJob:
    """Build the job; its settings decide whether earlier predictions of the folder are resumed."""
    check_unclaimed(Path(predict_args.predictions_dir), PREDICTIONS)  # before the model is loaded
    keys = ("model_revision", "resolution", "dtype", "train_masks")
    return PredictionJob(
        images,
        phrases,
        Path(predict_args.predictions_dir),
        predict_args.outputs,
        prompts,
        workers=predict_args.workers,
        skip_bad=predict_args.on_bad_images == "skip",
        image_channels=predict_args.image_channels,
        settings={
            "model": model_args.model_name_or_path,
            "weights": compute_weights_fingerprint(model_args.model_name_or_path, model_args.model_revision),
            **_fingerprint_concepts(model_args),
            **{key: getattr(model_args, key) for key in keys if hasattr(model_args, key)},
        },
    )


def _fingerprint_concepts(model_args) -> dict[str, list[str]]:
    """Return the fingerprints of the concepts, also of none, so that predictions of other concepts are not mixed."""
    if not hasattr(model_args, "concepts"):
        return {}
    for name in model_args.concepts:
        read_concept_source(name)  # An error names this key.
    return {"concepts": [f"{name} {compute_weights_fingerprint(name)}" for name in model_args.concepts]}


def _make_loader(predictor: type, model_args, predict_args, group: ProcessGroup) -> Callable[..., Predictor]:
    """Return a picklable function that loads the predictor with the options that it is called with."""
    device = predict_args.device
    if device in (None, "cuda") and group.count > 1 and torch.cuda.is_available():
        device = f"cuda:{group.local_index}"
    return functools.partial(predictor.load, to_model_options(model_args, seed=0), device=device)


def _load_predictor(
    load: Callable[..., Predictor], job: PredictionJob, options, references: Sequence[ReferenceImage]
) -> Predictor:
    with stage("model"):
        predictor = load(options=options)
        if isinstance(predictor, Sam3Predictor):
            logger.info("  thresholds: %s", predictor.describe_thresholds())
        if references:
            job.references = predictor.prepare_references(references, job.phrases)
    return predictor


def _run(
    load: Callable[..., Predictor],
    job: PredictionJob,
    predict_args,
    group: ProcessGroup,
    references: Sequence[ReferenceImage] = (),
) -> None:
    options = to_predict_options(predict_args)
    if predict_args.engine == "ray":
        cluster = connect(predict_args.ray_address, predict_args.ray_actors, predict_args.device)
        with stage("predictions"), cluster as pool:
            _log_lines(run_job_on_ray(load, job, options, pool, references))
    else:
        predictor = group.run(lambda: _load_predictor(load, job, options, references))
        with stage("predictions"):
            _log_lines(run_job(predictor, job, group))
    if group.is_main:
        logger.info("predictions in %s: %s", job.folder, ", ".join(_list_results(job.folder)))


def _list_results(folder: Path) -> list[str]:
    """List files and folders with predictions, without the records by which a prediction continues."""
    entries = (entry for entry in sorted(folder.iterdir()) if not entry.name.startswith("."))
    return [
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in entries
        if entry.name not in (RECORDS, PREDICTIONS.marker)
    ]


def _log_lines(lines: list[str]) -> None:
    for line in lines:
        logger.info("  %s", line)
