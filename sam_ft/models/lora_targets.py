"""Layers that get LoRA adapters, and modules that are saved in full beside them."""

import difflib
import re
from collections.abc import Sequence

import torch

from ..utils.regex import matches_within
from ..utils.text import short_repr
from .families import get_family_of_model
from .parts import strip_wrappers


def find_targets(
    model: torch.nn.Module, target: str, *, frozen: Sequence[str] = (), with_masks: bool = True
) -> list[str]:
    """
    Find the layers that a preset or regex selects.

    Args:
        model (`torch.nn.Module`): A model with or without adapters.
        target (`str`): As in [`LoraOptions`].
        frozen (`Sequence[str]`): Parts without adapters.
        with_masks (`bool`): Whether masks are trained.

    Returns:
        `list[str]`: Names of linear layers and convolutions.

    Raises:
        `ValueError`: If `target` is no regex, or matches no layer that can be adapted.
    """
    family = get_family_of_model(model)
    layer_types = torch.nn.Linear | torch.nn.Conv2d
    layers = [
        _unwrapped(name)
        for name, module in model.named_modules()
        if isinstance(module, layer_types) and ".lora_" not in name
    ]
    matched = _match_target(target, layers, family.lora_presets)
    if not matched:
        patterns = list(dict.fromkeys(re.sub(r"\.\d+", ".N", name) for name in layers))
        similar = difflib.get_close_matches(re.sub(r"\\.?|[.*()|]+", ".", target), patterns, 4, cutoff=0.0)
        raise ValueError(
            f"`lora` is {target!r}, which matches no layer. Choose from {', '.join(family.lora_presets)}, "
            f"or write a regex that matches whole names, such as {' · '.join(similar)}"
        )
    prefixes = family.parts.get_frozen_prefixes(list(frozen), with_masks=with_masks)
    targets = [name for name in matched if not f"{name}.".startswith(prefixes)]
    if not targets:
        raise ValueError(
            f"`lora` is {target!r}, but all layers that it matches are frozen: `freeze` is {list(frozen)}. "
            "Change one of them"
        )
    return targets


def _match_target(target: str, layers: list[str], presets: dict[str, str]) -> list[str]:
    if target in presets:
        return [name for name in layers if re.fullmatch(presets[target], name)]
    try:
        re.compile(target)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"`lora` is {short_repr(target)}: neither a preset ({', '.join(presets)}) nor a regex ({error})"
        ) from error
    return matches_within([target], layers, "lora")[0]


def _unwrapped(name: str) -> str:
    """Remove PEFT's wrappers from a module's name."""
    return strip_wrappers(f"{name}.").removesuffix(".")


def find_modules_to_save(model: torch.nn.Module, names: list[str], frozen: tuple[str, ...]) -> list[str]:
    """
    Find the modules that are trained and saved in full.

    Args:
        model (`torch.nn.Module`): A model without adapters.
        names (`list[str]`): Names, or ends of names, of modules.
        frozen (`tuple[str, ...]`): Prefixes of the frozen parameters.

    Returns:
        `list[str]`: Full names.

    Raises:
        `ValueError`: If a name is no module, or names only frozen modules.
    """
    containers = torch.nn.ModuleList | torch.nn.ModuleDict  # PEFT cannot wrap them: they have no forward
    modules = [name for name, module in model.named_modules() if name and not isinstance(module, containers)]
    selected = []
    for suffix in names:
        matched = [name for name in modules if name == suffix or name.endswith(f".{suffix}")]
        if not matched:
            similar = difflib.get_close_matches(suffix, modules, 3, cutoff=0.0)
            raise ValueError(
                f"`lora_modules_to_save` names {suffix!r}, which is no module. Similar names: {', '.join(similar)}"
            )
        if all(f"{name}.".startswith(frozen) for name in matched):
            raise ValueError(
                f"`lora_modules_to_save` names {suffix!r}, which is frozen by `freeze`. Remove it from one of them"
            )
        selected += matched
    return selected
