"""Model and processor from a name, a folder, or the embedded default."""

import contextlib
import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import Sam3Config, Sam3Processor

from .config import set_resolution, tiny_config, tiny_processor
from .dropout import apply_official_dropout
from .sam3 import Sam3ForConceptSegmentation
from .untrained import random_model


TINY = "sam-ft/tiny"
TINY_FOLDER = Path(__file__).parent / "tiny"
RANDOM_TINY = "sam-ft/random-tiny"


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
    seed: int = 0


def load_model(options: ModelOptions) -> Sam3ForConceptSegmentation:
    """
    Loads SAM 3 for training or evaluation.

    Raises:
        `ValueError`: on a resolution that is not a multiple of the patch, or a name that is neither a folder nor a Hub id.
    """
    arguments = {"dtype": getattr(torch, options.dtype)}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.model_name_or_path == RANDOM_TINY:
        config = tiny_config()
        _adjust(config, options)
        config._attn_implementation = options.attn_implementation or config._attn_implementation
        model = random_model(config, options.seed)
        for encoder in (model.vision_encoder, model.text_encoder):
            encoder.to(arguments["dtype"])
    else:
        source = _source(options.model_name_or_path)
        with naming_the_model(options.model_name_or_path):
            config = Sam3Config.from_pretrained(source, revision=options.revision)
        config = copy.deepcopy(
            getattr(config, "detector_config", None) or config
        )  # the Hub's file is the video layout
        _adjust(config, options)
        with naming_the_model(options.model_name_or_path):
            model, report = Sam3ForConceptSegmentation.from_pretrained(
                source, config=config, revision=options.revision, output_loading_info=True, **arguments
            )
        missing = sorted(report["missing_keys"])
        if missing:
            raise ValueError(
                f"`model_name_or_path`: {options.model_name_or_path!r} lacks {len(missing)} weights of SAM 3, such as "
                f"{missing[0]!r}; they would be random. Use a whole checkpoint of Sam3Model"
            )
    model.pairs_per_chunk = options.pairs_per_chunk
    model.with_masks = options.with_masks
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.official_dropout:
        apply_official_dropout(model)
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
    source = _source(model_name_or_path)
    with naming_the_model(model_name_or_path):
        return Sam3Processor.from_pretrained(source, revision=revision)


def _source(name: str) -> str:
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
        if not (Path(name) / "config.json").is_file():
            raise ValueError(
                f"`model_name_or_path`: the folder {name!r} holds no config.json, so it is no saved model. A training "
                "output keeps its model in the folder itself and in checkpoint-N folders."
            )
        return
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"`model_name_or_path`: there is no folder {name!r}. Give a folder written by save_pretrained, a Hub id like "
            f"facebook/sam3, or {TINY}."
        )
