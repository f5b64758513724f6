"""All that a run is made of."""

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
    """A run's keys, of SAM 3 or of SAM 2."""

    model: SharedModelArguments
    data: SharedDataArguments
    loss: LossArguments | Sam2LossArguments
    training: SamTrainingArguments

    def groups(self) -> tuple:
        return self.model, self.data, self.loss, self.training
