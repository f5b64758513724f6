"""Loading of models and adapters from a Hub id, a folder, or this package."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from ..options.model import LoraOptions, ModelOptions
from ..utils.library_bars import hidden_library_bars
from .activation_checkpointing import enable_activation_checkpointing
from .adapter_files import check_adapter_config, read_adapter_weights
from .base_fingerprint import (
    BASE_FINGERPRINT,
    check_base_fingerprint,
    compute_base_fingerprint,
    read_base_fingerprint,
)
from .families import FAMILIES, PACKAGE_MODEL_NAMES, get_family_of_model
from .family_spec import FamilySpec
from .finite import NonFiniteError, check_weights
from .freezing import freeze
from .lora import (
    BASE_FOLDER,
    AdaptedSam,
    add_adapters,
    check_same_adapter,
    find_differing_tensors,
    merge_adapters,
    unwrap_sam,
)
from .model_files import (
    add_model_to_errors,
    detect_family,
    find_adapter_file,
    find_concept_info,
    find_saved_file,
    resolve_source,
)
from .offloading import OffloadingModel
from .processors import load_processor, read_saved_resolution
from .quantization import build_quantization_arguments, cast_encoders, disable_cpu_packing
from .sam3.concept_files import ConceptFile, add_concept_files, read_concept_source
from .weightless import build_without_weights


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
    _refuse_concepts(options)
    if find_adapter_file(options.model_name_or_path, options.revision) is None:
        return _load_base(options)
    model = merge_adapters(load_adapted(replace(options, dtype="float32")))
    cast_encoders(get_family_of_model(model), model, options.dtype)
    return model


def load_as_trained(options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    """
    Load a model for evaluation, with its concepts.

    An adapter is not merged: a sum with half-precision weights would be rounded.
    """
    base, files = read_concept_sources(options)
    if files:
        return _load_with_concepts(options, base, files)
    return (
        _load_base(options)
        if find_adapter_file(options.model_name_or_path, options.revision) is None
        else load_adapted(options)
    )


def load_for_concepts(options: ModelOptions, dropout: float) -> PreTrainedModel | AdaptedSam:
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
) -> PreTrainedModel | AdaptedSam:
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


def read_concept_sources(options: ModelOptions) -> tuple[ModelOptions, list[ConceptFile]]:
    """
    Read the concepts that options name, and return the options of their base.

    Args:
        options (`ModelOptions`): A model or a folder of concepts, and further `concepts`.

    Returns:
        `tuple[ModelOptions, list[ConceptFile]]`: Options without concepts, which name a model or an adapter; the
        concepts, those of `model_name_or_path` first.

    Raises:
        `ValueError`: If a name has no concepts, or its files cannot be read.
    """
    names, base = list(options.concepts), replace(options, concepts=[])
    if find_concept_info(options.model_name_or_path, options.revision) is not None:
        names.insert(0, options.model_name_or_path)
    files = []
    for number, name in enumerate(names):
        revision = options.revision if name == options.model_name_or_path else None
        files.append(read_concept_source(name, revision))
        if number == 0 and name == options.model_name_or_path:
            found = files[0].info
            resolution = options.resolution or found.resolution
            base = replace(base, model_name_or_path=found.base, revision=found.revision, resolution=resolution)
    return base, files


def has_concepts(options: ModelOptions) -> bool:
    """Return whether options name concepts, as `concepts` or as the model."""
    return bool(options.concepts) or find_concept_info(options.model_name_or_path, options.revision) is not None


def _refuse_concepts(options: ModelOptions) -> None:
    """Raise `ValueError` if options name concepts, where a model itself is trained or merged."""
    if has_concepts(options):
        name = options.concepts[0] if options.concepts else options.model_name_or_path
        raise ValueError(
            f"{name!r} contains concepts, tokens in front of a frozen model. Pass their base model; to train further "
            "concepts set `concept_tokens`"
        )


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
    _refuse_options_of_others(detect_family(name, options.revision, options.family), options)
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
        model = _load_base(replace(options, model_name_or_path=base, revision=recorded.revision))
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
    _refuse_concepts(options)
    if find_adapter_file(options.model_name_or_path, options.revision) is not None:
        adapted = load_adapted(options)
        check_same_adapter(adapted, lora, frozen=frozen, with_masks=options.with_masks)
        freeze(adapted, list(frozen), with_masks=options.with_masks)
        return adapted
    adapted = add_adapters(_load_base(options), lora, frozen=frozen, with_masks=options.with_masks, seed=options.seed)
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
        _load_base(ModelOptions(name, revision=options.revision, seed=options.seed)).save_pretrained(folder)
        load_processor(name, options.revision).save_pretrained(folder)

    return save


def _load_base(options: ModelOptions) -> OffloadingModel:
    family = detect_family(options.model_name_or_path, options.revision, options.family)
    _refuse_options_of_others(family, options)
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


def _refuse_options_of_others(family: FamilySpec, options: ModelOptions) -> None:
    """Raise `ValueError` if an option is set that this family does not have."""
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
