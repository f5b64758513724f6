"""Model and processor from a name, a folder, or the embedded default."""

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
from .quantization import quantized, without_cpu_packing
from .sam3.official_dropout import apply_official_dropout


# what of the options is an attribute of the model, where the model has it
_OF_THE_RUN = ("pairs_per_chunk", "with_masks", "pair_checkpointing", "objects_per_chunk")


@dataclass
class ModelOptions:
    """
    How a model is built. Everything but the name belongs to a run and leaves the checkpoint's format alone.

    Attributes:
        model_name_or_path (`str`): a Hub id, a folder, or what this package carries: `sam-ft/tiny`, 1.8 M parameters that
            know coloured shapes; `sam-ft/tiny-sam2`, a SAM 2 of 1.0 M; `sam-ft/random-tiny` and
            `sam-ft/random-tiny-sam2`, the same untrained.
        family (`Family`, *optional*): SAM 3 or SAM 2, where it must be one of them.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        dtype (`str`): of the frozen encoders' weights; the small parts stay in float32.
        attn_implementation (`str`, *optional*): `sdpa`, `eager`, `flash_attention_2`.
        resolution (`int`, *optional*): side in pixels the model works at; the checkpoint's own where not given.
        activation_checkpointing (`bool`): recompute ViT and text layers in the backward pass.
        dropout (`float`, *optional*): behind the encoders; the checkpoint's own where not given.
        official_dropout (`bool`): drop-path and dropouts that Transformers' port leaves out.
        with_masks (`bool`): train and predict masks.
        pairs_per_chunk (`int`): (image, phrase) pairs in memory at once.
        pair_checkpointing (`bool`): recompute what comes behind the encoders, stage by stage, in the backward pass.
        quantization (`str`, *optional*): `nf4` holds the encoders' linear layers in 4 bits (Dettmers et al. 2023).
        objects_per_chunk (`int`): SAM 2: objects in memory at once.
        allow_other_base (`bool`): load an adapter onto a base with other weights than it was trained on.
        seed (`int`): of the untrained model's weights.
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
    Loads SAM 3 or SAM 2 for training or evaluation. A saved adapter is loaded with its base and merged into it; [`load_adapted`]
    keeps both apart.

    Raises:
        `ValueError`: on a resolution that is not a multiple of the patch, a name that is neither a folder nor a Hub id, and
            as [`load_adapted`].
    """
    if adapter_file(options.model_name_or_path, options.revision) is None:
        return _load_base(options)
    model = merge_adapters(load_adapted(replace(options, dtype="float32")))
    _cast_encoders(family_of_model(model), model, options)
    return model


def load_as_trained(options: ModelOptions) -> PreTrainedModel | AdaptedSam:
    """A model for evaluation; a saved adapter is not merged, since over half-precision weights the sum would be rounded."""
    return (
        _load_base(options)
        if adapter_file(options.model_name_or_path, options.revision) is None
        else load_adapted(options)
    )


def load_adapted(options: ModelOptions) -> AdaptedSam:
    """
    Loads a saved adapter, trainable, around its base.

    Raises:
        `ValueError`: where there is no adapter, where its base is not there, or where it was made for another one.
    """
    name, file = options.model_name_or_path, adapter_file(options.model_name_or_path, options.revision)
    family_of(name, options.revision, options.family)
    if file is None:
        raise ValueError(f"`model_name_or_path`: {name!r} holds no adapter_config.json")
    with naming_the_model(name):
        recorded = LoraConfig.from_pretrained(name, revision=options.revision)
    if options.resolution is None:
        # an adapter has no config of its own: what it was tuned at, its processor says
        options = replace(options, resolution=side_beside(name, options.revision))
    beside = Path(file).parent / BASE_FOLDER
    base = str(beside) if beside.is_dir() else recorded.base_model_name_or_path or ""
    try:
        model = _load_base(replace(options, model_name_or_path=base, revision=recorded.revision))
    except NonFiniteError:
        raise
    except ValueError as error:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} was made from {base!r}, which cannot be loaded. Put the base there, "
            f"or name another place as `base_model_name_or_path` in its adapter_config.json. ({error})"
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
            f"`model_name_or_path`: the adapter {name!r} does not fit its base {base!r}: {len(differing)} tensors have no "
            f"counterpart, such as {differing[0]!r}"
        )
    adapted.base_fingerprint, adapted.allow_other_base = digests, options.allow_other_base
    if beside.is_dir():
        adapted.save_base = _base_saver(replace(options, model_name_or_path=base, revision=None))
    return adapted


def adapt(options: ModelOptions, lora: LoraOptions, *, frozen: list[str] = ()) -> AdaptedSam:
    """
    Loads a model and gives it adapters as [`add_adapters`] does; goes on with a saved adapter where the name is one.

    Raises:
        `ValueError`: as [`load_adapted`] and [`add_adapters`]; where a saved adapter has other settings than `lora`.
    """
    if adapter_file(options.model_name_or_path, options.revision) is not None:
        adapted = load_adapted(options)
        check_same_adapter(adapted, lora, frozen=frozen, with_masks=options.with_masks)
        freeze(adapted, list(frozen), with_masks=options.with_masks)
        return adapted
    adapted = add_adapters(_load_base(options), lora, frozen=frozen, with_masks=options.with_masks)
    adapted.allow_other_base = options.allow_other_base
    # of the base: another revision's adapter would fit and be wrong
    adapted.peft_config["default"].revision = options.revision
    if options.model_name_or_path in OWN_NAMES:
        adapted.save_base = _base_saver(options)
    return adapted


def _base_saver(options: ModelOptions) -> Callable[[Path], None]:
    """Saves a base that only this machine has, as it was before any adapter."""

    def save(folder: Path) -> None:
        name = options.model_name_or_path
        _load_base(ModelOptions(name, revision=options.revision, seed=options.seed)).save_pretrained(folder)
        load_processor(name, options.revision).save_pretrained(folder)

    return save


def _load_base(options: ModelOptions) -> PreTrainedModel:
    family = family_of(options.model_name_or_path, options.revision, options.family)
    untrained = options.model_name_or_path == family.random_name
    try:
        model = _untrained(family, options) if untrained else _pretrained(family, options)
    except ImportError as error:  # of a kernel's package, when the attention layers are built
        if options.attn_implementation is None:
            raise
        raise ValueError(
            f"`attn_implementation` is {options.attn_implementation!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Install its package (`pip install flash-attn` for flash_attention_2), or set "
            "`attn_implementation: sdpa`"
        ) from error
    for name in _OF_THE_RUN:
        if hasattr(model, name):
            setattr(model, name, getattr(options, name))
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.official_dropout:
        apply_official_dropout(model)
    return model


def _untrained(family: Family, options: ModelOptions) -> PreTrainedModel:
    if options.quantization:
        raise ValueError(f"`quantization` is for saved weights; {family.random_name} has none")
    config = family.tiny_config()
    _adjust(family, config, options)
    config._attn_implementation = options.attn_implementation or config._attn_implementation
    model = family.random_model(config, options.seed)
    _cast_encoders(family, model, options)
    return model


def _cast_encoders(family: Family, model: PreTrainedModel, options: ModelOptions) -> None:
    # parameters alone: `from_pretrained` keeps buffers such as rotary frequencies in float32 too
    for encoder in family.encoders:
        for parameter in model.get_submodule(encoder).parameters():
            parameter.data = parameter.data.to(getattr(torch, options.dtype))


def _pretrained(family: Family, options: ModelOptions) -> PreTrainedModel:
    arguments = {"dtype": getattr(torch, options.dtype), "revision": options.revision}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.quantization:
        arguments |= quantized(options.quantization)
    source = source_of(options.model_name_or_path)
    with naming_the_model(options.model_name_or_path):
        config = family.config.from_pretrained(source, revision=options.revision)
    config = copy.deepcopy(
        getattr(config, "detector_config", None) or config
    )  # SAM 3's file on the Hub is the video layout
    _adjust(family, config, options)
    with naming_the_model(options.model_name_or_path):
        model, report = family.model.from_pretrained(source, config=config, output_loading_info=True, **arguments)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"`model_name_or_path`: {options.model_name_or_path!r} lacks {len(missing)} weights of {family.title}, such as "
            f"{missing[0]!r}; they would be random. Use a whole checkpoint of {family.model.saved_as.__name__}"
        )
    if family is SAM3:
        # CLIP's own projection has the name of the one behind it, which is kept in float32
        model.text_encoder.text_projection.to(getattr(torch, options.dtype))
    if options.quantization:
        without_cpu_packing(model)
    check_weights(model, options.model_name_or_path)
    return model


def _adjust(family: Family, config, options: ModelOptions) -> None:
    if options.resolution:
        family.set_resolution(config, options.resolution)
    if options.dropout is not None:
        for part in (config.geometry_encoder_config, config.detr_encoder_config, config.detr_decoder_config):
            part.dropout = options.dropout
