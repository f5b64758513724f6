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
    Transformers' `TrainingArguments` and what SAM 3 and SAM 2 add alike.

    Defaults that differ from `TrainingArguments`: `remove_unused_columns`, `label_names`, `accelerator_config` and
    `logging_nan_inf_filter`, without which Trainer strips, cuts, mixes or hides what the loss needs; clipping at 0.1, workers, an
    evaluation and a checkpoint an epoch, the best one kept.
    """

    per_device_eval_batch_size: int = arg(1, "Images a step and device in evaluation.")
    vision_layer_decay: float = arg(0.9, "Each ViT layer's rate is the next one's times this.")
    weight_decay: float = arg(0.1, "AdamW's decay of all but biases and norms.")
    max_grad_norm: float = arg(0.1, "Gradient clipping.")
    normalizer: str = arg(
        "window",
        "window: losses are divided by the counts of the accumulation window and all processes; batch: by each batch's "
        "own, as the official code.",
        choices=["window", "batch"],
    )
    eval_strategy: str = arg("epoch", 'When to evaluate: "no", steps, epoch.')
    save_strategy: str = arg("epoch", 'When to save: "no", steps, epoch, best.')
    save_total_limit: int | None = arg(2, "Checkpoints kept.")
    load_best_model_at_end: bool = arg(True, "End with the best checkpoint's weights.")
    early_stopping_patience: int | None = arg(10, "Stop after so many evaluations without improvement; null: never.")
    restore_callback_states_from_checkpoint: bool = arg(True, "Early stopping goes on counting after a resume.")
    logging_steps: float = arg(5, "Steps between logs.")
    logging_first_step: bool = arg(True, "Log the first step too.")
    logging_nan_inf_filter: bool = arg(False, "Trainer hides NaN losses by default.")
    report_to: None | str | list[str] = arg("tensorboard", "Loggers: tensorboard, wandb, trackio, none.")
    dataloader_num_workers: int = arg(2, "Processes that load images.")
    remove_unused_columns: bool = arg(False, "Trainer would drop the collator's input.")
    label_names: list[str] | None = arg(["labels"], "Trainer would take box prompts for labels.")
    accelerator_config: dict | str | None = field(
        default_factory=lambda: {"dispatch_batches": False},  # dispatching cuts and mixes targets of unequal size
        metadata={"help": "Accelerate's data loading."},
    )
    ddp_find_unused_parameters: bool | None = arg(False, "Every trained parameter gets a gradient in every step.")
    seed: int = arg(42, "Of every draw.")
    num_pictures: int = arg(4, "Evaluation images drawn with truth and prediction.")
    hub_merged: bool = arg(False, "With `push_to_hub` and `lora`: push the merged weights, too, as NAME-merged.")
    hub_base: str | None = arg(
        None,
        "With `push_to_hub` and `lora` over a base in a folder here: its Hub id, such as facebook/sam3; else NAME-base is pushed along.",
    )
    hub_pictures: bool = arg(
        True, "With `push_to_hub`: the card shows evaluation images. false where they may not be published."
    )
    eval_before: bool = arg(True, "Evaluate once before training, so that there is something to compare with.")
    start_over: bool = arg(
        False,
        "Remove the files that an earlier run wrote into `output_dir`, checkpoints included, and train from the start. Other files there are kept.",
    )
    dry_run: bool = arg(False, "Go through every stage with one step, then stop and leave nothing behind.")

    def __post_init__(self):
        check_ranges(self)
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(
                f"`max_steps` is {self.max_steps}. Leave it out or set -1 to train `num_train_epochs`, or give 1 or more steps"
            )
        if self.bf16 and not torch.accelerator.is_available():
            logger.warning("`bf16: true`, but there is no accelerator here: ignored")
            self.bf16 = False
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        if "no" in (self.eval_strategy, self.save_strategy):
            # there will be no score to choose by, or no checkpoint to choose
            self.load_best_model_at_end, self.early_stopping_patience = False, None
        super().__post_init__()

    def check_optimizer(self) -> None:
        """Raises `ValueError` where the optimizer's package is missing; a run should say so before it reads gigabytes."""
        if any(part in self.optimizer_name() for part in ("8bit", "paged", "bnb")) and not find_spec("bitsandbytes"):
            raise ValueError(
                f"`optim: {self.optimizer_name()}` needs bitsandbytes, which is not installed: `pip install sam-ft[quantization]`, or "
                "`optim: adamw_torch`"
            )

    def optimizer_name(self) -> str:
        return str(getattr(self.optim, "value", self.optim))

    def make_dry(self, folder: str) -> None:
        """One optimizer step, no checkpoint, no logger, everything in `folder`."""
        self.output_dir, self.report_to, self.max_steps, self.gradient_accumulation_steps = folder, [], 1, 1
        self.eval_strategy, self.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
        self.load_best_model_at_end, self.early_stopping_patience = False, None
        self.push_to_hub = False
        self.eval_before, self.num_pictures, self.resume_from_checkpoint = False, 1, None

    def summary(self, model: str, dataset: str | None) -> str:
        """One line that says what this run assumes."""
        window = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
        precision = "bf16" if self.uses_bf16() else "float32"
        length = f"{self.max_steps} steps" if self.max_steps > 0 else f"{self.num_train_epochs:g} epochs"
        rates = self.rates()
        shown = {"": rates.transformer, "vision ": rates.vision, "text ": rates.text}
        listed = " / ".join(f"{part}{rate:g}" for part, rate in shown.items() if rate is not None)
        return (
            f"{model} on {dataset}: {length}, {window} images a step ({self.per_device_train_batch_size} × "
            f"{self.gradient_accumulation_steps} accumulated × {self.world_size} processes), rates {listed}, {precision} on {self.device}, seed "
            f"{self.seed}, output in {self.output_dir}"
        )

    def uses_bf16(self) -> bool:
        """Whether steps run under bf16 autocast, by this class's key or by the Accelerate config."""
        return bool(self.bf16) or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16"

    def rates(self) -> Rates:
        """Learning rates by part."""
        raise NotImplementedError


@dataclass
class Sam3TrainingArguments(SamTrainingArguments):
    """[`SamTrainingArguments`] for SAM 3: batch size 1, accumulation 4, 20 epochs, the official rates and schedule."""

    output_dir: str = arg("out/sam3", "Checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = arg(20.0, "Passes over the training images.")
    per_device_train_batch_size: int = arg(1, "Images a step and device.")
    gradient_accumulation_steps: int = arg(4, "Batches an optimizer step; exact: losses are divided by all instances.")
    learning_rate: float = arg(8e-4, "Rate of everything but the encoders, before `lr_scale`.")
    vision_learning_rate: float = arg(2.5e-4, "Rate of the vision encoder, before `lr_scale`.")
    text_learning_rate: float = arg(5e-5, "Rate of the text encoder, before `lr_scale`.")
    lr_scale: float = arg(0.1, "Factor of all three: 1 is the paper's pre-training, 0.1 its fine-tuning.")
    lr_schedule: str = arg(
        "sam3",
        "sam3: inverse square root with warm-up and cool-down; transformers: `lr_scheduler_type`.",
        choices=["sam3", "transformers"],
    )
    warmup_steps: float = arg(20, "Steps of rising rates; below 1, a share of all steps.")
    timescale_steps: int = arg(20, "sam3 schedule: steps after which the rate falls.")
    cooldown_steps: int = arg(20, "sam3 schedule: steps of falling to 0 at the end.")
    metric_for_best_model: str | None = arg(
        "eval_mask_AP", "What best means: eval_mask_AP, eval_box_AP, eval_cgF1, eval_presence_accuracy, eval_loss, …"
    )
    keep_score_threshold: float = arg(0.05, "Evaluation keeps detections with at least this score.")
    keep_max_detections: int = arg(100, "Evaluation keeps at most this many a phrase.")
    max_false_positives: float | None = arg(
        None,
        "Thresholds of phrases, saved with the model, allow so many false detections an image. Default: those of the best F1.",
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
                    f"`{key}` is {value!r}, which has no effect under `lr_schedule: sam3`. Set `lr_schedule: transformers`, or "
                    f"leave `{key}` out"
                )
        super().__post_init__()

    def rates(self) -> Rates:
        return Rates(
            self.learning_rate * self.lr_scale,
            self.vision_learning_rate * self.lr_scale,
            self.text_learning_rate * self.lr_scale,
            self.vision_layer_decay,
            self.weight_decay,
        )

    def keep(self) -> Keep:
        return Keep(self.keep_score_threshold, self.keep_max_detections)
