"""Model family of a run, and conversion of its keys for the evaluation of a model of another family."""

import dataclasses

from ..arguments.dataset import SharedDataArguments
from ..models.families import FAMILIES
from ..models.family_spec import FamilySpec, resolve
from .run import Run


# An evaluation uses these keys of the training.
_EVALUATION_KEYS = (
    "output_dir", "per_device_eval_batch_size", "dataloader_num_workers", "use_cpu", "bf16", "seed", "num_pictures",
    "disable_tqdm", "ddp_backend",
)  # fmt: skip


def get_family_of_run(run: Run) -> FamilySpec:
    """Return the family whose keys a run has."""
    return FAMILIES[run.model.family]


def convert_run(run: Run, family: FamilySpec, **data) -> Run:
    """
    Convert the keys of a run to those of a family, for an evaluation.

    Keys of data, device and files are copied; all others have the defaults of that family.

    Args:
        run (`Run`): Keys to convert.
        family (`FamilySpec`): Target family.
        data: Keys of the data to change.
    """
    if family is get_family_of_run(run):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **data))
    model, data_args, loss, training_args = resolve(family.arguments)
    # A feature cache contains features of the other family.
    names = {field.name for field in dataclasses.fields(SharedDataArguments)} - {"cache_views"}
    shared = {name: getattr(run.data, name) for name in names}
    evaluation = {name: getattr(run.training, name) for name in _EVALUATION_KEYS}
    training = training_args(**evaluation, report_to=[], eval_strategy="no", save_strategy="no")
    return Run(model(), data_args(**shared | data), loss(), training)
