"""From arguments to data, a model and what every trainer is built of: fine-tuning and evaluation, SAM 3 and SAM 2 alike."""

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
    """Reads the data set and says what was understood."""
    data = load_phrase_dataset(data_args.dataset(), data_args.reading(), with_train=with_train)
    for line in data.lines():
        logger.info("%s", line)
    return data


def load_sam(
    model_args: SharedModelArguments, seed: int, *, to_train: bool = True
) -> tuple[PreTrainedModel | AdaptedSam, ProcessorMixin]:
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
    sam = sam_of(model)
    processor = processor_of(sam, model_args.model_name_or_path, model_args.model_revision)
    if to_train:
        _say_what_is_trained(model_args.model_name_or_path, sam)
    return model, processor


def _to_train(model_args: SharedModelArguments, options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    adapters, anatomy = model_args.adapters(), ANATOMIES[options.family.key]
    if adapters is not None:
        return adapt(options, adapters, frozen=model_args.freeze)
    encoders = list(options.family.encoders)
    if options.dtype != "float32" and not set(anatomy.parts_of(encoders)) <= set(anatomy.parts_of(model_args.freeze)):
        raise ValueError(
            f"`dtype: {options.dtype}` is for frozen encoders: small steps would be rounded away. Add `freeze: "
            f"[{', '.join(encoders)}]` or `lora`, or keep float32 weights and set `bf16: true`"
        )
    model = load_model(options)
    freeze(model, model_args.freeze, with_masks=model_args.train_masks)
    return model


def _say_what_is_trained(name: str, model: PreTrainedModel) -> None:
    counts = count_parameters(model)
    trained, total = (sum(c[i] for c in counts.values()) / 1e6 for i in (0, 1))
    parts = ", ".join(f"{part} {n / 1e6:.2f} M" for part, (n, _) in counts.items() if n)
    logger.info(
        "%s at %d px: %.2f of %.2f M parameters are trained (%s)", name, side_of(model.config), trained, total, parts
    )


def callbacks_of(training_args: SamTrainingArguments, data: PhraseData, log_file: str | None) -> list[TrainerCallback]:
    """A log file, and early stopping where the run trains and asks for it."""
    callbacks = [LogFile(log_file)] if log_file else []
    if data.train is not None and training_args.early_stopping_patience:
        callbacks.append(EarlyStopping(training_args.early_stopping_patience))
    return callbacks


def data_seed(training_args: SamTrainingArguments) -> int:
    """Of the draws of training samples."""
    return training_args.data_seed if training_args.data_seed is not None else training_args.seed


def refuse_cache_of_streams(key: str, data: PhraseData) -> None:
    """Raises `ValueError` where rows are made when they are asked for."""
    if not isinstance(data.train, Dataset):
        raise ValueError(f"`{key}` needs a data set that is read whole; this one is streamed, mixed or drawn anew")


def check_metric(training_args: SamTrainingArguments, names: list[str], examples: str) -> str:
    """
    `metric_for_best_model` without its prefix.

    Raises:
        `ValueError`: where no evaluation, or not every one, gives it. `examples`: those to choose from.
    """
    wanted = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if wanted in names:
        return wanted
    if wanted in SUMMARY_NAMES or wanted.endswith(("_trained", "_other")):
        raise ValueError(
            f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which not every evaluation gives: choose {examples}"
        )
    near = difflib.get_close_matches(wanted, names, 1) or [names[1]]
    raise ValueError(
        f"`metric_for_best_model` is {training_args.metric_for_best_model!r}, which no evaluation gives. Did you mean `eval_{near[0]}`?"
    )


def set_metric(training_args: SamTrainingArguments, chosen: str) -> None:
    """The best checkpoint is chosen by this one."""
    if training_args.metric_for_best_model:
        training_args.metric_for_best_model = f"eval_{chosen}"
        training_args.greater_is_better = chosen not in LOWER_IS_BETTER


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
