"""Transformers' `TrainingArguments` with the keys and defaults of this package."""

import logging
import os
from collections.abc import Container
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import is_torch_tf32_available

from ..options.keys import check_values
from ..options.optim import LearningRates
from ..options.training import Sam2TrainingKeys, Sam3TrainingKeys, SamTrainingKeys
from ..utils.text import count_noun


logger = logging.getLogger(__name__)

TRACKERS = ("wandb", "trackio", "mlflow")  # names of `report_to` that are those of packages


@dataclass
class SamTrainingArguments(SamTrainingKeys, TrainingArguments):  # type: ignore[misc]  # `output_dir` is never None here
    """
    Transformers' `TrainingArguments` with the keys and defaults that SAM 3 and SAM 2 share.

    On a GPU, batches are copied without waiting (`accelerator_config`), and float32 products run in TF32 (`tf32`), as
    in the official code: float32 modules and their backward passes would otherwise take a tenth of the time of a step.

    The loss needs other defaults than `TrainingArguments` for `remove_unused_columns`, `label_names`,
    `accelerator_config` and `logging_nan_inf_filter`. Further defaults: gradient clipping at 0.1, two data workers,
    one evaluation and one checkpoint per epoch, and the best checkpoint at the end.
    """

    def __post_init__(self) -> None:
        check_values(self)
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(
                f"`max_steps` is {self.max_steps}. Leave it out or set -1 to train `num_train_epochs`, or set 1 or "
                "more steps"
            )
        if self.bf16 and not torch.accelerator.is_available():
            logger.warning("`bf16: true` is ignored, because there is no accelerator here")
            self.bf16 = False
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        if self.dataloader_pin_memory and isinstance(self.accelerator_config, dict):
            self.accelerator_config = {"non_blocking": True, **self.accelerator_config}
        if self.tf32 is None and is_torch_tf32_available():
            self.tf32 = True
        if "no" in (self.eval_strategy, self.save_strategy):
            # The best checkpoint and early stopping both need a metric and a checkpoint.
            self.load_best_model_at_end, self.early_stopping_patience = False, None
        super().__post_init__()

    def check_optimizer(self) -> None:
        """
        Check that the package of the optimizer is installed, before a run loads data and model.

        Raises:
            ValueError: If `optim` needs bitsandbytes and it is missing.
        """
        name = self.get_optimizer_name()
        if any(part in name for part in ("8bit", "paged", "bnb")) and not find_spec("bitsandbytes"):
            raise ValueError(
                f"`optim: {name}` needs bitsandbytes, which is not installed. Run `pip install "
                "sam-ft[quantization]`, or set `optim: adamw_torch`"
            )

    def check_trackers(self) -> None:
        """
        Check that the packages of `report_to` are installed, before a run loads data and model.

        Raises:
            ValueError: If one of them is missing.
        """
        for name in self.report_to or ():
            if name in TRACKERS and not find_spec(name):
                raise ValueError(
                    f"`report_to: {name}` needs the package {name}, which is not installed. Run `pip install {name}`, "
                    "or leave it out"
                )

    def get_optimizer_name(self) -> str:
        """Return `optim` as text."""
        return str(getattr(self.optim, "value", self.optim))

    def reduce_to_dry_run(self, folder: str) -> None:
        """
        Reduce the run to one optimizer step without checkpoint, logger and Hub upload.

        Args:
            folder (`str`): Temporary folder that replaces `output_dir`.
        """
        self.output_dir, self.report_to, self.max_steps, self.gradient_accumulation_steps = folder, [], 1, 1
        self.eval_strategy, self.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
        self.load_best_model_at_end, self.early_stopping_patience = False, None
        self.push_to_hub = False
        self.eval_before, self.num_pictures, self.resume_from_checkpoint = False, 1, None

    def summary(self, model: str, dataset: str | None) -> str:
        """
        Summarize schedule, precision and device of the run in one line.

        Args:
            model (`str`): Name of the model.
            dataset (`str`, *optional*): Name of the data set.
        """
        precision = "bf16" if self.uses_bf16() else "float32"
        return (
            f"{model} on {dataset}: {self.describe_schedule()}, {precision} on {self.device}, output in "
            f"{self.output_dir}"
        )

    def describe_schedule(self, trained: Container[str] = ("vision", "text")) -> str:
        """
        Describe length, images per step, learning rates and seed of the run.

        Args:
            trained (`Container[str]`): Trained encoders, of `vision` and `text`; other rates are left out.
        """
        window = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
        length = f"{self.max_steps} steps" if self.max_steps > 0 else f"{self.num_train_epochs:g} epochs"
        rates = self.get_learning_rates()
        of_encoders = {"vision": rates.vision, "text": rates.text}
        texts = [f"{part} {rate:g}" for part, rate in of_encoders.items() if rate is not None and part in trained]
        of_parts = f" ({', '.join(texts)})" if texts else ""
        factors = {"accumulated": self.gradient_accumulation_steps, "processes": self.world_size}
        product = "".join(f" × {number} {unit}" for unit, number in factors.items() if number > 1)
        images = f"{count_noun(window, 'image')} per step"
        images += f" ({self.per_device_train_batch_size}{product})" if product else ""
        return f"{length}, {images}, learning rate {rates.transformer:g}{of_parts}, seed {self.seed}"

    def uses_bf16(self) -> bool:
        """Return whether steps run under bf16 autocast, set by `bf16` or by the Accelerate config."""
        return bool(self.bf16) or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16"

    def get_learning_rates(self) -> LearningRates:
        """Return the learning rates by part."""
        raise NotImplementedError


@dataclass
class Sam3TrainingArguments(Sam3TrainingKeys, SamTrainingArguments):  # type: ignore[misc]  # `output_dir` is never None here
    """[`SamTrainingArguments`] for SAM 3: batch size 1, accumulation 4, 20 epochs, the official rates and schedule."""

    def __post_init__(self) -> None:
        schedule = str(getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type))
        without_effect = {
            "lr_scheduler_type": None if schedule == "linear" else schedule,
            "lr_scheduler_kwargs": self.lr_scheduler_kwargs or None,
        }
        for key, value in without_effect.items():
            if self.lr_schedule == "sam3" and value not in (None, "{}", "null"):
                raise ValueError(
                    f"`{key}` is {value!r}, which has no effect under `lr_schedule: sam3`. Set `lr_schedule: "
                    f"transformers`, or leave `{key}` out"
                )
        super().__post_init__()

    def get_learning_rates(self) -> LearningRates:
        """Return the learning rates by part, multiplied by `lr_scale`."""
        return LearningRates(
            self.learning_rate * self.lr_scale,
            self.vision_learning_rate * self.lr_scale,
            self.text_learning_rate * self.lr_scale,
            self.vision_layer_decay,
            self.weight_decay,
        )


@dataclass
class Sam2TrainingArguments(Sam2TrainingKeys, SamTrainingArguments):  # type: ignore[misc]  # `output_dir` is never None here
    """[`SamTrainingArguments`] for SAM 2: batch size 2, 50 epochs, one rate, cosine to a tenth without warm-up."""

    def __post_init__(self) -> None:
        if self.lr_scheduler_kwargs is None and self.lr_scheduler_type == "cosine_with_min_lr":
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()

    def get_learning_rates(self) -> LearningRates:
        """Return the learning rates by part."""
        vision = self.learning_rate if self.vision_learning_rate is None else self.vision_learning_rate
        return LearningRates(self.learning_rate, vision, None, self.vision_layer_decay, self.weight_decay)
