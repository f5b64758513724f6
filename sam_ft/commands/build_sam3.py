"""Trainer of SAM 3, built from keys."""

import dataclasses
import logging

from transformers import Sam3Processor

from ..arguments import DataArguments, LossArguments, Sam3TrainingArguments
from ..data.loading import PhraseData, texts_of
from ..data.phrases.probe_phrases import probe_kinds
from ..data.samples.collators import Sam3Collator, warn_long_phrases
from ..data.samples.pipeline import EvaluationSamples, TrainingSamples
from ..metrics.summary import CONCEPT_NAMES
from ..models.lora import AdaptedSam, sam_of
from ..models.sam3.config import side_of
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.teacher import Teacher
from ..training.feature_cache import cache_images, cache_texts
from ..training.sam3_trainer import Sam3Trainer
from .build import AP_NAMES, callbacks_of, check_metric, data_seed, refuse_cache_of_streams, set_metric


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
    sam3 = sam_of(model)
    sam3.criterion = loss_args.criterion()
    side = side_of(sam3.config)
    _choose_metric(training_args, data, sam3.with_masks)
    train = None
    if data.train is not None:
        training_args.check_optimizer()
        train = TrainingSamples(
            data.train,
            seed=data_seed(training_args),
            phrases=dataclasses.replace(
                data_args.phrases(),
                synonyms=data.synonyms,
                soft=_distillation_phrases(loss_args, data),
                soft_per_image=loss_args.distill_per_image,
            ),
            transforms=data_args.transforms(side),
            prompts=data_args.prompts(),
            with_masks=sam3.with_masks,
        )
    evaluation = EvaluationSamples(
        data.validation,
        resolution=side,
        geometry_token=data_args.eval_geometry_token == "always",
        with_masks=sam3.with_masks,
    )
    warn_long_phrases(processor.tokenizer, list(data.category_ids))
    for key in ("feature_cache", "cache_text"):
        if getattr(data_args, key) and train is not None:
            refuse_cache_of_streams(key, data)
    if data_args.feature_cache and train is not None:
        parts = {"train": train, "validation": evaluation}
        cache_images(sam3, parts, data_args.feature_cache, training_args, views=data_args.cache_views)
    text_features = None
    if data_args.cache_text and train is not None:
        synonyms = [text for texts in data.synonyms.values() for text in texts]
        texts = [*data.category_ids, *synonyms, *loss_args.soft_phrases()]
        texts += probe_kinds(data_args.probe_phrases, _trained_phrases(data)) if data_args.probe_images else {}
        text_features = cache_texts(sam3, processor.tokenizer, texts, training_args)
    if loss_args.distill_weight and train is not None:
        sam3.teacher = Teacher(model, loss_args.distill_weight)
    return Sam3Trainer(
        model=model,
        args=training_args,
        data_collator=Sam3Collator(processor.tokenizer, text_features),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        callbacks=callbacks_of(training_args, data, log_file),
        rates=training_args.rates(),
        category_ids=data.category_ids,
        keep=training_args.keep(),
        num_pictures=training_args.num_pictures,
        trained_phrases=trained_phrases if data.train is None else _trained_phrases(data),
    )


def _distillation_phrases(loss_args: LossArguments, data: PhraseData) -> list[str]:
    """Return the phrases of the self-distillation without those that training labels."""
    soft = loss_args.soft_phrases()
    labelled = _trained_phrases(data).union(texts_of(data.train) or set(), data.unseen)
    free = [text for text in dict.fromkeys(soft) if text not in labelled]
    if soft and not free:
        raise ValueError(
            f"`distill_phrases` ({', '.join(soft)}) are all trained. Set phrases that the training data do not label"
        )
    return free


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
        ["loss", "mask_AP", "presence_accuracy", *CONCEPT_NAMES, *AP_NAMES],
        "`eval_mask_AP`, `eval_box_AP`, `eval_cgF1`, `eval_presence_accuracy` or `eval_loss`",
    )
    rows = data.validation.remove_columns("image")
    has_exhaustive = any(phrase["exhaustive"] for row in rows for phrase in row["phrases"])
    objects = [i for row in rows for i in row["instances"] if not i["is_crowd"]]
    chosen = metric
    if metric.startswith("mask_") and not (with_masks and any(i["segmentation"] is not None for i in objects)):
        chosen = metric.replace("mask_", "box_")
    if (chosen.startswith("box_") and not objects) or (chosen in CONCEPT_NAMES and not has_exhaustive):
        chosen = "loss"
    if chosen != metric:
        logger.info(
            "note: the evaluation images cannot be scored by %s; the best checkpoint is chosen by %s", metric, chosen
        )
    set_metric(training_args, chosen)
