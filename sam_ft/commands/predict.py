"""Prediction for many images: phrases or exemplar boxes to masks with SAM 3, clicks and boxes to masks with SAM 2."""

import logging
from pathlib import Path

import torch

from ..arguments import ModelArguments, PredictArguments, Sam2ModelArguments, Sam2PredictArguments
from ..inference.batch_prediction import PREDICTIONS, run_job
from ..inference.image_list import ImageList
from ..inference.image_sources import find_images
from ..inference.prediction_job import PredictionJob
from ..inference.prompt_files import read_exemplar_images, read_exemplars, read_prompts
from ..inference.references import assign_phrases
from ..inference.sam2_predictor import Sam2Predictor
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.weights_fingerprint import compute_weights_fingerprint
from ..models.model_files import read_trained_phrases
from ..models.sam3.concept_files import read_concept_source
from ..utils.console import log_to_console_and_file, stage
from ..utils.processes import ProcessGroup
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
    group = _start_processes()
    _run(*group.run(lambda: _prepare_sam3(model_args, predict_args, group)), group)


def _prepare_sam3(model_args: ModelArguments, predict_args: PredictArguments, group: ProcessGroup):
    """Return predictor and job."""
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
        phrases = sorted(read_trained_phrases(model_args.model_name_or_path, model_args.model_revision) or [])
    job = _make_job(model_args, predict_args, images, phrases, exemplars)
    job.settings["exemplar_images"] = [reference.describe() for reference in references]
    prompts = ", ".join(phrases) or "exemplar boxes"
    logger.info("%s: %d images, prompts: %s", model_args.model_name_or_path, len(images), prompts)
    with stage("model"):
        predictor = _load_predictor(Sam3Predictor, model_args, predict_args, group)
        logger.info("  thresholds: %s", predictor.describe_thresholds())
        if references:
            job.references = predictor.prepare_references(references, phrases)
    return predictor, job


def predict_sam2(model_args: Sam2ModelArguments, predict_args: Sam2PredictArguments) -> None:
    """
    Predict the masks of prompted objects and write them to files.

    Args:
        model_args (`Sam2ModelArguments`): Model to predict with.
        predict_args (`Sam2PredictArguments`): Images, prompts, outputs and folder.

    Raises:
        ValueError: If there are no images or prompts, or a file cannot be read.
    """
    group = _start_processes()
    _run(*group.run(lambda: _prepare_sam2(model_args, predict_args, group)), group)


def _prepare_sam2(model_args: Sam2ModelArguments, predict_args: Sam2PredictArguments, group: ProcessGroup):
    """Return predictor and job."""
    images = _find_images(predict_args)
    prompts = read_prompts(predict_args.prompt_file, images.list_files())
    job = _make_job(model_args, predict_args, images, [], prompts)
    objects, name = sum(map(len, prompts.values())), model_args.model_name_or_path
    logger.info("%s: %d images, %d objects prompted in %d of them", name, len(images), objects, len(prompts))
    with stage("model"):
        predictor = _load_predictor(Sam2Predictor, model_args, predict_args, group)
    return predictor, job


def _start_processes() -> ProcessGroup:
    group = ProcessGroup.start()
    log_to_console_and_file(None, is_main=group.is_main)
    return group


def _find_images(predict_args) -> ImageList:
    return find_images(predict_args.images, Path(predict_args.predictions_dir), PREDICTIONS)


def _make_job(model_args, predict_args, images: ImageList, phrases: list[str], prompts: dict) -> PredictionJob:
    """Build the job; its settings decide whether earlier predictions of the folder are resumed."""
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


def _load_predictor(predictor: type, model_args, predict_args, group: ProcessGroup):
    options, device = to_predict_options(predict_args), predict_args.device
    if device in (None, "cuda") and group.count > 1 and torch.cuda.is_available():
        device = f"cuda:{group.local_index}"
    return predictor.load(to_model_options(model_args, seed=0), options=options, device=device)


def _run(predictor, job: PredictionJob, group: ProcessGroup) -> None:
    with stage("predictions"):
        for line in run_job(predictor, job, group):
            logger.info("  %s", line)
    logger.info("%s: %s", job.folder, ", ".join(job.outputs))
