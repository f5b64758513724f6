"""Model and processor from a name, a folder, or the embedded default."""

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import is_offline_mode
from peft import LoraConfig
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from safetensors import SafetensorError
from transformers import Sam3Config, Sam3Model, Sam3Processor
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from .config import set_resolution, tiny_config, tiny_processor
from .dropout import apply_official_dropout
from .freeze import freeze
from .lora import (
    BASE_FOLDER,
    AdaptedSam3,
    LoraOptions,
    add_adapters,
    check_same_adapter,
    differing_tensors,
    merge_adapters,
)  # fmt: skip
from .quantize import quantized, without_cpu_packing
from .sam3 import Sam3ForConceptSegmentation
from .untrained import random_model


TINY = "sam-ft/tiny"
TINY_FOLDER = Path(__file__).parent / "tiny"
RANDOM_TINY = "sam-ft/random-tiny"
TRAINED_PHRASES = "trained_phrases.json"  # beside the weights of a run: what it was trained on


@dataclass
class ModelOptions:
    """
    How a model is built. Everything but the name belongs to a run and leaves the checkpoint's format alone.

    Attributes:
        model_name_or_path (`str`): a Hub id, a folder, or what this package carries: `sam-ft/tiny`, 1.8 M parameters that
            know coloured shapes, and `sam-ft/random-tiny`, the same architecture untrained.
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
        seed (`int`): of the untrained model's weights.
    """

    model_name_or_path: str = TINY
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
    seed: int = 0


def load_model(options: ModelOptions) -> Sam3ForConceptSegmentation:
    """
    Loads SAM 3 for training or evaluation. A saved adapter is loaded with its base and merged into it; [`load_adapted`]
    keeps both apart.

    Raises:
        `ValueError`: on a resolution that is not a multiple of the patch, a name that is neither a folder nor a Hub id, and
            as [`load_adapted`].
    """
    if _adapter_file(options) is None:
        return _load_base(options)
    model = merge_adapters(load_adapted(replace(options, dtype="float32")))
    _cast_encoders(model, options)
    return model


def load_as_trained(options: ModelOptions) -> Sam3ForConceptSegmentation | AdaptedSam3:
    """A model for evaluation; a saved adapter is not merged, since over half-precision weights the sum would be rounded."""
    return _load_base(options) if _adapter_file(options) is None else load_adapted(options)


def load_adapted(options: ModelOptions) -> AdaptedSam3:
    """
    Loads a saved adapter, trainable, around its base.

    Raises:
        `ValueError`: where there is no adapter, where its base is not there, or where it was made for another one.
    """
    name, file = options.model_name_or_path, _adapter_file(options)
    if file is None:
        raise ValueError(f"`model_name_or_path`: {name!r} holds no adapter_config.json")
    with naming_the_model(name):
        recorded = LoraConfig.from_pretrained(name, revision=options.revision)
    if options.resolution is None:
        # an adapter has no config of its own: what it was tuned at, its processor says
        options = replace(options, resolution=_side_beside(name, options.revision))
    beside = Path(file).parent / BASE_FOLDER
    base = str(beside) if beside.is_dir() else recorded.base_model_name_or_path or ""
    try:
        model = _load_base(replace(options, model_name_or_path=base, revision=recorded.revision))
    except ValueError as error:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} was made from {base!r}, which cannot be loaded. Put the base there, "
            f"or name another place as `base_model_name_or_path` in its adapter_config.json. ({error})"
        ) from error
    try:
        adapted = AdaptedSam3.from_pretrained(
            model, name, config=recorded, revision=options.revision, is_trainable=True
        )
        differing = differing_tensors(adapted, name, options.revision)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} does not fit its base {base!r} ({error})"
        ) from error
    if differing:
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} does not fit its base {base!r}: {len(differing)} tensors have no "
            f"counterpart, such as {differing[0]!r}"
        )
    if beside.is_dir():
        adapted.save_base = _base_saver(replace(options, model_name_or_path=base, revision=None))
    return adapted


def _side_beside(name: str, revision: str | None) -> int | None:
    """The canvas of the processor that was saved with an adapter, px; `None` where there is none."""
    for saved in ("processor_config.json", "preprocessor_config.json"):
        file = file_beside(name, saved, revision)
        if file is not None:
            content = json.loads(file.read_text(encoding="utf-8"))
            size = (content.get("image_processor") or content).get("size")
            side = size.get("height") if isinstance(size, dict) else size
            if side:
                return side
    return None


def adapt(options: ModelOptions, lora: LoraOptions, *, frozen: list[str] = ()) -> AdaptedSam3:
    """
    Loads a model and gives it adapters as [`add_adapters`] does; goes on with a saved adapter where the name is one.

    Raises:
        `ValueError`: as [`load_adapted`] and [`add_adapters`]; where a saved adapter has other settings than `lora`.
    """
    if _adapter_file(options) is not None:
        adapted = load_adapted(options)
        check_same_adapter(adapted, lora, frozen=frozen, with_masks=options.with_masks)
        freeze(adapted, list(frozen), with_masks=options.with_masks)
        return adapted
    adapted = add_adapters(_load_base(options), lora, frozen=frozen, with_masks=options.with_masks)
    # of the base: another revision's adapter would fit and be wrong
    adapted.peft_config["default"].revision = options.revision
    if options.model_name_or_path in (TINY, RANDOM_TINY):
        adapted.save_base = _base_saver(options)
    return adapted


def _base_saver(options: ModelOptions) -> Callable[[Path], None]:
    """Saves a base that only this machine has, as it was before any adapter."""

    def save(folder: Path) -> None:
        name = options.model_name_or_path
        _load_base(ModelOptions(name, revision=options.revision, seed=options.seed)).save_pretrained(folder)
        load_processor(name, options.revision).save_pretrained(folder)

    return save


def _adapter_file(options: ModelOptions) -> str | None:
    """The path of an adapter's config; `None` where the name is a model."""
    name = options.model_name_or_path
    if name in (TINY, RANDOM_TINY):
        return None
    if Path(name).is_dir():
        file = Path(name) / ADAPTER_CONFIG
        return str(file) if file.is_file() else None
    check_exists(name)
    with naming_the_model(name):
        return find_adapter_config_file(name, revision=options.revision)


def _load_base(options: ModelOptions) -> Sam3ForConceptSegmentation:
    model = _random_tiny(options) if options.model_name_or_path == RANDOM_TINY else _pretrained(options)
    model.pairs_per_chunk = options.pairs_per_chunk
    model.with_masks, model.pair_checkpointing = options.with_masks, options.pair_checkpointing
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.official_dropout:
        apply_official_dropout(model)
    return model


def _random_tiny(options: ModelOptions) -> Sam3ForConceptSegmentation:
    if options.quantization:
        raise ValueError(f"`quantization` is for saved weights; {RANDOM_TINY} has none")
    config = tiny_config()
    _adjust(config, options)
    config._attn_implementation = options.attn_implementation or config._attn_implementation
    model = random_model(config, options.seed)
    _cast_encoders(model, options)
    return model


def _cast_encoders(model: Sam3ForConceptSegmentation, options: ModelOptions) -> None:
    # parameters alone: `from_pretrained` keeps buffers such as rotary frequencies in float32 too
    for encoder in (model.vision_encoder, model.text_encoder):
        for parameter in encoder.parameters():
            parameter.data = parameter.data.to(getattr(torch, options.dtype))


def _pretrained(options: ModelOptions) -> Sam3ForConceptSegmentation:
    arguments = {"dtype": getattr(torch, options.dtype), "revision": options.revision}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.quantization:
        arguments |= quantized(options.quantization)
    source = source_of(options.model_name_or_path)
    with naming_the_model(options.model_name_or_path):
        config = Sam3Config.from_pretrained(source, revision=options.revision)
    config = copy.deepcopy(getattr(config, "detector_config", None) or config)  # the Hub's file is the video layout
    _adjust(config, options)
    with naming_the_model(options.model_name_or_path):
        model, report = Sam3ForConceptSegmentation.from_pretrained(
            source, config=config, output_loading_info=True, **arguments
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"`model_name_or_path`: {options.model_name_or_path!r} lacks {len(missing)} weights of SAM 3, such as "
            f"{missing[0]!r}; they would be random. Use a whole checkpoint of Sam3Model"
        )
    # CLIP's own projection has the name of the one behind it, which is kept in float32
    model.text_encoder.text_projection.to(getattr(torch, options.dtype))
    if options.quantization:
        without_cpu_packing(model)
    return model


def _adjust(config: Sam3Config, options: ModelOptions) -> None:
    if options.resolution:
        set_resolution(config, options.resolution)
    if options.dropout is not None:
        for part in (config.geometry_encoder_config, config.detr_encoder_config, config.detr_decoder_config):
            part.dropout = options.dropout


def load_processor(model_name_or_path: str, revision: str | None = None) -> Sam3Processor:
    """The processor beside the weights."""
    if model_name_or_path == RANDOM_TINY:
        return tiny_processor()
    source = source_of(model_name_or_path)
    with naming_the_model(model_name_or_path):
        return Sam3Processor.from_pretrained(source, revision=revision)


def processor_of(model: Sam3Model, model_name_or_path: str, revision: str | None = None) -> Sam3Processor:
    """
    The processor beside the weights, at the canvas that the model works at.

    Raises:
        `ValueError`: where its tokenizer has another vocabulary than the model.
    """
    processor = load_processor(model_name_or_path, revision)
    words, known = len(processor.tokenizer), model.config.text_config.vocab_size
    if words != known:
        raise ValueError(
            f"`model_name_or_path`: the tokenizer beside {model_name_or_path!r} has {words} tokens, the model {known}. Copy tokenizer.json "
            "and tokenizer_config.json of the model it was made from"
        )
    return fit_processor(processor, model.config.image_size)


def fit_processor(processor: Sam3Processor, side: int) -> Sam3Processor:
    """The processor, made to give a canvas of `side` px."""
    processor.image_processor.size = {"height": side, "width": side}
    processor.target_size = side
    return processor


def file_beside(name: str, file: str, revision: str | None = None) -> Path | None:
    """A file that was saved beside a model's weights, in a folder or on the Hub; `None` where there is none."""
    with naming_the_model(name):
        found = None if name == RANDOM_TINY else cached_file(
            source_of(name), file, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=not is_offline_mode(),
        )  # fmt: skip
    return Path(found) if found else None


def read_trained_phrases(name: str, revision: str | None = None) -> set[str] | None:
    """The phrases that a saved model was trained on; `None` where nothing beside it says."""
    file = file_beside(name, TRAINED_PHRASES, revision)
    return None if file is None else set(json.loads(file.read_text(encoding="utf-8")))


def source_of(name: str) -> str:
    """
    Where a name's files are. The carried model is loaded from its folder, so that nothing saved from it names a base that
    only this package knows.
    """
    if name == TINY:
        return str(TINY_FOLDER)
    check_exists(name)
    return name


@contextlib.contextmanager
def naming_the_model(name: str):
    """Turns what a broken or missing model raises into one `ValueError` that names it and says what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, TypeError, KeyError, ValueError) as error:
        remedy = (
            "The folder is damaged or holds another kind of model: save or copy it again, tokenizer and processor files too"
            if Path(name).is_dir()
            else "Check the name; for facebook/sam3 ask for access on its page and run `hf auth login`"
        )
        raise ValueError(f"`model_name_or_path`: {name!r} cannot be loaded. {remedy}. ({error})") from error


def check_exists(name: str) -> None:
    """Raises `ValueError` for a path that does not exist; a Hub id has the form `owner/name`."""
    if Path(name).is_dir():
        if not any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
            raise ValueError(
                f"`model_name_or_path`: the folder {name!r} holds no config.json, so it is no saved model or adapter. A training "
                "output keeps its model in the folder itself and in checkpoint-N folders."
            )
        return
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"`model_name_or_path`: there is no folder {name!r}. Give a folder written by save_pretrained, a Hub id like "
            f"facebook/sam3, or {TINY}."
        )
