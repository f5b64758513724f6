"""What of a model is trained."""

import torch

from .anatomy import anatomy_of, plain_name


def freeze(model: torch.nn.Module, parts: list[str], *, with_masks: bool = True) -> None:
    """
    Freezes the named parts, and every parameter that this run could give no gradient, so that DistributedDataParallel
    never waits for one.

    Args:
        model (`Sam3Model` or `Sam2Model`), with or without adapters.
        parts (`list[str]`): names of parts and groups of its [`Anatomy`].
        with_masks (`bool`): whether masks are trained; if not, what only they need is frozen too.

    Raises:
        `ValueError`: on a name that is no part, or where nothing is left to train.
    """
    prefixes = anatomy_of(model).prefixes_of(parts, with_masks=with_masks)
    for name, parameter in model.named_parameters():
        if plain_name(name).startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"`freeze: {parts}` leaves nothing to train. Remove at least one part.")


def count_parameters(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """For each part of the model: (trainable, all) parameters."""
    counts = {}
    for part, prefixes in anatomy_of(model).parts.items():
        sizes = [(p.numel(), p.requires_grad) for n, p in model.named_parameters() if n.startswith(prefixes)]
        counts[part] = sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
    return counts
