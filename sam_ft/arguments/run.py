"""Keys of a training run, grouped by topic."""

from dataclasses import dataclass

from .data import DataArguments
from .dataset import SharedDataArguments
from .loss import LossArguments
from .model import ModelArguments, Sam2ModelArguments, SharedModelArguments
from .sam2 import Sam2DataArguments, Sam2LossArguments, Sam2TrainingArguments
from .training import Sam3TrainingArguments, SamTrainingArguments


SAM3_ARGUMENTS = (ModelArguments, DataArguments, LossArguments, Sam3TrainingArguments)
SAM2_ARGUMENTS = (Sam2ModelArguments, Sam2DataArguments, Sam2LossArguments, Sam2TrainingArguments)


@dataclass
class Run:
    """
    Parsed keys of a training run of SAM 3 or SAM 2.

    Attributes:
        model (`SharedModelArguments`): Keys of the model.
        data (`SharedDataArguments`): Keys of the data.
        loss (`LossArguments` or `Sam2LossArguments`): Keys of the loss.
        training (`SamTrainingArguments`): Keys of the Trainer.
    """

    model: SharedModelArguments
    data: SharedDataArguments
    loss: LossArguments | Sam2LossArguments
    training: SamTrainingArguments

    def groups(self) -> tuple:
        """Return the four groups in the order of `SAM3_ARGUMENTS` and `SAM2_ARGUMENTS`."""
        return self.model, self.data, self.loss, self.training
