"""Data, model and shared parts of a trainer, built from keys for SAM 3 and SAM 2."""

import dataclasses
import difflib
import logging

from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

from ..arguments import SamTrainingArguments
from ..arguments.dataset import SharedDataArguments
from ..arguments.model import SharedModelArguments
from ..data.loading import PhraseData, load_phrase_dataset
from ..metrics.average_precision import NAMES
from ..metrics.summary import SUMMARY_NAMES
from ..models.anatomy import ANATOMIES
from ..models.freezing import count_parameters, freeze
from ..models.loading import ModelOptions, adapt, load_as_trained, load_model
from ..models.lora import AdaptedSam, sam_of
from ..models.processors import processor_of
from ..models.sam3.config import side_of
from ..reporting.metric_table import LOWER_IS_BETTER
from ..training.base_trainer import EarlyStopping, LogFile


logger = logging.getLogger("sam_ft.run")

AP_NAMES = tuple(f"{kind}_{name}" for kind in ("mask", "box") for name in NAMES)


def load_data(data_args: SharedDataArguments, *, with_train: bool = True) -> PhraseData:
    """
    Read the data set and log a summary of it.

    Args:
        data_args (`SharedDataArguments`): Keys of the data.
        with_train (`bool`): Whether to read the training split.
    """
    data = load_phrase_dataset(data_args.dataset(), data_args.reading(), with_train=with_train)
    for line in data.lines():
        logger.info("%s", line)
    return data


def load_sam(
    model_args: SharedModelArguments, seed: int, *, to_train: bool = True
) -> tuple[PreTrainedModel | AdaptedSam, ProcessorMixin]:
    """
    Load the model and its processor at the resolution of the run.

    Args:
        model_args (`SharedModelArguments`): Keys of the model.
        seed (`int`): Random seed of new weights.
        to_train (`bool`): Whether to add adapters, freeze parts and log the number of trained parameters. Without it,
            the model is loaded for evaluation as it was trained.
    """
    options = model_args.options(seed)
    model = (
        _load_to_train(model_args, options)
        if to_train
        else load_as_trained(dataclasses.replace(options, quantization=None))
    )
    sam = sam_of(model)
    processor = processor_of(sam, model_args.model_name_or_path, model_args.model_revision)
    if to_train:
        _log_trained_parameters(model_args.model_name_or_path, sam)
    return model, processor


def _load_to_train(model_args: SharedModelArguments, options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    adapters, anatomy = model_args.adapters(), ANATOMIES[options.family.key]
    if adapters is not None:
        return adapt(options, adapters, frozen=model_args.freeze)
    encoders = list(options.family.encoders)
    if options.dtype != "float32" and not set(anatomy.parts_of(encoders)) <= set(anatomy.parts_of(model_args.freeze)):
        raise ValueError(
            f"`dtype: {options.dtype}` is for frozen encoders, because small updates would be rounded to 0. Add "
            f"`freeze: "
            f"[{', '.join(encoders)}]` or `lora`, or keep float32 weights and set `bf16: true`"
        )
    model = load_model(options)
    freeze(model, model_args.freeze, with_masks=model_args.train_masks)
    return model


def _log_trained_parameters(name: str, model: PreTrainedModel) -> None:
    counts = count_parameters(model)
    trained, total = (sum(c[i] for c in counts.values()) / 1e6 for i in (0, 1))
    parts = ", ".join(f"{part} {n / 1e6:.2f} M" for part, (n, _) in counts.items() if n)
    logger.info(
        "%s at %d px: %.2f of %.2f M parameters are trained (%s)", name, side_of(model.config), trained, total, parts
    )


def callbacks_of(training_args: SamTrainingArguments, data: PhraseData, log_file: str | None) -> list[TrainerCallback]:
    """
    Return the callbacks of a trainer.

    Args:
        training_args (`SamTrainingArguments`): Keys of the training.
        data (`PhraseData`): Data of the run.
        log_file (`str`, *optional*): File that receives each log line.
    """
    callbacks = [LogFile(log_file)] if log_file else []
    if data.train is not None and training_args.early_stopping_patience:
        callbacks.append(EarlyStopping(training_args.early_stopping_patience))
    return callbacks


def data_seed(training_args: SamTrainingArguments) -> int:
    """Return the random seed of the training samples."""
    return training_args.data_seed if training_args.data_seed is not None else training_args.seed


def refuse_cache_of_streams(key: str, data: PhraseData) -> None:
    """
    Check that training rows can be cached.

    Args:
        key (`str`): Key of the cache, for the message.
        data (`PhraseData`): Data of the run.

    Raises:
        ValueError: If the rows are streamed, mixed or generated during training.
    """
    if not isinstance(data.train, Dataset):
        raise ValueError(
            f"`{key}` needs a data set whose rows are all read before training, but this one is streamed, mixed or "
            f"generated. "
            f"Leave out `{key}`, or use one data set without `streaming`"
        )


def check_metric(training_args: SamTrainingArguments, names: list[str], examples: str) -> str:
    """
    Check `metric_for_best_model` and return it without its prefix.

    Args:
        training_args (`SamTrainingArguments`): Keys of the training.
        names (`list[str]`): Metrics that every evaluation gives.
        examples (`str`): Metrics to name in the message.

    Raises:
        ValueError: If no evaluation gives the metric, or not every evaluation.
    """
    metric = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if metric in names:
        return metric
    if metric in SUMMARY_NAMES or metric.endswith(("_trained", "_other")):
        raise ValueError(
            f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which not every evaluation gives. "
            f"Choose "
            f"{examples}"
        )
    close_matches = difflib.get_close_matches(metric, names, 1) or [names[1]]
    raise ValueError(
        f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which no evaluation gives. Did you mean "
        f"`eval_{close_matches[0]}`?"
    )


def set_metric(training_args: SamTrainingArguments, chosen: str) -> None:
    """
    Set the metric that selects the best checkpoint.

    Args:
        training_args (`SamTrainingArguments`): Keys of the training, changed in place.
        chosen (`str`): Metric without prefix.
    """
    if training_args.metric_for_best_model:
        training_args.metric_for_best_model = f"eval_{chosen}"
        training_args.greater_is_better = chosen not in LOWER_IS_BETTER


def run_settings(*arguments) -> dict:
    """Return all keys of a run as plain values, defaults included."""
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
