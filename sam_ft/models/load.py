"""Model and processor from a name, a folder, or the embedded default."""

import contextlib
import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Processor

from .dropout import apply_official_dropout
from .sam3 import Sam3ForConceptSegmentation
from .tokenizer import byte_level_clip_tokenizer, byte_level_vocabulary


RANDOM_TINY = "sam-ft/random-tiny"
PATCH = 14


@dataclass
class ModelOptions:
    """
    How a model is built. Everything but the name belongs to a run and leaves the checkpoint's format alone.

    Attributes:
        model_name_or_path (`str`): a Hub id, a folder, or `sam-ft/random-tiny`: untrained, 1.5 M parameters, no download.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        dtype (`str`): of the frozen encoders' weights; the small parts stay in float32.
        attn_implementation (`str`, *optional*): `sdpa`, `eager`, `flash_attention_2`.
        resolution (`int`, *optional*): side in pixels the model works at; the checkpoint's own where not given.
        activation_checkpointing (`bool`): recompute ViT and text layers in the backward pass.
        official_dropout (`bool`): drop-path and dropouts that Transformers' port leaves out.
        with_masks (`bool`): train and predict masks.
        pairs_per_chunk (`int`): (image, phrase) pairs in memory at once.
        seed (`int`): of the untrained model's weights.
    """

    model_name_or_path: str = RANDOM_TINY
    revision: str | None = None
    dtype: str = "float32"
    attn_implementation: str | None = None
    resolution: int | None = None
    activation_checkpointing: bool = False
    official_dropout: bool = False
    with_masks: bool = True
    pairs_per_chunk: int = 4
    seed: int = 0


def load_model(options: ModelOptions) -> Sam3ForConceptSegmentation:
    """
    Loads SAM 3 for training or evaluation.

    Raises:
        `ValueError`: on a resolution that is not a multiple of 14, or a name that is neither a folder nor a Hub id.
    """
    arguments = {"dtype": getattr(torch, options.dtype)}
    if options.attn_implementation:
        arguments["attn_implementation"] = options.attn_implementation
    if options.model_name_or_path == RANDOM_TINY:
        config = tiny_config()
        if options.resolution:
            set_resolution(config, options.resolution)
        config._attn_implementation = options.attn_implementation or config._attn_implementation
        model = random_model(config, options.seed)
        for encoder in (model.vision_encoder, model.text_encoder):
            encoder.to(arguments["dtype"])
    else:
        check_exists(options.model_name_or_path)
        with naming_the_model(options.model_name_or_path):
            config = Sam3Config.from_pretrained(options.model_name_or_path, revision=options.revision)
        config = copy.deepcopy(
            getattr(config, "detector_config", None) or config
        )  # the Hub's file is the video layout
        if options.resolution:
            set_resolution(config, options.resolution)
        with naming_the_model(options.model_name_or_path):
            model, report = Sam3ForConceptSegmentation.from_pretrained(
                options.model_name_or_path,
                config=config,
                revision=options.revision,
                output_loading_info=True,
                **arguments,
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


def load_processor(model_name_or_path: str, revision: str | None = None) -> Sam3Processor:
    """The processor beside the weights; the tiny model's own where the name is `sam-ft/random-tiny`."""
    if model_name_or_path == RANDOM_TINY:
        return tiny_processor(tiny_config().image_size)
    check_exists(model_name_or_path)
    with naming_the_model(model_name_or_path):
        return Sam3Processor.from_pretrained(model_name_or_path, revision=revision)


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
            f"facebook/sam3, or {RANDOM_TINY}."
        )


def set_resolution(config: Sam3Config, resolution: int) -> None:
    """
    Sets the side in pixels that a model works at, before its weights are loaded: positions are tiled, rotary
    embeddings recomputed.

    Raises:
        `ValueError`: where it is not a multiple of the 14 px patch; names the two nearest that are.
    """
    if resolution % PATCH or resolution <= 0:
        low = max(resolution // PATCH, 1) * PATCH
        raise ValueError(
            f"`resolution` is {resolution}, but SAM 3 cuts images into patches of {PATCH} px: use {low} or {low + PATCH}. "
            "Multiples of 336 (336, 672, 1008) also avoid padding in its attention windows."
        )
    config.image_size = resolution
    side = resolution // PATCH
    config.vision_config.backbone_feature_sizes = [[side * s, side * s] for s in (4, 2, 1)]


def random_model(config: Sam3Config, seed: int) -> Sam3ForConceptSegmentation:
    """
    An untrained model; the same weights for the same seed, without touching the global random state. Behind the encoders
    it is initialised as officially (Xavier, unit normal embeddings, PyTorch's defaults in neck and mask head): with
    Transformers' 0.02 everywhere queries and masks start alike and take hundreds of steps to part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sam3ForConceptSegmentation(config)
        for part in (model.vision_encoder.neck, model.text_projection, model.mask_decoder):
            for module in part.modules():
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                    module.reset_parameters()
        for part in (model.geometry_encoder, model.detr_encoder, model.detr_decoder, model.dot_product_scoring):
            for module in part.modules():
                if isinstance(module, torch.nn.Linear):
                    torch.nn.init.xavier_uniform_(module.weight)
                elif isinstance(module, torch.nn.Embedding):
                    torch.nn.init.normal_(module.weight)
        # boxes start at their reference points, so that matches are stable from the first step
        torch.nn.init.zeros_(model.detr_decoder.box_head.layer3.weight)
        torch.nn.init.zeros_(model.detr_decoder.box_head.layer3.bias)
    return model


def tiny_config(resolution: int = 112) -> Sam3Config:
    """SAM 3's architecture with every part in place and 1.5 M parameters: windows, pyramid, fusion, decoder, masks."""
    width = 64
    stack = {
        "hidden_size": width,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    config = Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model",
            "fpn_hidden_size": width,
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 96,
                "intermediate_size": 256,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": resolution,
                "pretrain_image_size": 56,
                "window_size": 4,
                "global_attn_indexes": [1, 3],
                "layer_norm_eps": 1e-5,
            },
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(byte_level_vocabulary()),
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "projection_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
            "bos_token_id": len(byte_level_vocabulary()) - 2,
            "eos_token_id": len(byte_level_vocabulary()) - 1,
            "pad_token_id": len(byte_level_vocabulary()) - 1,
        },
        geometry_encoder_config={**stack, "num_layers": 1},
        detr_encoder_config={**stack, "num_layers": 2},
        detr_decoder_config={**stack, "num_layers": 3, "num_queries": 20},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 4},
    )
    set_resolution(config, resolution)
    return config


def tiny_processor(resolution: int = 112) -> Sam3Processor:
    """A real `Sam3Processor` with a byte-level CLIP tokenizer, made without download."""
    side = {"height": resolution, "width": resolution}
    mask_size = {"height": resolution // PATCH * 4, "width": resolution // PATCH * 4}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = byte_level_clip_tokenizer(Path(folder))
    return Sam3Processor(Sam3ImageProcessor(size=side, mask_size=mask_size), tokenizer, target_size=resolution)
