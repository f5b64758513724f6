"""From arguments to a trainer; what fine-tuning and evaluation share."""

import dataclasses
import difflib
import logging

from datasets import Dataset
from transformers import Sam3Processor

from ..arguments import DataArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from ..data.collators import Sam3Collator, warn_long_phrases
from ..data.load import PhraseData, load_phrase_dataset, texts_of
from ..data.pipeline import EvaluationSamples, TrainingSamples
from ..data.probes import probe_kinds
from ..metrics.average_precision import NAMES
from ..metrics.summary import CONCEPT_NAMES, SUMMARY_NAMES
from ..models.freeze import count_parameters, freeze, parts_of
from ..models.load import ModelOptions, adapt, load_as_trained, load_model, processor_of
from ..models.lora import AdaptedSam3, sam3_of
from ..models.sam3 import Sam3ForConceptSegmentation
from ..models.teacher import Teacher
from .caching import cache_images, cache_texts
from .sam3 import Sam3Trainer
from .trainer import EarlyStopping, LogFile


logger = logging.getLogger("sam_ft.run")


def load_data(data_args: DataArguments, *, with_train: bool = True) -> PhraseData:
    """Reads the data set and says what was understood."""
    data = load_phrase_dataset(data_args.dataset(), data_args.reading(), with_train=with_train)
    for line in data.lines():
        logger.info("%s", line)
    return data


def load_sam3(
    model_args: ModelArguments, seed: int, *, to_train: bool = True
) -> tuple[Sam3ForConceptSegmentation | AdaptedSam3, Sam3Processor]:
    """
    The model and its processor, both at the run's resolution. With `to_train` what is not trained of it is frozen, adapters are
    around it where asked for, and what is trained is said; without, it answers as it did when it was trained.
    """
    options = model_args.options(seed)
    model = (
        _to_train(model_args, options)
        if to_train
        else load_as_trained(dataclasses.replace(options, quantization=None))
    )
    sam3 = sam3_of(model)
    processor = processor_of(sam3, model_args.model_name_or_path, model_args.model_revision)
    if to_train:
        _say_what_is_trained(model_args.model_name_or_path, sam3)
    return model, processor


def _to_train(model_args: ModelArguments, options: ModelOptions) -> Sam3ForConceptSegmentation | AdaptedSam3:
    adapters, encoders = model_args.adapters(), {"vision_trunk", "vision_neck", "text_encoder"}
    if adapters is not None:
        return adapt(options, adapters, frozen=model_args.freeze)
    if options.dtype != "float32" and not encoders <= set(parts_of(model_args.freeze)):
        raise ValueError(
            f"`dtype: {options.dtype}` is for frozen encoders: small steps would be rounded away. Add `freeze: "
            "[vision_encoder, text_encoder]` or `lora`, or keep float32 weights and set `bf16: true`"
        )
    model = load_model(options)
    freeze(model, model_args.freeze, with_masks=model_args.train_masks)
    return model


def _say_what_is_trained(name: str, model: Sam3ForConceptSegmentation) -> None:
    counts = count_parameters(model)
    trained, total = (sum(c[i] for c in counts.values()) / 1e6 for i in (0, 1))
    parts = ", ".join(f"{part} {n / 1e6:.2f} M" for part, (n, _) in counts.items() if n)
    logger.info("%s at %d px: %.2f of %.2f M parameters are trained (%s)", name, model.config.image_size, trained,
                total, parts)  # fmt: skip


def build_sam3_trainer(
    model: Sam3ForConceptSegmentation | AdaptedSam3,
    processor: Sam3Processor,
    data: PhraseData,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
    *,
    log_file: str | None = None,
    trained_phrases: set[str] | None = None,
) -> Sam3Trainer:
    """A trainer over a data set; with `data.train` missing it only evaluates, a model that was trained on `trained_phrases`."""
    sam3 = sam3_of(model)
    sam3.criterion = loss_args.criterion()
    side = sam3.config.image_size
    _choose_metric(training_args, data, sam3.with_masks)
    train, callbacks = None, [LogFile(log_file)] if log_file else []
    if data.train is not None:
        training_args.check_optimizer()
        train = TrainingSamples(
            data.train,
            seed=training_args.data_seed if training_args.data_seed is not None else training_args.seed,
            phrases=dataclasses.replace(
                data_args.phrases(),
                synonyms=data.synonyms,
                soft=_unlabelled(loss_args, data),
                soft_per_image=loss_args.distill_per_image,
            ),
            transforms=data_args.transforms(side),
            prompts=data_args.prompts(),
            with_masks=sam3.with_masks,
        )
        if training_args.early_stopping_patience:
            callbacks.append(EarlyStopping(training_args.early_stopping_patience))
    evaluation = EvaluationSamples(
        data.validation,
        resolution=side,
        geometry_token=data_args.eval_geometry_token == "always",
        with_masks=sam3.with_masks,
    )
    warn_long_phrases(processor.tokenizer, list(data.category_ids))
    for key in ("feature_cache", "cache_text"):
        if getattr(data_args, key) and train is not None and not isinstance(data.train, Dataset):
            raise ValueError(f"`{key}` needs a data set that is read whole; this one is streamed, mixed or drawn anew")
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
        callbacks=callbacks,
        rates=training_args.rates(),
        category_ids=data.category_ids,
        keep=training_args.keep(),
        num_pictures=training_args.num_pictures,
        trained_phrases=trained_phrases if data.train is None else _trained_phrases(data),
    )


def _unlabelled(loss_args: LossArguments, data: PhraseData) -> list[str]:
    """
    Phrases for the teacher: none that training labels somewhere.

    Raises:
        `ValueError`: where none is left.
    """
    soft = loss_args.soft_phrases()
    labelled = _trained_phrases(data).union(texts_of(data.train) or set(), data.unseen)
    free = [text for text in dict.fromkeys(soft) if text not in labelled]
    if soft and not free:
        raise ValueError(
            f"`distill_phrases` ({', '.join(soft)}) are all trained; name others, which nobody has labelled"
        )
    return free


def _trained_phrases(data: PhraseData) -> set[str]:
    """Every phrase that training is to teach, not only to keep; all that are known of where rows are made when asked for."""
    texts = set(data.category_ids) if data.learned is None else data.learned
    return texts.union(*(data.synonyms.get(text, []) for text in texts))


def _choose_metric(training_args: Sam3TrainingArguments, data: PhraseData, with_masks: bool) -> None:
    """
    Checks `metric_for_best_model`, and chooses by boxes where no mask can be scored, by the loss where nothing can: an AP
    that does not exist would end a run on its first, worst checkpoint.
    """
    names = [
        "loss",
        "presence_accuracy",
        *CONCEPT_NAMES,
        *(f"{kind}_{name}" for kind in ("mask", "box") for name in NAMES),
    ]
    wanted = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if wanted not in names:
        if wanted in SUMMARY_NAMES or wanted.endswith(("_trained", "_other")):
            raise ValueError(
                f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which not every evaluation gives: choose "
                "`eval_mask_AP`, `eval_box_AP`, `eval_cgF1`, `eval_presence_accuracy` or `eval_loss`"
            )
        near = difflib.get_close_matches(wanted, names, 1) or ["mask_AP"]
        raise ValueError(
            f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which no evaluation gives. Did you mean "
            f"`eval_{near[0]}`?"
        )
    rows = data.validation.remove_columns("image")
    known = any(phrase["exhaustive"] for row in rows for phrase in row["phrases"])
    objects = [i for row in rows for i in row["instances"] if not i["is_crowd"]]
    chosen = wanted
    if wanted.startswith("mask_") and not (with_masks and any(i["segmentation"] is not None for i in objects)):
        chosen = wanted.replace("mask_", "box_")
    if (chosen.startswith("box_") and not objects) or (chosen in CONCEPT_NAMES and not known):
        chosen = "loss"
    if chosen != wanted:
        logger.info(
            "note: the evaluation images cannot be scored by %s; the best checkpoint is chosen by %s", wanted, chosen
        )
    if training_args.metric_for_best_model:
        training_args.metric_for_best_model = f"eval_{chosen}"
        training_args.greater_is_better = chosen != "loss"


def run_settings(*arguments) -> dict:
    """All effective arguments as plain values: what a run is."""
    settings = {}
    for group in arguments:
        values = group.to_dict() if hasattr(group, "to_dict") else dataclasses.asdict(group)
        settings |= {k: _plain(v) for k, v in values.items() if not k.startswith("_")}
    return settings


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
