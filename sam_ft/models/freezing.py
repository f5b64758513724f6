"""Freezing of model parts."""

import torch

from .families import get_family_of_model
from .parts import strip_wrappers


def freeze(model: torch.nn.Module, parts: list[str], *, with_masks: bool = True) -> None:
    """
    Freeze parts of a model, and all parameters that can get no gradient.

    DistributedDataParallel would wait for the gradients of unused parameters.

    Args:
        model (`Sam3Model` or `Sam2Model`): A model with or without adapters; changed in place.
        parts (`list[str]`): Names of parts and groups of its [`ModelParts`].
        with_masks (`bool`): Whether masks are trained; if not, parts that only masks depend on are frozen.

    Raises:
        `ValueError`: If a name is no part, or no trainable parameter is left.
    """
    prefixes = get_family_of_model(model).parts.get_frozen_prefixes(parts, with_masks=with_masks)
    for name, parameter in model.named_parameters():
        if strip_wrappers(name).startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"`freeze: {parts}` leaves nothing to train. Remove at least one part.")


def count_parameters(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Count the parameters of each part, and of `concepts` if there are any: part -> (trainable, all)."""
    parts = get_family_of_model(model).parts.prefixes
    counts = {}
    for part, prefixes in (parts | {"concepts": ("concepts.",)}).items():
        sizes = [(p.numel(), p.requires_grad) for n, p in model.named_parameters() if n.startswith(prefixes)]
        if sizes or part in parts:
            counts[part] = sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
    return counts
