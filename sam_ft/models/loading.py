"""Loading of models and adapters from a Hub id, a folder, or this package."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from .adapter_files import check_adapter_config, read_adapter_weights
from .base_fingerprint import (
    BASE_FINGERPRINT,
    check_base_fingerprint,
    compute_base_fingerprint,
    read_base_fingerprint,
)
from .families import OWN_NAMES, SAM3, TINY, Family, family_of_model
from .finite import NonFiniteError, check_weights
from .freezing import freeze
from .lora import (
    BASE_FOLDER,
    AdaptedSam,
    LoraOptions,
    add_adapters,
    check_same_adapter,
    differing_tensors,
    merge_adapters,
)  # fmt: skip
from .model_files import adapter_file, family_of, file_beside, naming_the_model, source_of
from .processors import load_processor, side_beside
from .quantization import build_quantization_arguments, disable_cpu_packing
from .sam3.official_dropout import apply_official_dropout


# Options that are attributes of a model, if its class has them.
_RUN_ATTRIBUTES = ("pairs_per_chunk", "with_masks", "pair_checkpointing", "objects_per_chunk")


@dataclass
class ModelOptions:
    """
    Settings for loading a model. They do not change the format of saved checkpoints.

    Attributes:
        model_name_or_path (`str`): A Hub id, a folder, or a model of this package: `sam-ft/tiny` (SAM 3, 1.8 M
            parameters, trained on coloured shapes), `sam-ft/tiny-sam2` (SAM 2, 1.0 M parameters), or the untrained
            `sam-ft/random-tiny` and `sam-ft/random-tiny-sam2`.
        family (`Family`, *optional*): Required family: SAM 3 or SAM 2.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        dtype (`str`): Dtype of the encoder weights; all other modules are float32.
        attn_implementation (`str`, *optional*): `sdpa`, `eager` or `flash_attention_2`.
        resolution (`int`, *optional*): Side of the square input in pixels. Default: that of the checkpoint.
        activation_checkpointing (`bool`): Gradient checkpointing of the encoder layers.
        dropout (`float`, *optional*): Dropout behind the encoders. Default: that of the checkpoint.
        official_dropout (`bool`): Add the drop-path and dropouts that Transformers' port lacks.
        with_masks (`bool`): Train and predict masks.
        pairs_per_chunk (`int`): SAM 3: (image, phrase) pairs decoded at once.
        pair_checkpointing (`bool`): SAM 3: gradient checkpointing of the modules behind the encoders.
        quantization (`str`, *optional*): `nf4`: linear layers of the encoders in 4 bits (Dettmers et al. 2023).
        objects_per_chunk (`int`): SAM 2: objects decoded at once.
        allow_other_base (`bool`): Load an adapter onto a base with other weights than it was trained on.
        seed (`int`): Random seed of untrained weights.
    """

    model_name_or_path: str = TINY
    family: Family | None = None
    revision: str | None = None
    dtype: str = "float32"
    attn_implementation: str | None = None
    resolution: int | None = None
    activation_checkpointing: bool = False
    dropout: float | None = None
    official_dropout: bool = False
    with_masks: bool = True
    pairs_per_chunk: int = 4
    pair_checkpointing: bool = False
    quantization: str | None = None
    objects_per_chunk: int = 8
    allow_other_base: bool = False
    seed: int = 0


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
    if adapter_file(options.model_name_or_path, options.revision) is None:
        return _load_base(options)
    model = merge_adapters(load_adapted(replace(options, dtype="float32")))
    _cast_encoders(family_of_model(model), model, options)
    return model


def load_as_trained(options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    """Load a model for evaluation without merging an adapter: a sum with half-precision weights would be rounded."""
    return (
        _load_base(options)
        if adapter_file(options.model_name_or_path, options.revision) is None
        else load_adapted(options)
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
    name, file = options.model_name_or_path, adapter_file(options.model_name_or_path, options.revision)
    family_of(name, options.revision, options.family)
    if file is None:
        raise ValueError(f"`model_name_or_path`: {name!r} contains no adapter_config.json, so it is no adapter")
    with naming_the_model(name):
        recorded = LoraConfig.from_pretrained(name, revision=options.revision)
    if options.resolution is None:
        # An adapter has no model config; its processor contains the resolution of the training.
        options = replace(options, resolution=side_beside(name, options.revision))
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
    recorded_digests = read_base_fingerprint(file_beside(name, BASE_FINGERPRINT, options.revision))
    digests = check_base_fingerprint(
        recorded_digests, compute_base_fingerprint(model), name, base, allow_other_base=options.allow_other_base
    )
    try:
        adapted = AdaptedSam.from_pretrained(
            model, name, config=recorded, revision=options.revision, is_trainable=True
        )
        differing = differing_tensors(adapted, weights)
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


def adapt(options: ModelOptions, lora: LoraOptions, *, frozen: list[str] = ()) -> AdaptedSam:
    """
    Load a model and add adapters, or load a saved adapter for further training.

    Args:
        options (`ModelOptions`): Name of a model or adapter, and settings.
        lora (`LoraOptions`): Settings of the adapters.
        frozen (`list[str]`): Parts without adapters.

    Returns:
        `AdaptedSam`: The model with adapters.

    Raises:
        `ValueError`: As in [`load_adapted`] and [`add_adapters`], or if a saved adapter has other settings than
            `lora`.
    """
    if adapter_file(options.model_name_or_path, options.revision) is not None:
        adapted = load_adapted(options)
        check_same_adapter(adapted, lora, frozen=frozen, with_masks=options.with_masks)
        freeze(adapted, list(frozen), with_masks=options.with_masks)
        return adapted
    adapted = add_adapters(_load_base(options), lora, frozen=frozen, with_masks=options.with_masks)
    adapted.allow_other_base = options.allow_other_base
    # The revision of the base: another revision has equal shapes, but other weights.
    adapted.peft_config["default"].revision = options.revision
    if options.model_name_or_path in OWN_NAMES:
        adapted.save_base = _base_saver(options)
    return adapted


def _base_saver(options: ModelOptions) -> Callable[[Path], None]:
    """Return a function that saves a base, without adapters, that is available only on this machine."""

    def save(folder: Path) -> None:
        name = options.model_name_or_path
        _load_base(ModelOptions(name, revision=options.revision, seed=options.seed)).save_pretrained(folder)
        load_processor(name, options.revision).save_pretrained(folder)

    return save


def _load_base(options: ModelOptions) -> PreTrainedModel:
    family = family_of(options.model_name_or_path, options.revision, options.family)
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
    for name in _RUN_ATTRIBUTES:
        if hasattr(model, name):
            setattr(model, name, getattr(options, name))
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.official_dropout:
        apply_official_dropout(model)
    return model


def _build_untrained(family: Family, options: ModelOptions) -> PreTrainedModel:
    if options.quantization:
        raise ValueError(
            f"`quantization` is for saved weights, and {family.random_name} is untrained. Remove `quantization`"
        )
    config = family.tiny_config()
    _adjust_config(family, config, options)
    config._attn_implementation = options.attn_implementation or config._attn_implementation
    model = family.random_model(config, options.seed)
    _cast_encoders(family, model, options)
    return model


def _cast_encoders(family: Family, model: PreTrainedModel, options: ModelOptions) -> None:
    # Buffers, such as rotary frequencies, stay in float32, as in `from_pretrained`.
    for encoder in family.encoders:
        for parameter in model.get_submodule(encoder).parameters():
            parameter.data = parameter.data.to(getattr(torch, options.dtype))


def _load_pretrained(family: Family, options: ModelOptions) -> PreTrainedModel:
    arguments = {"dtype": getattr(torch, options.dtype), "revision": options.revision}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.quantization:
        arguments |= build_quantization_arguments(options.quantization)
    source = source_of(options.model_name_or_path)
    with naming_the_model(options.model_name_or_path):
        config = family.config.from_pretrained(source, revision=options.revision)
    # SAM 3's checkpoint on the Hub has the config of the video model.
    config = copy.deepcopy(getattr(config, "detector_config", None) or config)
    _adjust_config(family, config, options)
    with naming_the_model(options.model_name_or_path):
        model, report = family.model.from_pretrained(source, config=config, output_loading_info=True, **arguments)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"`model_name_or_path`: {options.model_name_or_path!r} lacks {len(missing)} weights of {family.title}, "
            f"such as {missing[0]!r}. Use a complete checkpoint of {family.model.saved_as.__name__}"
        )
    if family is SAM3:
        # CLIP's projection has the same name as SAM 3's, which `from_pretrained` keeps in float32.
        model.text_encoder.text_projection.to(getattr(torch, options.dtype))
    if options.quantization:
        disable_cpu_packing(model)
    check_weights(model, options.model_name_or_path)
    return model


def _adjust_config(family: Family, config, options: ModelOptions) -> None:
    if options.resolution:
        family.set_resolution(config, options.resolution)
    if options.dropout is not None:
        for part in (config.geometry_encoder_config, config.detr_encoder_config, config.detr_decoder_config):
            part.dropout = options.dropout
