"""What is exported: a model from any place that this package or the official one leaves models in."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, Sam3Config, Sam3Processor, Sam3VideoConfig

from ..models.finite import check_weights
from ..models.loading import ModelOptions, load_model
from ..models.model_files import check_exists, naming_the_model, source_of
from ..models.processors import processor_of
from ..models.sam3.config import set_resolution
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.official_names import from_official
from .weight_files import is_weight_file, read_shapes, read_weights
from .weight_names import OFFICIAL, SAM3, TRAINER, VIDEO, KeyTable, compare, layout_of, without_prefix


logger = logging.getLogger("sam_ft.run")

RELEASED = "facebook/sam3"


def load_source(options: ModelOptions, base: str | None) -> tuple[Sam3ForConceptSegmentation, Sam3Processor]:
    """
    The model with adapters merged, in float32, and its processor.

    Args:
        options (`ModelOptions`): the name may also be a file of weights in any of SAM 3's layouts.
        base (`str`, *optional*): for a file: the model whose config and processor it takes; those beside it, or facebook/sam3's, where not
            given.

    Raises:
        `ValueError`: where it cannot be loaded, or a file's tensors are not the model's; shows which.
    """
    name = options.model_name_or_path
    if not is_weight_file(name):
        model = load_model(options)
        return model, processor_of(model, name, options.revision)
    if options.revision is not None:
        raise ValueError(f"`model_revision` is for the Hub; {name!r} is a file")
    try:
        weights = read_weights(name)
    except ValueError as error:
        raise ValueError(f"`model_name_or_path`: {error}") from error
    kin = _kin(name, base)
    config = config_of(kin)
    config = config.detector_config if isinstance(config, Sam3VideoConfig) else config
    if options.resolution:
        set_resolution(config, options.resolution)
    table = compare({key: tuple(tensor.shape) for key, tensor in weights.items()}, config)
    if not table.fits:
        raise ValueError(
            "\n".join([f"`model_name_or_path`: {name} does not fit the architecture of {kin!r}:", *table.lines()])
        )
    logger.info("%s: %s, all %d tensors fit", name, table.layout, table.matched)
    model = Sam3ForConceptSegmentation(config)
    model.load_state_dict(_as_sam3(weights, table.layout))
    check_weights(model, name)
    return model.eval(), processor_of(model, kin)


def _kin(file: str, base: str | None) -> str:
    """Whose config and processor a file of weights takes: the base, where that is no file itself, what lies beside it, or the released SAM 3."""
    if base is not None and not is_weight_file(base):
        return base
    beside = Path(file).parent
    return str(beside) if (beside / "config.json").is_file() else RELEASED


def _as_sam3(weights: dict[str, torch.Tensor], layout: str) -> dict[str, torch.Tensor]:
    if layout == SAM3:
        return weights
    if layout == VIDEO:
        mark = "detector_model."
        return {key.removeprefix(mark): tensor for key, tensor in weights.items() if key.startswith(mark)}
    return from_official(without_prefix(weights, layout))


def config_of(name: str) -> Sam3Config | Sam3VideoConfig:
    """
    The config of a saved model.

    Raises:
        `ValueError`: where there is none, or it is another architecture's.
    """
    check_exists(name)
    with naming_the_model(name):
        config = AutoConfig.from_pretrained(source_of(name))
    if not isinstance(config, Sam3Config | Sam3VideoConfig):
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model, not SAM 3 (`sam3`) and not its video model (`sam3_video`)"
        )
    return config


def verify(place: str, base: str | None) -> KeyTable:
    """
    The table of a file or folder of unknown origin.

    Args:
        place (`str`). base (`str`, *optional*): the model whose architecture it should have; without, that of the config beside the
            weights, or the released SAM 3's.

    Raises:
        `ValueError`: where it cannot be read, or is of no layout of SAM 3.
    """
    path = Path(place)
    if not path.exists():
        raise ValueError(f"`verify`: there is no file or folder {place!r}")
    beside = path if path.is_dir() else path.parent
    try:
        shapes = read_shapes(path)
        layout = layout_of(shapes)
        if base is not None:
            config = config_of(base)
        elif (beside / "config.json").is_file():
            config = config_of(str(beside))
        else:
            config = Sam3VideoConfig() if layout == VIDEO else Sam3Config()
        return compare(shapes, config)
    except ValueError as error:
        raise ValueError(f"`verify`: {place}: {error}") from error


def read_official_base(file: str, config: Sam3Config) -> dict[str, torch.Tensor]:
    """
    A base `sam3.pt`, checked.

    Raises:
        `ValueError`: where it is another layout or architecture.
    """
    if not is_weight_file(file):
        raise ValueError(
            f"`base` is {file!r}; `format: official` keeps the other tensors of a file such as sam3.pt: give its path"
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


def plain_options(options: ModelOptions) -> ModelOptions:
    """The same model in float32, which every export is written in."""
    return replace(options, dtype="float32", quantization=None)
