"""The two kinds of runs: which keys, which trainer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS, Run
from ..arguments.dataset import SharedDataArguments
from ..models.families import SAM2, SAM3, Family
from .build_sam2 import build_sam2_trainer
from .build_sam3 import build_sam3_trainer


# of training, what an evaluation depends on
_OF_EVALUATION = (
    "output_dir", "per_device_eval_batch_size", "dataloader_num_workers", "use_cpu", "bf16", "seed", "num_pictures", "disable_tqdm", "ddp_backend",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        family (`Family`). arguments (`tuple[type, ...]`): of model, data, loss and training.
        build (`Callable`): `(model, processor, data, data_args, loss_args, training_args, *, log_file) -> trainer`.
    """

    family: Family
    arguments: tuple[type, ...]
    build: Callable


KINDS = {
    SAM3.key: Kind(SAM3, SAM3_ARGUMENTS, build_sam3_trainer),
    SAM2.key: Kind(SAM2, SAM2_ARGUMENTS, build_sam2_trainer),
}


def kind_of(run: Run) -> Kind:
    return next(kind for kind in KINDS.values() if isinstance(run.model, kind.arguments[0]))


def run_of(kind: Kind, run: Run, **data) -> Run:
    """A run as one of another kind: what is said of data, device and files for an evaluation stays, the rest is that kind's default."""
    if kind is kind_of(run):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **data))
    model, data_args, loss, training_args = kind.arguments
    names = {f.name for f in dataclasses.fields(SharedDataArguments)} - {
        "cache_views"
    }  # of a cache that holds the other kind's features
    shared = {name: getattr(run.data, name) for name in names}
    kept = {name: getattr(run.training, name) for name in _OF_EVALUATION}
    training = training_args(**kept, report_to=[], eval_strategy="no", save_strategy="no")
    return Run(model(), data_args(**shared | data), loss(), training)
