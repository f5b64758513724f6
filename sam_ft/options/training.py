"""Keys of a training run: those that Transformers lacks, and those whose defaults differ from Transformers'."""

from dataclasses import dataclass
from typing import ClassVar

from .evaluation import DetectionLimits
from .keys import key, key_of
from .optim import LearningRates


@dataclass
class HubKeys:
    """Keys of the upload to the Hub."""

    key_topic: ClassVar[str] = "Hub"

    hub_merged: bool = key(False, "Also push the merged weights as NAME-merged, with `push_to_hub` and `lora`.")
    hub_base: str | None = key(
        None,
        "Hub id of the base model, such as facebook/sam3, with `push_to_hub`, `lora` and a base model in a local "
        "folder. Default: the base is pushed as NAME-base.",
    )
    hub_pictures: bool = key(
        True,
        "Show evaluation images in the model card with `push_to_hub`; set it to false if they must not be published.",
    )


@dataclass
class EvaluationKeys:
    """Keys of the evaluation during training."""

    key_topic: ClassVar[str] = "Evaluation"

    per_device_eval_batch_size: int = key(1, "Number of images per step and device in evaluation, at least 1.", low=1)
    eval_accumulation_steps: int | None = key(
        None, "Number of evaluation steps between transfers of the predictions to the CPU, at least 1.", low=1
    )
    eval_strategy: str = key("epoch", 'Interval of evaluations: "no", steps or epoch.')
    eval_before: bool = key(
        True, "Evaluate the initial model before training, for the comparison of before and after."
    )
    num_pictures: int = key(
        4, "Number of evaluation images that are drawn with ground truth and prediction; 0 draws none.", low=0
    )
    metric_for_best_model: str | None = key(
        "eval_mask_AP",
        "Metric that selects the best checkpoint: eval_mask_AP, eval_box_AP, eval_cgF1, eval_presence_accuracy, "
        "eval_loss, or another metric of the evaluation.",
    )
    load_best_model_at_end: bool = key(True, "Load the weights of the best checkpoint at the end of training.")
    early_stopping_patience: int | None = key(
        10, "Number of evaluations without improvement after which training stops; null never stops early."
    )


@dataclass
class SamTrainingKeys(HubKeys, EvaluationKeys):
    """Keys of a training run that SAM 3 and SAM 2 share."""

    key_topic: ClassVar[str] = "Training"

    output_dir: str = key("out/sam3", "Output folder of checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = key(20.0, "Number of training epochs, at least 0.01.", low=0.01)
    per_device_train_batch_size: int = key(1, "Number of training images per step and device, at least 1.", low=1)
    gradient_accumulation_steps: int = key(
        4,
        "Number of batches per optimizer step, at least 1. Losses are divided by the instances of all of them, so "
        "that the step equals one large batch.",
        low=1,
    )
    vision_layer_decay: float = key_of(LearningRates, "vision_layer_decay")
    weight_decay: float = key_of(LearningRates, "weight_decay")
    warmup_steps: float = key(20, "Number of warm-up steps; a value below 1 is a fraction of all steps.", low=0)
    max_grad_norm: float = key(0.1, "Maximum gradient norm for gradient clipping; 0 clips nothing.", low=0)
    normalizer: str = key(
        "window",
        "Counts by which the losses are divided. window: those of the accumulation window over all processes; batch: "
        "those of each batch, as in the official code.",
        choices=("window", "batch"),
    )
    seed: int = key(
        42,
        "Random seed of the run: new weights, order, phrases, prompts and augmentation; 0 to 2^32 − 1.",
        low=0,
        high=2**32 - 1,
    )
    save_strategy: str = key("epoch", 'Interval of checkpoints: "no", steps, epoch or best.')
    save_total_limit: int | None = key(2, "Maximum number of checkpoints on disk; null keeps all.")
    restore_callback_states_from_checkpoint: bool = key(
        True, "Restore the state of callbacks, such as the count of early stopping, when training resumes."
    )
    start_over: bool = key(
        False,
        "Remove the files that an earlier run wrote to `output_dir`, checkpoints included, and train from the start; "
        "other files in the folder are kept.",
    )
    dry_run: bool = key(False, "Run every stage with one optimizer step, then stop and remove all output.")
    logging_steps: float = key(5, "Number of steps between log lines; a value below 1 is a fraction of all steps.")
    logging_first_step: bool = key(True, "Log the first step as well.")
    logging_nan_inf_filter: bool = key(False, "Leave NaN and infinite losses out of the logged mean.")
    report_to: None | str | list[str] = key(
        "tensorboard", "Trackers, one or several: tensorboard, wandb, trackio, mlflow or none."
    )
    dataloader_num_workers: int = key(2, "Number of processes that load images; 0 loads them in the main process.")
    remove_unused_columns: bool = key(
        False,
        "Remove data columns that the model's forward does not take; the collator needs them, so leave it false.",
    )
    label_names: list[str] | None = key(
        ["labels"], "Names of the batch entries that contain labels; the default excludes box prompts."
    )
    # Dispatching would split targets of unequal size.
    accelerator_config: dict | str | None = key(
        {"dispatch_batches": False}, "Options of Accelerate's data loading, as a mapping or a JSON file."
    )
    ddp_find_unused_parameters: bool | None = key(
        False,
        "Find parameters without gradient in each step of DistributedDataParallel; not needed, because all trained "
        "parameters get one.",
    )


@dataclass
class Sam3EvaluationKeys:
    """Keys of the evaluation of SAM 3 during training."""

    key_topic: ClassVar[str] = "Evaluation"

    eval_score_threshold: float = key_of(DetectionLimits, "eval_score_threshold")
    eval_max_detections: int = key_of(DetectionLimits, "eval_max_detections")
    max_false_positives: float | None = key(
        None,
        "Number of false detections per image that the saved score thresholds of the phrases allow, at least 0. "
        "Default: thresholds with the best F1.",
        low=0,
    )


@dataclass
class Sam3TrainingKeys(Sam3EvaluationKeys, SamTrainingKeys):
    """Keys of a training run of SAM 3: batch size 1, accumulation 4, 20 epochs, the official rates and schedule."""

    key_topic: ClassVar[str] = "Training"

    learning_rate: float = key(
        8e-4, "Learning rate of all parts but the encoders, at least 0; multiplied by `lr_scale`.", low=0
    )
    vision_learning_rate: float = key(
        2.5e-4, "Learning rate of the vision encoder, at least 0; multiplied by `lr_scale`.", low=0
    )
    text_learning_rate: float = key(
        5e-5, "Learning rate of the text encoder, at least 0; multiplied by `lr_scale`.", low=0
    )
    lr_scale: float = key(
        0.1,
        "Factor of all three learning rates, at least 0: 1 is the paper's pre-training, 0.1 its fine-tuning.",
        low=0,
    )
    lr_schedule: str = key(
        "sam3",
        "Learning rate schedule. sam3: inverse square root with warm-up and cool-down; transformers: the schedule of "
        "`lr_scheduler_type`.",
        choices=("sam3", "transformers"),
    )
    timescale_steps: int = key(
        20,
        "Timescale of the inverse square root decay with `lr_schedule: sam3`, in steps, at least 1.",
        low=1,
    )
    cooldown_steps: int = key(
        20,
        "Number of steps at the end of training over which the learning rate falls to 0, with `lr_schedule: sam3`.",
        low=0,
    )


@dataclass
class Sam2TrainingKeys(SamTrainingKeys):
    """Keys of a training run of SAM 2: batch size 2, 50 epochs, one rate, cosine to a tenth without warm-up."""

    output_dir: str = key_of(SamTrainingKeys, "output_dir", "out/sam2")
    num_train_epochs: float = key_of(SamTrainingKeys, "num_train_epochs", 50.0)
    per_device_train_batch_size: int = key_of(SamTrainingKeys, "per_device_train_batch_size", 2)
    gradient_accumulation_steps: int = key_of(
        SamTrainingKeys,
        "gradient_accumulation_steps",
        1,
        "Number of batches per optimizer step, at least 1. Losses are divided by the objects of all of them, so that "
        "the step equals one large batch.",
    )
    learning_rate: float = key(1e-4, "Learning rate of all parts but the image encoder, at least 0.", low=0)
    vision_learning_rate: float | None = key(
        None, "Learning rate of the image encoder's trunk and neck, at least 0. Default: `learning_rate`.", low=0
    )
    lr_scheduler_type: str = key(
        "cosine_with_min_lr", "Learning rate schedule, a scheduler type of Transformers such as linear or cosine."
    )
    lr_scheduler_kwargs: dict | str | None = key(
        None,
        "Arguments of `lr_scheduler_type`. Default: {min_lr_rate: 0.1} for cosine_with_min_lr, none for the others.",
    )
    warmup_steps: float = key_of(SamTrainingKeys, "warmup_steps", 0)
    metric_for_best_model: str | None = key_of(
        EvaluationKeys,
        "metric_for_best_model",
        "eval_object_IoU",
        "Metric that selects the best checkpoint: eval_object_IoU, eval_IoU@5, eval_IoU@box, eval_loss, or another "
        "metric of the evaluation.",
    )
