"""From arguments to SAM 2's trainer."""

import logging

from datasets import Dataset
from transformers import Sam2Processor

from ..arguments import Sam2DataArguments, Sam2LossArguments, Sam2TrainingArguments
from ..data.loading import PhraseData
from ..data.samples.collators import Sam2Collator
from ..data.samples.object_prompts import ObjectEvaluation, ObjectSamples, objects_of
from ..metrics.objects import SIZES, names_of
from ..models.lora import AdaptedSam, sam_of
from ..models.sam2.model import Sam2ForPromptSegmentation
from ..models.sam3.config import side_of
from ..training.feature_cache import cache_images
from ..training.sam2_trainer import Sam2Trainer
from .build import AP_NAMES, callbacks_of, check_metric, data_seed, refuse_cache_of_streams, set_metric


logger = logging.getLogger("sam_ft.run")


def build_sam2_trainer(
    model: Sam2ForPromptSegmentation | AdaptedSam,
    processor: Sam2Processor,
    data: PhraseData,
    data_args: Sam2DataArguments,
    loss_args: Sam2LossArguments,
    training_args: Sam2TrainingArguments,
    *,
    log_file: str | None = None,
) -> Sam2Trainer:
    """
    A trainer over a data set; with `data.train` missing it only evaluates. Training images without an object that can be prompted are left out of
    `data`.

    Raises:
        `ValueError`: where no training image shows an object with a mask.
    """
    sam2 = sam_of(model)
    sam2.criterion, sam2.gate_absent = loss_args.criterion(), loss_args.gate_absent
    side, clicks = side_of(sam2.config), data_args.clicks()
    _choose_metric(training_args, data, data_args.eval_clicks)
    train = None
    if data.train is not None:
        training_args.check_optimizer()
        data.train = with_objects(data.train)
        train = ObjectSamples(
            data.train, seed=data_seed(training_args), transforms=data_args.transforms(side), clicks=clicks
        )
        if not clicks.shows_masks:
            # without a mask prompt nothing would reach it but weight decay
            sam2.prompt_encoder.mask_embed.requires_grad_(False)
    evaluation = ObjectEvaluation(data.validation, resolution=side)
    if data_args.feature_cache and train is not None:
        refuse_cache_of_streams("feature_cache", data)
        parts = {"train": train, "validation": evaluation}
        cache_images(sam2, parts, data_args.feature_cache, training_args, views=data_args.cache_views)
    return Sam2Trainer(
        model=model,
        args=training_args,
        data_collator=Sam2Collator(),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        callbacks=callbacks_of(training_args, data, log_file),
        rates=training_args.rates(),
        category_ids=data.category_ids,
        num_pictures=training_args.num_pictures,
        trained_phrases=set(data.category_ids) - data.unseen if data.unseen else None,
        first_prompt=data_args.first_prompt(),
        clicks=data_args.eval_clicks,
    )


def with_objects(rows):
    """
    The training rows that show an object with a mask; all of them where they are made when asked for.

    Raises:
        `ValueError`: where there is none.
    """
    if not isinstance(rows, Dataset):
        return rows
    light = rows.select_columns(["instances"])
    objects = [objects_of(row) for row in light]
    total = sum(len(row["instances"]) for row in light)
    kept = [i for i, found in enumerate(objects) if found]
    if not kept:
        told = f"none of its {total} annotations has a mask" if total else "it has no annotations"
        raise ValueError(
            f"`dataset_name`: SAM 2 learns from masks, and no training image shows an object with one: {told}. Give polygons or masks; boxes alone "
            "train SAM 3 (sam3_ft.py)"
        )
    without = total - sum(map(len, objects))
    if without:
        logger.info(
            "note: %d of %d training annotations are left out: crowds, or boxes without a mask", without, total
        )
    if len(kept) < len(rows):
        logger.info(
            "note: %d of %d training images show no object with a mask and are left out",
            len(rows) - len(kept),
            len(rows),
        )
        return rows.select(kept)
    return rows


def _choose_metric(training_args: Sam2TrainingArguments, data: PhraseData, clicks: int) -> None:
    """Checks `metric_for_best_model`, and chooses another one where the evaluation's objects cannot give it: Trainer would stop at its first checkpoint."""
    examples = "`eval_object_IoU`, `eval_IoU@1`, `eval_IoU@box` or `eval_loss`"
    wanted = check_metric(training_args, ["loss", *names_of(clicks), *AP_NAMES], examples)
    areas = [
        row["instances"][i]["area"] for row in data.validation.select_columns(["instances"]) for i in objects_of(row)
    ]
    given = {f"object_IoU_{size}" for size, (low, high) in SIZES.items() if any(low <= area < high for area in areas)}
    chosen = wanted
    if wanted.startswith("object_IoU_") and wanted not in given:
        chosen = "object_IoU"
    if not areas and wanted != "loss":
        chosen = "loss"
        logger.info("note: no evaluation image shows an object with a mask; nothing but the loss can be told")
    if chosen != wanted:
        logger.info(
            "note: the evaluation images cannot be scored by %s; the best checkpoint is chosen by %s", wanted, chosen
        )
    set_metric(training_args, chosen)
