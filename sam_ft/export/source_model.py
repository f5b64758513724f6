"""Sources of an export: folders, Hub ids, and weight files in any layout of SAM 3."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, Sam3Config, Sam3Processor, Sam3VideoConfig

from ..models.concept_sources import has_concepts
from ..models.finite import check_weights
from ..models.loading import load_as_trained, load_model
from ..models.lora import AdaptedSam, merge_adapters
from ..models.model_files import add_model_to_errors, check_exists, resolve_source
from ..models.processors import load_processor_of_model
from ..models.sam3.concept_files import add_concept_files, read_concept_source
from ..models.sam3.config import set_resolution
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.official_names import from_official
from ..options.model import ModelOptions
from .weight_files import is_weight_file, read_shapes, read_weights
from .weight_names import OFFICIAL, SAM3, TRAINER, VIDEO, KeyTable, compare, detect_layout, remove_prefix


logger = logging.getLogger("sam_ft.run")

RELEASED_MODEL = "facebook/sam3"


def load_source(options: ModelOptions, base: str | None) -> tuple[Sam3ForConceptSegmentation, Sam3Processor]:
    """
    Load the model of an export in float32 with merged adapters and its concepts, and its processor.

    Args:
        options (`ModelOptions`): Model; its name may also be a weight file in any layout of SAM 3.
        base (`str`, *optional*): Model whose config and processor a weight file uses; by default those beside the
            file, or those of facebook/sam3.

    Returns:
        `tuple[Sam3ForConceptSegmentation, Sam3Processor]`: Model in evaluation mode, and processor.

    Raises:
        `ValueError`: If the model cannot be loaded, or the tensors of the file do not fit; lists them.
    """
    name = options.model_name_or_path
    if not is_weight_file(name):
        model = _load_with_concepts(options) if has_concepts(options) else load_model(options)
        return model, load_processor_of_model(model, name, options.revision)
    if options.revision is not None:
        raise ValueError(f"`model_revision` applies to models of the Hub; {name!r} is a file. Remove the key")
    try:
        weights = read_weights(name)
    except ValueError as error:
        raise ValueError(f"`model_name_or_path`: {error}") from error
    config_source = _find_config_source(name, base)
    config = load_config(config_source)
    config = config.detector_config if isinstance(config, Sam3VideoConfig) else config
    if options.resolution:
        set_resolution(config, options.resolution)
    table = compare({key: tuple(tensor.shape) for key, tensor in weights.items()}, config)
    if not table.fits:
        raise ValueError(
            "\n".join(
                [f"`model_name_or_path`: {name} does not fit the architecture of {config_source!r}:", *table.lines()]
            )
        )
    logger.info("%s: %s, all %d tensors fit", name, table.layout, table.matched)
    model = Sam3ForConceptSegmentation(config)
    model.load_state_dict(_to_sam3_names(weights, table.layout))
    check_weights(model, name)
    if options.concepts:
        add_concept_files(model, [read_concept_source(concepts) for concepts in options.concepts], base=name)
    return model.eval(), load_processor_of_model(model, config_source)


def _load_with_concepts(options: ModelOptions) -> Sam3ForConceptSegmentation:
    """Load a model with its concepts, whose digests are those of the model before an adapter is merged."""
    model = load_as_trained(options)
    return merge_adapters(model) if isinstance(model, AdaptedSam) else model


def find_concept_source(options: ModelOptions) -> str | None:
    """Return the first folder or Hub id of concepts that the options of an export name, `None` without concepts."""
    if options.concepts or is_weight_file(options.model_name_or_path):
        return next(iter(options.concepts), None)
    return options.model_name_or_path if has_concepts(options) else None


def _find_config_source(file: str, base: str | None) -> str:
    """Return the config and processor source of a weight file: the base, the file's folder, or the released SAM 3."""
    if base is not None and not is_weight_file(base):
        return base
    folder = Path(file).parent
    return str(folder) if (folder / "config.json").is_file() else RELEASED_MODEL


def _to_sam3_names(weights: dict[str, torch.Tensor], layout: str) -> dict[str, torch.Tensor]:
    if layout == SAM3:
        return weights
    if layout == VIDEO:
        prefix = "detector_model."
        return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    return from_official(remove_prefix(weights, layout))


def load_config(name: str) -> Sam3Config | Sam3VideoConfig:
    """
    Load the config of a saved SAM 3.

    Args:
        name (`str`): Folder or Hub id.

    Returns:
        `Sam3Config` or `Sam3VideoConfig`: The config.

    Raises:
        `ValueError`: If there is no config, or it belongs to another architecture.
    """
    check_exists(name)
    with add_model_to_errors(name):
        config = AutoConfig.from_pretrained(resolve_source(name))
    if not isinstance(config, Sam3Config | Sam3VideoConfig):
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model; expected SAM 3 (`sam3`) or its video model (`sam3_video`)"
        )
    return config


def verify(path: str, base: str | None) -> KeyTable:
    """
    Compare the tensors of a file or folder with those of an architecture.

    Args:
        path (`str`): Weight file, or folder of a saved model.
        base (`str`, *optional*): Model with the expected architecture; by default the config beside the weights, or
            the released SAM 3.

    Returns:
        `KeyTable`: Matched, missing, unexpected and misshapen tensors.

    Raises:
        `ValueError`: If the path cannot be read, or has no layout of SAM 3.
    """
    source = Path(path)
    if not source.exists():
        raise ValueError(f"`verify`: there is no file or folder {path!r}. Check the path")
    folder = source if source.is_dir() else source.parent
    try:
        shapes = read_shapes(source)
        layout = detect_layout(shapes)
        if base is not None:
            config = load_config(base)
        elif (folder / "config.json").is_file():
            config = load_config(str(folder))
        else:
            config = Sam3VideoConfig() if layout == VIDEO else Sam3Config()
        return compare(shapes, config)
    except ValueError as error:
        raise ValueError(f"`verify`: {path}: {error}") from error


def read_official_base(file: str, config: Sam3Config) -> dict[str, torch.Tensor]:
    """
    Read and check a base in the layout of `sam3.pt`.

    Args:
        file (`str`): Weight file.
        config (`Sam3Config`): Expected architecture.

    Returns:
        `dict[str, torch.Tensor]`: Its tensors.

    Raises:
        `ValueError`: If the file has another layout or architecture.
    """
    if not is_weight_file(file):
        raise ValueError(
            f"`base` is {file!r}; `format: official` needs a file such as sam3.pt, whose other tensors it copies"
        )
    try:
        weights = read_weights(file)
        table = compare({key: tuple(tensor.shape) for key, tensor in weights.items()}, config)
    except ValueError as error:
        raise ValueError(f"`base`: {error}") from error
    if table.layout not in (OFFICIAL, TRAINER) or not table.fits:
        raise ValueError(
            "\n".join([f"`base`: {file} is no official checkpoint of this architecture:", *table.lines()])
        )
    return weights


def to_export_options(options: ModelOptions) -> ModelOptions:
    """Return the options of the same model in float32 without quantization, as every export is written."""
    return replace(options, dtype="float32", quantization=None)
