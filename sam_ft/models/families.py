"""Registry of the model families; a new family is one entry here, made in its own folder."""

import torch
from transformers import PreTrainedConfig

from .family_spec import FamilySpec
from .sam2.family import SAM2
from .sam3.family import SAM3


FAMILIES: dict[str, FamilySpec] = {family.key: family for family in (SAM3, SAM2)}  # by `model_type` of the config
DEFAULT_FAMILY = SAM3  # of a saved model without a config
PACKAGED_MODELS = {family.tiny_name: family.tiny_folder for family in FAMILIES.values()}  # weights in this package
UNTRAINED = {family.random_name: family for family in FAMILIES.values()}
PACKAGE_MODEL_NAMES = (*PACKAGED_MODELS, *UNTRAINED)  # names that only this package resolves


def get_family_of_model(model: torch.nn.Module) -> FamilySpec:
    """Return the family of a model with or without the wrappers of PEFT and DistributedDataParallel."""
    model_types = (getattr(getattr(module, "config", None), "model_type", None) for module in model.modules())
    return next(FAMILIES[model_type] for model_type in model_types if model_type in FAMILIES)


def get_resolution(config: PreTrainedConfig) -> int:
    """Return the input resolution of a model's config: the side of the square input in pixels."""
    return FAMILIES[config.model_type].get_resolution(config)
