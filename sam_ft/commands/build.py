"""Data, model and shared parts of a trainer, built from keys for SAM 3 and SAM 2."""

import dataclasses
import difflib
import logging

from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

from ..arguments.dataset import SharedDataArguments
from ..arguments.model import SharedModelArguments
from ..data.loading import PhraseData, load_phrase_dataset
from ..models.adapter_loading import adapt
from ..models.families import FAMILIES, get_resolution
from ..models.freezing import count_parameters, freeze
from ..models.loading import load_as_trained, load_for_concepts, load_model
from ..models.lora import AdaptedSam
from ..models.processors import load_processor_of_model
from ..models.unwrapping import unwrap_sam
from ..options.model import ModelOptions
from ..reporting.metric_specs import METRICS, RENAMED_METRICS, MetricGroup
from ..training.callbacks import EarlyStopping, LogFile
from ..training.training_arguments import SamTrainingArguments
from .key_conversion import to_dataset_options, to_lora_options, to_model_options, to_read_options


logger = logging.getLogger("sam_ft.run")

# Every evaluation computes them where its images allow it.
_EVALUATED = {MetricGroup.PRECISION, MetricGroup.CONCEPT, MetricGroup.REGION, MetricGroup.PHRASE}


def load_data(data_args: SharedDataArguments, *, with_train: bool = True) -> PhraseData:
    """
    Read the data set and log a summary of it.

    Args:
        data_args (`SharedDataArguments`): Keys of the data.
        with_train (`bool`): Whether to read the training split.
    """
    data = load_phrase_dataset(to_dataset_options(data_args), to_read_options(data_args), with_train=with_train)
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
    options = to_model_options(model_args, seed)
    model = (
        load_to_train(model_args, options)
        if to_train
        else load_as_trained(dataclasses.replace(options, quantization=None))
    )
    sam = unwrap_sam(model)
    processor = load_processor_of_model(sam, model_args.model_name_or_path, model_args.model_revision)
    if to_train and any(parameter.requires_grad for parameter in sam.parameters()):  # concepts are added later
        _log_trained_parameters(model_args.model_name_or_path, sam)
    return model, processor


def load_to_train(model_args: SharedModelArguments, options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    """
    Load the model of a training run: add adapters and freeze parts.

    Args:
        model_args (`SharedModelArguments`): Keys of the model.
        options (`ModelOptions`): Options of loading, from [`to_model_options`].

    Raises:
        ValueError: If the keys do not fit each other or the model.
    """
    if options.family == "sam3" and model_args.concept_tokens is not None:
        return load_for_concepts(options, model_args.concept_dropout)
    adapters, family = to_lora_options(model_args), FAMILIES[options.family]
    if adapters is not None:
        return adapt(options, adapters, frozen=model_args.freeze)
    encoders, expand_groups = list(family.encoders), family.parts.expand_groups
    if options.dtype != "float32" and not set(expand_groups(encoders)) <= set(expand_groups(model_args.freeze)):
        raise ValueError(
            f"`dtype: {options.dtype}` is for frozen encoders, because small updates would be rounded to 0. Add "
            f"`freeze: [{', '.join(encoders)}]` or `lora`, or keep float32 weights and set `bf16: true`"
        )
    model = load_model(options)
    freeze(model, model_args.freeze, with_masks=options.with_masks)
    return model


def _log_trained_parameters(name: str, model: PreTrainedModel) -> None:
    counts = count_parameters(model)
    trained, total = (sum(c[i] for c in counts.values()) / 1e6 for i in (0, 1))
    parts = ", ".join(f"{part} {n / 1e6:.2f} M" for part, (n, _) in counts.items() if n)
    side = get_resolution(model.config)
    logger.info("%s at %d px: %.2f of %.2f M parameters are trained (%s)", name, side, trained, total, parts)


def build_callbacks(
    training_args: SamTrainingArguments, data: PhraseData, log_file: str | None
) -> list[TrainerCallback]:
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


def get_data_seed(training_args: SamTrainingArguments) -> int:
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
            f"generated. Leave out `{key}`, or use one data set without `streaming`"
        )


def check_metric(training_args: SamTrainingArguments, names: list[str], examples: str) -> str:
    """
    Check `metric_for_best_model` and return it without its prefix.

    Args:
        training_args (`SamTrainingArguments`): Keys of the training.
        names (`list[str]`): Metrics that every evaluation gives; the first one is suggested for an unknown metric.
        examples (`str`): Metrics to name in the message.

    Raises:
        ValueError: If no evaluation gives the metric, or not every evaluation, or if the metric was renamed.
    """
    metric = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if metric in names:
        return metric
    problem = f"`metric_for_best_model` is {training_args.metric_for_best_model!r}"
    if metric in RENAMED_METRICS:
        new_name = RENAMED_METRICS[metric]
        raise ValueError(
            f"{problem}, which was renamed to `eval_{new_name}`. Choose a metric that every evaluation gives: "
            f"{examples}"
        )
    if metric in METRICS and METRICS[metric].group in _EVALUATED:
        raise ValueError(f"{problem}, which not every evaluation gives. Choose {examples}")
    close_matches = difflib.get_close_matches(metric, names, 1) or [names[0]]
    raise ValueError(f"{problem}, which no evaluation gives. Did you mean `eval_{close_matches[0]}`?")


def set_metric(training_args: SamTrainingArguments, chosen: str) -> None:
    """
    Set the metric that selects the best checkpoint.

    Args:
        training_args (`SamTrainingArguments`): Keys of the training, changed in place.
        chosen (`str`): Metric without prefix.
    """
    if training_args.metric_for_best_model:
        training_args.metric_for_best_model = f"eval_{chosen}"
        training_args.greater_is_better = METRICS[chosen].higher_is_better


def collect_plain_settings(*arguments) -> dict:
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
