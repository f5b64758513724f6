"""Fingerprint of an adapter's base: digests of its weights, saved with the adapter and compared at loading."""

import hashlib
import logging
from pathlib import Path

import torch

from ..utils.console import NOTE
from ..utils.json_files import read_json_file, write_json
from .parts import strip_wrappers
from .weightless import has_values


logger = logging.getLogger("sam_ft.run")

BASE_FINGERPRINT, BASE_FOLDER = "base_fingerprint.json", "base"  # files and folder of a saved adapter
_ROUNDING = "bfloat16"


def compute_base_fingerprint(model: torch.nn.Module) -> dict[str, str]:
    """
    Compute a digest of each floating-point weight, rounded to bfloat16.

    Loads of one base in float32, in bfloat16 and with 4-bit layers have equal digests; 4-bit weights are left out.

    Args:
        model (`torch.nn.Module`): A model without adapters.

    Returns:
        `dict[str, str]`: Name of the weight -> BLAKE2b digest (8 bytes, hexadecimal) of its shape and values; empty
        for a model without weights.
    """
    # The name of a 4-bit weight is a prefix of the names of its scales.
    quantized = tuple(name for name, parameter in model.named_parameters() if hasattr(parameter, "quant_state"))
    digests = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or not tensor.numel():
            continue
        if name.startswith(quantized) or not has_values(tensor):
            continue
        values = tensor.detach().to(torch.bfloat16).cpu().contiguous()
        digest = hashlib.blake2b(repr(tuple(values.shape)).encode(), digest_size=8)
        digest.update(values.view(-1).view(torch.uint8).numpy().data)
        digests[strip_wrappers(name)] = digest.hexdigest()
    return digests


def write_base_fingerprint(folder: Path, digests: dict[str, str]) -> None:
    """Write the digests of [`compute_base_fingerprint`] to `folder/base_fingerprint.json`."""
    write_json(folder / BASE_FINGERPRINT, {"rounding": _ROUNDING, "weights": digests}, indent=0)


def read_base_fingerprint(file: Path | None) -> dict[str, str] | None:
    """
    Read the digests that are saved with an adapter.

    Args:
        file (`Path` or `None`): Path of the file; `None` if the adapter has none.

    Returns:
        `dict[str, str]` or `None`: `None` for an adapter without a fingerprint.

    Raises:
        `ValueError`: If the file contains anything else; names it.
    """
    if file is None or not file.is_file():
        return None
    remedy = "Copy the adapter again; without the file, its base is not checked"
    content = read_json_file(file, "model_name_or_path", remedy=remedy)
    weights = content.get("weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(digest, str) for digest in weights.values()):
        raise ValueError(f"`model_name_or_path`: {file} contains no fingerprint of a base. {remedy}")
    return weights


def check_base_fingerprint(
    recorded: dict[str, str] | None, present: dict[str, str], adapter: str, base: str, *, allow_other_base: bool
) -> dict[str, str]:
    """
    Compare the base that an adapter was trained on with the loaded one.

    Args:
        recorded (`dict[str, str]` or `None`): Digests that are saved with the adapter.
        present (`dict[str, str]`): Digests of the loaded base; only common names are compared.
        adapter (`str`): Name of the adapter, for messages.
        base (`str`): Name of the base, for messages.
        allow_other_base (`bool`): Log a difference instead of refusing it.

    Returns:
        `dict[str, str]`: Digests to store when the adapter is saved again.

    Raises:
        `ValueError`: If a digest differs; names the weight and both remedies.
    """
    if recorded is None:
        logger.log(NOTE, "The adapter %s has no %s: its base %s is not checked", adapter, BASE_FINGERPRINT, base)
        return present
    common = recorded.keys() & present.keys()
    differing = [name for name in present if name in common and recorded[name] != present[name]]
    if not differing:
        return recorded | present
    difference = f"{len(differing)} of {len(common)} compared weights differ, such as `{differing[0]}`"
    if not allow_other_base:
        raise ValueError(
            f"`model_name_or_path`: the adapter {adapter!r} was trained on another base than {base!r}: {difference}. "
            "Copy the base that it was trained on there, or set `base_model_name_or_path` in adapter_config.json "
            "to its path; or set `allow_other_base: true` to load the adapter onto this base"
        )
    logger.warning("The adapter %s was trained on another base than %s: %s", adapter, base, difference)
    return present
