"""Keys and trainer of each model family."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS, Run
from ..arguments.dataset import SharedDataArguments
from ..models.families import SAM2, SAM3, Family
from .build_sam2 import build_sam2_trainer
from .build_sam3 import build_sam3_trainer


# An evaluation uses these keys of the training.
_EVALUATION_KEYS = (
    "output_dir", "per_device_eval_batch_size", "dataloader_num_workers", "use_cpu", "bf16", "seed", "num_pictures",
    "disable_tqdm", "ddp_backend",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """
    Keys and trainer of a model family.

    Attributes:
        family (`Family`): Model family.
        arguments (`tuple[type, ...]`): Dataclasses of the keys of model, data, loss and training.
        build (`Callable`): Function `(model, processor, data, data_args, loss_args, training_args, *, log_file) ->
            trainer`.
    """

    family: Family
    arguments: tuple[type, ...]
    build: Callable


KINDS = {
    SAM3.key: Kind(SAM3, SAM3_ARGUMENTS, build_sam3_trainer),
    SAM2.key: Kind(SAM2, SAM2_ARGUMENTS, build_sam2_trainer),
}


def kind_of(run: Run) -> Kind:
    """Return the kind whose keys a run has."""
    return next(kind for kind in KINDS.values() if isinstance(run.model, kind.arguments[0]))


def run_of(kind: Kind, run: Run, **data) -> Run:
    """
    Convert the keys of a run to another kind, for an evaluation.

    Keys of data, device and files are copied; all others have the defaults of that kind.

    Args:
        kind (`Kind`): Target kind.
        run (`Run`): Keys to convert.
        data: Keys of the data to change.
    """
    if kind is kind_of(run):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **data))
    model, data_args, loss, training_args = kind.arguments
    # A feature cache contains features of the other family.
    names = {field.name for field in dataclasses.fields(SharedDataArguments)} - {"cache_views"}
    shared = {name: getattr(run.data, name) for name in names}
    evaluation = {name: getattr(run.training, name) for name in _EVALUATION_KEYS}
    training = training_args(**evaluation, report_to=[], eval_strategy="no", save_strategy="no")
    return Run(model(), data_args(**shared | data), loss(), training)
