"""Trainer of SAM 2, built from keys."""

import logging

from datasets import Dataset
from transformers import Sam2Processor

from ..arguments import Sam2DataArguments, Sam2LossArguments
from ..data.loading import PhraseData
from ..data.samples.collators import Sam2Collator
from ..data.samples.object_prompts import ObjectEvaluation, ObjectSamples, objects_of
from ..metrics.objects import SIZES, names_of
from ..models.families import get_resolution
from ..models.lora import AdaptedSam
from ..models.sam2.model import Sam2ForPromptSegmentation
from ..models.unwrapping import unwrap_sam
from ..reporting.metric_specs import MetricGroup, selectable_metrics
from ..training.feature_cache import cache_images
from ..training.sam2_trainer import Sam2Trainer
from ..training.training_arguments import Sam2TrainingArguments
from ..utils.console import NOTE
from .build import build_callbacks, check_metric, get_data_seed, refuse_cache_of_streams, set_metric
from .key_conversion import build_sam2_criterion, to_click_options, to_transform_options


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
    Build the trainer of SAM 2; without `data.train` it only evaluates.

    Args:
        model (`Sam2ForPromptSegmentation` or `AdaptedSam`): Model to train.
        processor (`Sam2Processor`): Processor that is saved with the model.
        data (`PhraseData`): Data of the run; training images without an object that has a mask are removed from it.
        data_args (`Sam2DataArguments`): Keys of the data.
        loss_args (`Sam2LossArguments`): Keys of the loss.
        training_args (`Sam2TrainingArguments`): Keys of the training.
        log_file (`str`, *optional*): File that receives each log line.

    Raises:
        ValueError: If no training image shows an object with a mask.
    """
    sam2 = unwrap_sam(model)
    side, clicks = get_resolution(sam2.config), to_click_options(data_args)
    _choose_metric(training_args, data, data_args.eval_clicks)
    train = None
    if data.train is not None:
        training_args.check_optimizer()
        data.train = with_objects(data.train)
        transforms = to_transform_options(data_args, side)
        train = ObjectSamples(data.train, seed=get_data_seed(training_args), transforms=transforms, clicks=clicks)
        if not clicks.has_mask_prompts:
            # Without mask prompts these weights get no gradient, and weight decay alone would change them.
            sam2.prompt_encoder.mask_embed.requires_grad_(False)
    evaluation = ObjectEvaluation(data.validation, resolution=side)
    if data_args.feature_cache and train is not None:
        refuse_cache_of_streams("feature_cache", data)
        parts = {"train": train, "validation": evaluation}
        cache_images(
            sam2,
            parts,
            data_args.feature_cache,
            training_args,
            views=data_args.cache_views,
            on_ray=data_args.cache_engine == "ray",
        )
    return Sam2Trainer(
        model=model,
        args=training_args,
        data_collator=Sam2Collator(),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        callbacks=build_callbacks(training_args, data, log_file),
        rates=training_args.get_learning_rates(),
        category_ids=data.category_ids,
        num_pictures=training_args.num_pictures,
        trained_phrases=set(data.category_ids) - data.unseen if data.unseen else None,
        criterion=build_sam2_criterion(loss_args),
        gate_absent=loss_args.gate_absent,
        first_prompt=data_args.get_first_prompt(),
        clicks=data_args.eval_clicks,
    )


def with_objects(rows):
    """
    Select the training rows that show an object with a mask; streamed rows are returned unchanged.

    Args:
        rows (`datasets.Dataset` or lazy rows): Training rows.

    Raises:
        ValueError: If no row shows an object with a mask.
    """
    if not isinstance(rows, Dataset):
        return rows
    instance_rows = rows.select_columns(["instances"])
    objects = [objects_of(row) for row in instance_rows]
    total = sum(len(row["instances"]) for row in instance_rows)
    selected = [i for i, row_objects in enumerate(objects) if row_objects]
    if not selected:
        reason = f"none of its {total} annotations has a mask" if total else "it has no annotations"
        raise ValueError(
            f"`dataset_name`: SAM 2 learns from masks, and no training image shows an object with one: {reason}. Use "
            "a data set with polygons or masks, or train SAM 3 on boxes with sam3_ft.py"
        )
    left_out = total - sum(map(len, objects))
    if left_out:
        logger.log(
            NOTE, "note: %d of %d training annotations are left out: crowds, or boxes without a mask", left_out, total
        )
    if len(selected) < len(rows):
        logger.log(
            NOTE,
            "note: %d of %d training images show no object with a mask and are left out",
            len(rows) - len(selected),
            len(rows),
        )
        return rows.select(selected)
    return rows


def _choose_metric(training_args: Sam2TrainingArguments, data: PhraseData, clicks: int) -> None:
    """
    Set `metric_for_best_model`, or another metric if the evaluation images cannot give it.

    Trainer would choose the first checkpoint by a metric that does not exist.
    """
    examples = "`eval_object_IoU`, `eval_IoU@1`, `eval_IoU@box` or `eval_loss`"
    names = [*names_of(clicks), *selectable_metrics(MetricGroup.PRECISION, MetricGroup.LOSS)]
    metric = check_metric(training_args, names, examples)
    areas = [
        row["instances"][i]["area"] for row in data.validation.select_columns(["instances"]) for i in objects_of(row)
    ]
    available = {
        f"object_IoU_{size}" for size, (low, high) in SIZES.items() if any(low <= area < high for area in areas)
    }
    chosen = metric
    if metric.startswith("object_IoU_") and metric not in available:
        chosen = "object_IoU"
    if not areas and metric != "loss":
        chosen = "loss"
        logger.log(NOTE, "note: no evaluation image shows an object with a mask; only the loss can be evaluated")
    if chosen != metric:
        logger.log(
            NOTE,
            "note: the evaluation images cannot be scored by %s; the best checkpoint is chosen by %s",
            metric,
            chosen,
        )
    set_metric(training_args, chosen)
