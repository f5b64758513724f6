"""Loading of adapters with their base model, and models with new adapters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from peft import LoraConfig

from ..options.model import LoraOptions, ModelOptions
from .adapter_files import check_adapter_config, read_adapter_weights
from .base_fingerprint import (
    BASE_FINGERPRINT,
    BASE_FOLDER,
    check_base_fingerprint,
    compute_base_fingerprint,
    read_base_fingerprint,
)
from .base_loading import load_base, refuse_options_of_others
from .concept_sources import refuse_concepts
from .families import PACKAGE_MODEL_NAMES
from .finite import NonFiniteError
from .freezing import freeze
from .lora import AdaptedSam, add_adapters, check_same_adapter, find_differing_tensors
from .model_files import add_model_to_errors, detect_family, find_adapter_file, find_saved_file
from .processors import load_processor, read_saved_resolution


def load_adapted(options: ModelOptions) -> AdaptedSam:
    """
    Load a saved adapter and its base; the adapter is trainable.

    Args:
        options (`ModelOptions`): Name of the adapter and settings.

    Returns:
        `AdaptedSam`: The base with the adapter.

    Raises:
        `ValueError`: If the name is no adapter, its base cannot be loaded, or it was trained on another base.
    """
    name, file = options.model_name_or_path, find_adapter_file(options.model_name_or_path, options.revision)
    refuse_options_of_others(detect_family(name, options.revision, options.family), options)
    if file is None:
        raise ValueError(f"`model_name_or_path`: {name!r} contains no adapter_config.json, so it is no adapter")
    with add_model_to_errors(name):
        recorded = LoraConfig.from_pretrained(name, revision=options.revision)
    if options.resolution is None:
        # An adapter has no model config; its processor contains the resolution of the training.
        options = replace(options, resolution=read_saved_resolution(name, options.revision))
    saved_base = Path(file).parent / BASE_FOLDER
    base = str(saved_base) if saved_base.is_dir() else recorded.base_model_name_or_path or ""
    try:
        model = load_base(replace(options, model_name_or_path=base, revision=recorded.revision))
    except NonFiniteError:
        raise
    except ValueError as error:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} was made from {base!r}, which cannot be loaded. Copy the "
            f"base there, or set `base_model_name_or_path` in its adapter_config.json to the base's path. ({error})"
        ) from error
    check_adapter_config(recorded, name, model)
    weights = read_adapter_weights(name, options.revision)
    recorded_digests = read_base_fingerprint(find_saved_file(name, BASE_FINGERPRINT, options.revision))
    digests = check_base_fingerprint(
        recorded_digests, compute_base_fingerprint(model), name, base, allow_other_base=options.allow_other_base
    )
    try:
        saved = {"config": recorded, "revision": options.revision}
        adapted = cast(AdaptedSam, AdaptedSam.from_pretrained(model, name, **saved, is_trainable=True))
        differing = find_differing_tensors(adapted, weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} does not fit its base {base!r} ({error})"
        ) from error
    if differing:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} does not fit its base {base!r}: {len(differing)} "
            f"tensors exist in only one of them, such as {differing[0]!r}"
        )
    adapted.base_fingerprint, adapted.allow_other_base = digests, options.allow_other_base
    if saved_base.is_dir():
        adapted.save_base = _base_saver(replace(options, model_name_or_path=base, revision=None))
    return adapted


def adapt(options: ModelOptions, lora: LoraOptions, *, frozen: Sequence[str] = ()) -> AdaptedSam:
    """
    Load a model and add adapters, or load a saved adapter for further training.

    Args:
        options (`ModelOptions`): Name of a model or adapter, and settings.
        lora (`LoraOptions`): Settings of the adapters.
        frozen (`Sequence[str]`): Parts without adapters.

    Returns:
        `AdaptedSam`: The model with adapters.

    Raises:
        `ValueError`: As in [`load_adapted`] and [`add_adapters`], or if a saved adapter has other settings than
            `lora`.
    """
    refuse_concepts(options)
    if find_adapter_file(options.model_name_or_path, options.revision) is not None:
        adapted = load_adapted(options)
        check_same_adapter(adapted, lora, frozen=frozen, with_masks=options.with_masks)
        freeze(adapted, list(frozen), with_masks=options.with_masks)
        return adapted
    adapted = add_adapters(load_base(options), lora, frozen=frozen, with_masks=options.with_masks, seed=options.seed)
    adapted.allow_other_base = options.allow_other_base
    # The revision of the base: another revision has equal shapes, but other weights.
    adapted.peft_config["default"].revision = options.revision
    if options.model_name_or_path in PACKAGE_MODEL_NAMES:
        adapted.save_base = _base_saver(options)
    return adapted


def _base_saver(options: ModelOptions) -> Callable[[Path], None]:
    """Return a function that saves a base, without adapters, that is available only on this machine."""

    def save(folder: Path) -> None:
        name = options.model_name_or_path
        load_base(ModelOptions(name, revision=options.revision, seed=options.seed)).save_pretrained(folder)
        load_processor(name, options.revision).save_pretrained(folder)

    return save
