"""Keys of a training run, with Transformers' training arguments built from them."""

from dataclasses import dataclass

from ..arguments import (
    DataArguments,
    LossArguments,
    ModelArguments,
    ParsedTraining,
    Sam2DataArguments,
    Sam2LossArguments,
    Sam2ModelArguments,
)
from ..arguments.dataset import SharedDataArguments
from ..arguments.model import SharedModelArguments
from ..models.families import FAMILIES
from ..models.family_spec import resolve
from ..options.keys import check_choice
from ..training.training_arguments import Sam2TrainingArguments, Sam3TrainingArguments, SamTrainingArguments


# Dataclasses of the four groups of a run; the families name them.
SAM3_GROUPS = (ModelArguments, DataArguments, LossArguments, Sam3TrainingArguments)
SAM2_GROUPS = (Sam2ModelArguments, Sam2DataArguments, Sam2LossArguments, Sam2TrainingArguments)


@dataclass
class Run:
    """
    Parsed keys of a training run of SAM 3 or SAM 2.

    Attributes:
        model (`SharedModelArguments`): Keys of the model.
        data (`SharedDataArguments`): Keys of the data.
        loss (`LossArguments` or `Sam2LossArguments`): Keys of the loss.
        training (`SamTrainingArguments`): Arguments of the Trainer.
    """

    model: SharedModelArguments
    data: SharedDataArguments
    loss: LossArguments | Sam2LossArguments
    training: SamTrainingArguments

    def groups(self) -> tuple:
        """Return the four groups in the order of `SAM3_GROUPS` and `SAM2_GROUPS`."""
        return self.model, self.data, self.loss, self.training


def build_run(model, data, loss, training: ParsedTraining) -> Run:
    """
    Build a run from the result of [`RecipeParser.parse`].

    Args:
        model (`SharedModelArguments`): Keys of the model.
        data (`SharedDataArguments`): Keys of the data.
        loss (`LossArguments` or `Sam2LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Values of the keys of training.

    Raises:
        ValueError: If `TrainingArguments` of Transformers refuses a value.
    """
    return Run(model, data, loss, build_training_arguments(training))


def build_training_arguments(training: ParsedTraining) -> SamTrainingArguments:
    """
    Build Transformers' training arguments.

    Args:
        training (`ParsedTraining`): Values of the keys of training.

    Raises:
        ValueError: If `TrainingArguments` of Transformers refuses a value.
    """
    classes = (resolve(family.arguments)[-1] for family in FAMILIES.values())
    arguments = next(cls for cls in classes if issubclass(cls, type(training.keys)))
    for name, value in training.transformers.items():
        # The parser reads Transformers' source, which contains the choices of some keys only as expressions.
        choices = arguments.__dataclass_fields__[name].metadata.get("choices")
        if choices is not None and value is not None:
            check_choice(name, value, list(choices))
    return arguments(**vars(training.keys), **training.transformers)
