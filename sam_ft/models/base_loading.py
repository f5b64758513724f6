"""Loading of base models, without adapters and concepts, from a Hub id, a folder, or this package."""

import copy
from pathlib import Path
from typing import Any

import torch

from ..options.model import ModelOptions
from ..utils.library_bars import hidden_library_bars
from .activation_checkpointing import enable_activation_checkpointing
from .families import FAMILIES
from .family_spec import FamilySpec
from .finite import check_weights
from .model_files import add_model_to_errors, detect_family, resolve_source
from .offloading import OffloadingModel
from .quantization import build_quantization_arguments, cast_encoders, disable_cpu_packing
from .weightless import build_without_weights


def load_base(options: ModelOptions) -> OffloadingModel:
    """
    Load a model without adapters and concepts.

    Args:
        options (`ModelOptions`): Name and settings.

    Returns:
        `OffloadingModel`: The model.

    Raises:
        `ValueError`: As in [`load_model`].
    """
    family = detect_family(options.model_name_or_path, options.revision, options.family)
    refuse_options_of_others(family, options)
    untrained = options.model_name_or_path == family.random_name
    try:
        model = _build_untrained(family, options) if untrained else _load_pretrained(family, options)
    except ImportError as error:  # raised by the attention layers if a kernel's package is missing
        if options.attn_implementation is None:
            raise
        raise ValueError(
            f"`attn_implementation` is {options.attn_implementation!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Install its package (`pip install flash-attn` for flash_attention_2), "
            "or set `attn_implementation: sdpa`"
        ) from error
    model.configure(**{name: getattr(options, name) for name in family.model_settings})
    if options.activation_checkpointing:
        enable_activation_checkpointing(model)
    if options.official_dropout and family.add_official_dropout is not None:
        family.add_official_dropout(model)
    return model


def refuse_options_of_others(family: FamilySpec, options: ModelOptions) -> None:
    """
    Refuse options that a family does not have.

    Args:
        family (`FamilySpec`): The family.
        options (`ModelOptions`): Options to check.

    Raises:
        `ValueError`: If such an option is set; names it.
    """
    if "flash_attention" in (options.attn_implementation or "") and not family.has_flash_attention:
        raise ValueError(
            f"`attn_implementation` is {options.attn_implementation!r}, which {family.title} does not support: it has "
            "position biases and float32 parts. Set `attn_implementation: sdpa`, which includes flash attention"
        )
    defaults = ModelOptions()
    for name in sorted(set().union(*(member.options for member in FAMILIES.values())) - family.options):
        if getattr(options, name) != getattr(defaults, name):
            raise ValueError(
                f"`{name}` is {getattr(options, name)!r}, but {family.title} has no such option. Remove it"
            )


def _build_untrained(family: FamilySpec, options: ModelOptions) -> OffloadingModel:
    if options.quantization:
        raise ValueError(
            f"`quantization` is for saved weights, and {family.random_name} is untrained. Remove `quantization`"
        )
    config = family.build_tiny_config()
    _adjust_config(family, config, options)
    config._attn_implementation = options.attn_implementation or config._attn_implementation
    model = family.build_random_model(config, options.seed)
    cast_encoders(family, model, options.dtype)
    return model


def _load_pretrained(family: FamilySpec, options: ModelOptions) -> OffloadingModel:
    arguments: dict[str, Any] = {"dtype": getattr(torch, options.dtype), "revision": options.revision}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.quantization:
        arguments |= build_quantization_arguments(options.quantization, family)
    source = resolve_source(options.model_name_or_path)
    with add_model_to_errors(options.model_name_or_path):
        config = family.config_class.from_pretrained(source, revision=arguments["revision"])
    # SAM 3's checkpoint on the Hub has the config of the video model.
    config = copy.deepcopy(getattr(config, "detector_config", None) or config)
    _adjust_config(family, config, options)
    if not options.load_weights:
        return build_without_weights(family, config, options)
    with add_model_to_errors(options.model_name_or_path), hidden_library_bars(Path(source).is_dir()):
        loaded: Any = family.model_class.from_pretrained(source, config=config, output_loading_info=True, **arguments)
    model, missing = loaded[0], sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"`model_name_or_path`: {options.model_name_or_path!r} lacks {len(missing)} weights of {family.title}, "
            f"such as {missing[0]!r}. Use a complete checkpoint of {family.model_class.saved_as.__name__}"
        )
    # `from_pretrained` keeps CLIP's projection in float32, because it has the same name as SAM 3's.
    cast_encoders(family, model, options.dtype)
    if options.quantization:
        disable_cpu_packing(model)
    check_weights(model, options.model_name_or_path)
    return model


def _adjust_config(family: FamilySpec, config, options: ModelOptions) -> None:
    if options.resolution:
        family.set_resolution(config, options.resolution)
    if options.dropout is not None and family.set_dropout is not None:
        family.set_dropout(config, options.dropout)
