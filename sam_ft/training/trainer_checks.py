"""Check for Trainer arguments that the trainers do not support."""

from transformers import Trainer

from ..models.families import get_family_of_model
from ..models.family_spec import resolve


def check_supported(trainer: Trainer) -> None:
    """
    Check that the losses and batches of the project work with the model and the arguments of a trainer.

    Args:
        trainer (`Trainer`): Trainer with its accelerator.

    Raises:
        ValueError: With a model of another family, more than one GPU in one process, fp16, label smoothing, or
            sampling by length.
    """
    args, family = trainer.args, get_family_of_model(trainer.model)
    trainer_class = resolve(family.trainer)
    if not isinstance(trainer, trainer_class):
        raise ValueError(
            f"`model` is a {family.title}, which {type(trainer).__name__} cannot train. Use {trainer_class.__name__}"
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, and DataParallel cannot split these batches. Use "
            "`accelerate launch -m sam_ft …`, which starts one process on each GPU, or set CUDA_VISIBLE_DEVICES to "
            "one of them"
        )
    if args.train_sampling_strategy not in ("random", "sequential"):
        raise ValueError(
            f"`train_sampling_strategy` is {args.train_sampling_strategy!r}, but images have no length to sort by. "
            "Choose random or sequential"
        )
    if args.label_smoothing_factor:
        raise ValueError(
            f"`label_smoothing_factor` is {args.label_smoothing_factor}, but it is for class labels, which this loss "
            "has not. Leave it out"
        )
    if args.fp16 or trainer.accelerator.mixed_precision == "fp16":
        raise ValueError(
            "`fp16` is not supported, because chunked losses cannot be rescaled. Use `bf16: true` or float32"
        )


def check_distillation(trainer: Trainer) -> None:
    """
    Check that each process has the whole model, which a teacher needs.

    Args:
        trainer (`Trainer`): Trainer with its accelerator.

    Raises:
        ValueError: Under FSDP or DeepSpeed.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "`distill_weight` needs the whole model in each process. Use DistributedDataParallel instead of FSDP or "
            "DeepSpeed"
        )
