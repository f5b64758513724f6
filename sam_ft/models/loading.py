"""Loading of models and adapters from a Hub id, a folder, or this package."""

from dataclasses import replace
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from ..options.model import ModelOptions
from .base_loading import load_base
from .concept_sources import read_concept_sources, refuse_concepts
from .families import get_family_of_model
from .finite import NonFiniteError
from .model_files import find_adapter_file
from .quantization import cast_encoders
from .sam3.concept_files import ConceptFile, add_concept_files
from .unwrapping import unwrap_sam


if TYPE_CHECKING:
    from .lora import AdaptedSam


def load_model(options: ModelOptions) -> PreTrainedModel:
    """
    Load SAM 3 or SAM 2. A saved adapter is merged into its base; [`load_adapted`] does not merge it.

    Args:
        options (`ModelOptions`): Name and settings.

    Returns:
        `Sam3ForConceptSegmentation` or `Sam2ForPromptSegmentation`: The model.

    Raises:
        `ValueError`: If the resolution is not a multiple of the patch size, or the name is neither a folder nor a Hub
            id, or as in [`load_adapted`].
    """
    refuse_concepts(options)
    if find_adapter_file(options.model_name_or_path, options.revision) is None:
        return load_base(options)
    # Importing PEFT, with the libraries that it imports, takes 1 s and 60 MB.
    from .adapter_loading import load_adapted
    from .lora import merge_adapters

    model = merge_adapters(load_adapted(replace(options, dtype="float32")))
    cast_encoders(get_family_of_model(model), model, options.dtype)
    return model


def load_as_trained(options: ModelOptions) -> "PreTrainedModel | AdaptedSam":
    """
    Load a model for evaluation, with its concepts.

    An adapter is not merged: a sum with half-precision weights would be rounded.
    """
    base, files = read_concept_sources(options)
    if files:
        return _load_with_concepts(options, base, files)
    if find_adapter_file(options.model_name_or_path, options.revision) is None:
        return load_base(options)
    from .adapter_loading import load_adapted

    return load_adapted(options)


def load_for_concepts(options: ModelOptions, dropout: float) -> "PreTrainedModel | AdaptedSam":
    """
    Load a frozen model for the training of concepts, with those that its options name.

    Args:
        options (`ModelOptions`): A base model, or a folder of concepts; concepts are frozen.
        dropout (`float`): Probability that a token is hidden in a training step.

    Raises:
        `ValueError`: As in [`load_as_trained`].
    """
    model = _load_with_concepts(options, *read_concept_sources(options), dropout)
    return model.requires_grad_(False)


def _load_with_concepts(
    options: ModelOptions, base: ModelOptions, files: list[ConceptFile], dropout: float = 0.0
) -> "PreTrainedModel | AdaptedSam":
    name, revision = base.model_name_or_path, base.revision
    try:
        model = load_as_trained(base)
    except NonFiniteError:
        raise
    except ValueError as error:
        if options.model_name_or_path == name:
            raise
        raise ValueError(
            f"`model_name_or_path`: the concepts {options.model_name_or_path!r} were trained on {name!r}, which "
            f"cannot be loaded. Pass a copy of that model, and the concepts in `concepts`. ({error})"
        ) from error
    add_concept_files(unwrap_sam(model), files, base=name, revision=revision, dropout=dropout)
    return model
