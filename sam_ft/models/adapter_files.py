"""Validation of a saved adapter's files before PEFT reads them."""

import pickle
import re
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import load_peft_weights
from safetensors import SafetensorError

from ..options.model import MAX_RANK, is_rank
from ..utils.regex import matches_within
from ..utils.text import short_repr
from .finite import find_non_finite_tensor, refuse_weight


def check_adapter_config(config: LoraConfig, name: str, model: torch.nn.Module) -> None:
    """
    Check the values of a saved config that PEFT does not validate: ranks, and regular expressions over module names.

    Args:
        config (`LoraConfig`): The saved config.
        name (`str`): Name of the adapter, for errors.
        model (`torch.nn.Module`): The base.

    Raises:
        `ValueError`: If the config is of another PEFT method, a rank is out of range, or a regex is invalid or slow.
    """
    file = f"adapter_config.json of {name}"
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{file} is of the PEFT method {config.peft_type!r}. Only LoRA adapters can be loaded")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(getattr(config, key) or {}, dict):
            raise ValueError(
                f"`{key}` in {file} must map module names to numbers, got {short_repr(getattr(config, key))}"
            )
    for rank in (config.r, *(config.rank_pattern or {}).values()):
        if not is_rank(rank):
            raise ValueError(f"{file} has the rank {short_repr(rank)}. Expected an integer between 1 and {MAX_RANK}")
    matches_within(_patterns(config), [module for module, _ in model.named_modules()], file)


def _patterns(config: LoraConfig) -> list[str]:
    """Return the regular expressions that PEFT builds from a config, without plain names."""
    names_or_regexes = [config.target_modules, config.exclude_modules]
    patterns = [pattern for pattern in names_or_regexes if isinstance(pattern, str) and pattern != "all-linear"]
    keys = [*(config.rank_pattern or {}), *(config.alpha_pattern or {})]
    patterns += [rf"(.*\.)?({key})" for key in keys if not _is_plain(key)]
    names = [*(config.modules_to_save or ()), *(getattr(config, "target_parameters", None) or ())]
    patterns += [rf"(^|.*\.){module}($|\..*)" for module in names if not _is_plain(module)]
    layers = config.layers_pattern or []
    layers = [layers] if isinstance(layers, str) else layers
    return patterns + [rf"(?:^|.*?\.){layer}\.(?P<idx>\d+)\..*" for layer in layers if not _is_plain(layer)]


def _is_plain(name) -> bool:
    return re.fullmatch(r"[\w.]*", str(name)) is not None


def read_adapter_weights(name: str, revision: str | None = None) -> dict[str, torch.Tensor]:
    """
    Read the weights of a saved adapter on the host.

    Args:
        name (`str`): Folder or Hub id of the adapter.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `dict[str, torch.Tensor]`: The weights.

    Raises:
        `ValueError`: If the file is missing, damaged, or contains NaN or infinity; names it.
    """
    source = next((str(file) for file in Path(name).glob("adapter_model.*")), name) if Path(name).is_dir() else name
    try:
        weights = load_peft_weights(name, device="cpu", revision=revision)
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError) as error:
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"`model_name_or_path`: the adapter weights in {source} cannot be read ({line}). The file is missing, "
            "damaged or cut short: copy it again"
        ) from error
    refuse_weight(find_non_finite_tensor(weights.items()), source)
    return weights
