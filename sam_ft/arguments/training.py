"""Keys of the training run."""

import logging
import os
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..models.outputs import Keep
from ..optim.parameter_groups import Rates
from .base import arg, check_ranges


logger = logging.getLogger(__name__)


@dataclass
class SamTrainingArguments(TrainingArguments):
    """
    Transformers' `TrainingArguments` with the keys and defaults that SAM 3 and SAM 2 share.

    The loss needs other defaults than `TrainingArguments` for `remove_unused_columns`, `label_names`,
    `accelerator_config` and `logging_nan_inf_filter`. Further defaults: gradient clipping at 0.1, two data workers,
    one evaluation and one checkpoint per epoch, and the best checkpoint at the end.
    """

    per_device_eval_batch_size: int = arg(1, "Number of images per step and device in evaluation, at least 1.")
    vision_layer_decay: float = arg(
        0.9,
        "Layer-wise learning-rate decay of the ViT, 0 to 1: the learning rate of a layer is this factor times that of "
        "the layer behind it.",
    )
    weight_decay: float = arg(0.1, "Weight decay of AdamW, at least 0; biases and normalization layers have none.")
    max_grad_norm: float = arg(0.1, "Maximum gradient norm for gradient clipping; 0 clips nothing.")
    normalizer: str = arg(
        "window",
        "Counts by which the losses are divided. window: those of the accumulation window over all processes; batch: "
        "those of each batch, as in the official code.",
        choices=["window", "batch"],
    )
    eval_strategy: str = arg("epoch", 'Interval of evaluations: "no", steps or epoch.')
    save_strategy: str = arg("epoch", 'Interval of checkpoints: "no", steps, epoch or best.')
    save_total_limit: int | None = arg(2, "Maximum number of checkpoints on disk; null keeps all.")
    load_best_model_at_end: bool = arg(True, "Load the weights of the best checkpoint at the end of training.")
    early_stopping_patience: int | None = arg(
        10, "Number of evaluations without improvement after which training stops; null never stops early."
    )
    restore_callback_states_from_checkpoint: bool = arg(
        True, "Restore the state of callbacks, such as the count of early stopping, when training resumes."
    )
    logging_steps: float = arg(5, "Number of steps between log lines; a value below 1 is a fraction of all steps.")
    logging_first_step: bool = arg(True, "Log the first step as well.")
    logging_nan_inf_filter: bool = arg(False, "Leave NaN and infinite losses out of the logged mean.")
    report_to: None | str | list[str] = arg(
        "tensorboard", "Loggers, one or several: tensorboard, wandb, trackio or none."
    )
    dataloader_num_workers: int = arg(2, "Number of processes that load images; 0 loads them in the main process.")
    remove_unused_columns: bool = arg(
        False,
        "Remove data columns that the model's forward does not take; the collator needs them, so leave it false.",
    )
    label_names: list[str] | None = arg(
        ["labels"], "Names of the batch entries that contain labels; the default excludes box prompts."
    )
    accelerator_config: dict | str | None = field(
        default_factory=lambda: {"dispatch_batches": False},  # Dispatching would split targets of unequal size.
        metadata={"help": "Options of Accelerate's data loading, as a mapping or a JSON file."},
    )
    ddp_find_unused_parameters: bool | None = arg(
        False,
        "Find parameters without gradient in each step of DistributedDataParallel; not needed, because all trained "
        "parameters get one.",
    )
    seed: int = arg(
        42, "Random seed of the run: new weights, order, phrases, prompts and augmentation; 0 to 2^32 − 1."
    )
    num_pictures: int = arg(
        4, "Number of evaluation images that are drawn with ground truth and prediction; 0 draws none."
    )
    hub_merged: bool = arg(False, "Also push the merged weights as NAME-merged, with `push_to_hub` and `lora`.")
    hub_base: str | None = arg(
        None,
        "Hub id of the base model, such as facebook/sam3, with `push_to_hub`, `lora` and a base model in a local "
        "folder. Default: the base is pushed as NAME-base.",
    )
    hub_pictures: bool = arg(
        True,
        "Show evaluation images in the model card with `push_to_hub`; set it to false if they must not be published.",
    )
    eval_before: bool = arg(
        True, "Evaluate the initial model before training, for the comparison of before and after."
    )
    start_over: bool = arg(
        False,
        "Remove the files that an earlier run wrote to `output_dir`, checkpoints included, and train from the start; "
        "other files in the folder are kept.",
    )
    dry_run: bool = arg(False, "Run every stage with one optimizer step, then stop and remove all output.")

    def __post_init__(self):
        check_ranges(self)
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(
                f"`max_steps` is {self.max_steps}. Leave it out or set -1 to train `num_train_epochs`, or set 1 or "
                "more steps"
            )
        if self.bf16 and not torch.accelerator.is_available():
            logger.warning("`bf16: true` is ignored, because there is no accelerator here")
            self.bf16 = False
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
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
        if any(part in self.optimizer_name() for part in ("8bit", "paged", "bnb")) and not find_spec("bitsandbytes"):
            raise ValueError(
                f"`optim: {self.optimizer_name()}` needs bitsandbytes, which is not installed. Run `pip install "
                "sam-ft[quantization]`, or set `optim: adamw_torch`"
            )

    def optimizer_name(self) -> str:
        """Return `optim` as text."""
        return str(getattr(self.optim, "value", self.optim))

    def make_dry(self, folder: str) -> None:
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
        Summarize length, batch size, learning rates, precision and device of the run in one line.

        Args:
            model (`str`): Name of the model.
            dataset (`str`, *optional*): Name of the data set.
        """
        window = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
        precision = "bf16" if self.uses_bf16() else "float32"
        length = f"{self.max_steps} steps" if self.max_steps > 0 else f"{self.num_train_epochs:g} epochs"
        rates = self.rates()
        rate_of_part = {"": rates.transformer, "vision ": rates.vision, "text ": rates.text}
        rate_text = " / ".join(f"{part}{rate:g}" for part, rate in rate_of_part.items() if rate is not None)
        return (
            f"{model} on {dataset}: {length}, {window} images per step ({self.per_device_train_batch_size} × "
            f"{self.gradient_accumulation_steps} accumulated × {self.world_size} processes), learning rates "
            f"{rate_text}, {precision} on {self.device}, seed {self.seed}, output in {self.output_dir}"
        )

    def uses_bf16(self) -> bool:
        """Return whether steps run under bf16 autocast, set by `bf16` or by the Accelerate config."""
        return bool(self.bf16) or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16"

    def rates(self) -> Rates:
        """Return the learning rates by part."""
        raise NotImplementedError


@dataclass
class Sam3TrainingArguments(SamTrainingArguments):
    """[`SamTrainingArguments`] for SAM 3: batch size 1, accumulation 4, 20 epochs, the official rates and schedule."""

    output_dir: str = arg("out/sam3", "Output folder of checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = arg(20.0, "Number of training epochs, at least 0.01.")
    per_device_train_batch_size: int = arg(1, "Number of training images per step and device, at least 1.")
    gradient_accumulation_steps: int = arg(
        4,
        "Number of batches per optimizer step, at least 1. Losses are divided by the instances of all of them, so "
        "that the step equals one large batch.",
    )
    learning_rate: float = arg(
        8e-4, "Learning rate of all parts but the encoders, at least 0; multiplied by `lr_scale`."
    )
    vision_learning_rate: float = arg(
        2.5e-4, "Learning rate of the vision encoder, at least 0; multiplied by `lr_scale`."
    )
    text_learning_rate: float = arg(5e-5, "Learning rate of the text encoder, at least 0; multiplied by `lr_scale`.")
    lr_scale: float = arg(
        0.1, "Factor of all three learning rates, at least 0: 1 is the paper's pre-training, 0.1 its fine-tuning."
    )
    lr_schedule: str = arg(
        "sam3",
        "Learning rate schedule. sam3: inverse square root with warm-up and cool-down; transformers: the schedule of "
        "`lr_scheduler_type`.",
        choices=["sam3", "transformers"],
    )
    warmup_steps: float = arg(20, "Number of warm-up steps; a value below 1 is a fraction of all steps.")
    timescale_steps: int = arg(
        20,
        "Timescale of the inverse square root decay with `lr_schedule: sam3`, in steps, at least 1.",
    )
    cooldown_steps: int = arg(
        20,
        "Number of steps at the end of training over which the learning rate falls to 0, with `lr_schedule: sam3`.",
    )
    metric_for_best_model: str | None = arg(
        "eval_mask_AP",
        "Metric that selects the best checkpoint: eval_mask_AP, eval_box_AP, eval_cgF1, eval_presence_accuracy, "
        "eval_loss, or another metric of the evaluation.",
    )
    keep_score_threshold: float = arg(0.05, "Minimum score of a detection in evaluation, 0 to 1.")
    keep_max_detections: int = arg(100, "Maximum number of detections per phrase and image in evaluation, at least 1.")
    max_false_positives: float | None = arg(
        None,
        "Number of false detections per image that the saved score thresholds of the phrases allow, at least 0. "
        "Default: thresholds with the best F1.",
    )

    def __post_init__(self):
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

    def rates(self) -> Rates:
        """Return the learning rates by part, multiplied by `lr_scale`."""
        return Rates(
            self.learning_rate * self.lr_scale,
            self.vision_learning_rate * self.lr_scale,
            self.text_learning_rate * self.lr_scale,
            self.vision_layer_decay,
            self.weight_decay,
        )

    def keep(self) -> Keep:
        """Return score threshold and number of the detections in evaluation."""
        return Keep(self.keep_score_threshold, self.keep_max_detections)
