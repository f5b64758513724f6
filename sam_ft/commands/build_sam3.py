"""Trainer of SAM 3, built from keys."""

import logging
from dataclasses import replace

from transformers import Sam3Processor

from ..arguments import DataArguments, LossArguments
from ..data.lazy_rows import texts_of
from ..data.loading import PhraseData
from ..data.phrases.probe_phrases import probe_kinds
from ..data.samples.collators import Sam3Collator, warn_long_phrases
from ..data.samples.pipeline import EvaluationSamples, TrainingSamples
from ..models.families import get_resolution
from ..models.lora import AdaptedSam
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.teacher import Teacher
from ..models.unwrapping import unwrap_sam
from ..options.evaluation import DetectionLimits
from ..options.keys import build_options
from ..reporting.metric_specs import METRICS, MetricGroup, selectable_metrics
from ..training.feature_cache import cache_images, cache_texts
from ..training.sam3_trainer import Sam3Trainer
from ..training.training_arguments import Sam3TrainingArguments
from ..utils.console import NOTE
from .build import build_callbacks, check_metric, get_data_seed, refuse_cache_of_streams, set_metric
from .key_conversion import (
    build_sam3_criterion,
    list_distillation_phrases,
    to_phrase_options,
    to_prompt_options,
    to_transform_options,
)


logger = logging.getLogger("sam_ft.run")


def build_sam3_trainer(
    model: Sam3ForConceptSegmentation | AdaptedSam,
    processor: Sam3Processor,
    data: PhraseData,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
    *,
    log_file: str | None = None,
    trained_phrases: set[str] | None = None,
) -> Sam3Trainer:
    """
    Build the trainer of SAM 3; without `data.train` it only evaluates.

    Args:
        model (`Sam3ForConceptSegmentation` or `AdaptedSam`): Model to train.
        processor (`Sam3Processor`): Processor that is saved with the model.
        data (`PhraseData`): Data of the run.
        data_args (`DataArguments`): Keys of the data.
        loss_args (`LossArguments`): Keys of the loss.
        training_args (`Sam3TrainingArguments`): Keys of the training.
        log_file (`str`, *optional*): File that receives each log line.
        trained_phrases (`set[str]`, *optional*): Phrases on which the model was trained earlier; used without
            training.
    """
    sam3 = unwrap_sam(model)
    _choose_metric(training_args, data, sam3.with_masks)
    train, evaluation = _build_samples(sam3, data, data_args, loss_args, training_args)
    warn_long_phrases(processor.tokenizer, list(data.category_ids))
    text_features = None
    if train is not None:
        for key in ("feature_cache", "cache_text"):
            if getattr(data_args, key):
                refuse_cache_of_streams(key, data)
        if data_args.feature_cache:
            _cache_images(sam3, (train, evaluation), data, data_args, loss_args, training_args)
        if data_args.cache_text:
            texts = _list_texts(data, data_args, loss_args)
            text_features = cache_texts(sam3, processor.tokenizer, texts, training_args)
    has_teacher = loss_args.distill_weight and train is not None
    return Sam3Trainer(
        model=model,
        args=training_args,
        data_collator=Sam3Collator(
            processor.tokenizer, text_features, None if sam3.concepts is None else sam3.concepts.index
        ),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        callbacks=build_callbacks(training_args, data, log_file),
        rates=training_args.get_learning_rates(),
        category_ids=data.category_ids,
        criterion=build_sam3_criterion(loss_args),
        teacher=Teacher(model, loss_args.distill_weight) if has_teacher else None,
        limits=build_options(DetectionLimits, training_args),
        num_pictures=training_args.num_pictures,
        trained_phrases=trained_phrases if data.train is None else _list_trained_phrases(sam3, data),
    )


def _build_samples(
    sam3: Sam3ForConceptSegmentation,
    data: PhraseData,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
) -> tuple[TrainingSamples | None, EvaluationSamples]:
    """Build the samples of the training images, if there are any, and of the evaluation images."""
    train, side = None, get_resolution(sam3.config)
    if data.train is not None:
        training_args.check_optimizer()
        train = TrainingSamples(
            data.train,
            seed=get_data_seed(training_args),
            phrases=to_phrase_options(
                data_args,
                synonyms=data.synonyms,
                distill_phrases=_distillation_phrases(loss_args, data),
                distill_per_image=loss_args.distill_per_image,
            ),
            transforms=to_transform_options(data_args, side),
            prompts=to_prompt_options(data_args),
            with_masks=sam3.with_masks,
        )
    evaluation = EvaluationSamples(
        data.validation,
        resolution=side,
        geometry_token=data_args.eval_geometry_token == "always",
        with_masks=sam3.with_masks,
    )
    return train, evaluation


def _cache_images(
    sam3: Sam3ForConceptSegmentation,
    samples: tuple[TrainingSamples, EvaluationSamples],
    data: PhraseData,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
) -> None:
    """Encode the images of the samples, or of `data.cached_rows`, and let the samples read the features."""
    cached, names = samples, ("train", "validation")
    if data.cached_rows is not None:
        rows = replace(data, train=data.cached_rows, validation=data.cached_rows)
        cached = _build_samples(sam3, rows, data_args, loss_args, training_args)
    cache_images(
        sam3,
        dict(zip(names, cached, strict=True)),
        data_args.feature_cache,
        training_args,
        views=data_args.cache_views,
        on_ray=data_args.cache_engine == "ray",
    )
    for part, source in zip(samples, cached, strict=True):
        part.use(source.store)


def _list_texts(data: PhraseData, data_args: DataArguments, loss_args: LossArguments) -> list[str]:
    """List all phrases that the batches of a run can contain."""
    synonyms = [text for texts in data.synonyms.values() for text in texts]
    texts = [*data.category_ids, *synonyms, *list_distillation_phrases(loss_args)]
    return texts + [*(probe_kinds(data_args.probe_phrases, _trained_phrases(data)) if data_args.probe_images else ())]


def _distillation_phrases(loss_args: LossArguments, data: PhraseData) -> list[str]:
    """Return the phrases of the self-distillation without those that training labels."""
    phrases = list_distillation_phrases(loss_args)
    labelled = _trained_phrases(data).union(texts_of(data.train) or set(), data.unseen)
    free = [text for text in dict.fromkeys(phrases) if text not in labelled]
    if phrases and not free:
        raise ValueError(
            f"`distill_phrases` ({', '.join(phrases)}) are all trained. Set phrases that the training "
            "data do not label"
        )
    return free


def _list_trained_phrases(sam3: Sam3ForConceptSegmentation, data: PhraseData) -> set[str]:
    """Return the trained phrases of a run and their synonyms; with concepts, those that have one."""
    if sam3.concepts is None:
        return _trained_phrases(data)
    return {text for entry in sam3.concepts.info.concepts for text in (entry.phrase, *entry.synonyms)}


def _trained_phrases(data: PhraseData) -> set[str]:
    """Return the trained phrases and their synonyms, without those of `replay` only."""
    texts = set(data.category_ids) if data.learned is None else data.learned
    return texts.union(*(data.synonyms.get(text, []) for text in texts))


def _choose_metric(training_args: Sam3TrainingArguments, data: PhraseData, with_masks: bool) -> None:
    """
    Set `metric_for_best_model`, or the metric of boxes or the loss if the evaluation images cannot give it.

    Trainer would choose the first checkpoint by a metric that does not exist.
    """
    metric = check_metric(
        training_args,
        selectable_metrics(MetricGroup.PRECISION, MetricGroup.CONCEPT, MetricGroup.PHRASE, MetricGroup.LOSS),
        "`eval_mask_AP`, `eval_box_AP`, `eval_cgF1`, `eval_presence_accuracy` or `eval_loss`",
    )
    rows = data.validation.remove_columns("image")
    has_exhaustive = any(phrase["exhaustive"] for row in rows for phrase in row["phrases"])
    objects = [i for row in rows for i in row["instances"] if not i["is_crowd"]]
    chosen = metric
    if metric.startswith("mask_") and not (with_masks and any(i["segmentation"] is not None for i in objects)):
        chosen = metric.replace("mask_", "box_")
    if (chosen.startswith("box_") and not objects) or (
        METRICS[chosen].group is MetricGroup.CONCEPT and not has_exhaustive
    ):
        chosen = "loss"
    if chosen != metric:
        logger.log(
            NOTE,
            "note: the evaluation images cannot be scored by %s; the best checkpoint is chosen by %s",
            metric,
            chosen,
        )
    set_metric(training_args, chosen)
