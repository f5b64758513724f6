"""Registry of the model families SAM 3 and SAM 2, and detection of a checkpoint's family."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import Sam2Config, Sam2Processor, Sam3Config, Sam3Processor

from ..utils.json_files import read_json_file
from ..utils.text import short_repr
from .sam2.config import random_sam2, set_sam2_resolution, tiny_sam2_config, tiny_sam2_processor
from .sam2.model import Sam2ForPromptSegmentation
from .sam3.config import set_resolution, tiny_config, tiny_processor
from .sam3.model import Sam3ForConceptSegmentation
from .sam3.random_model import random_model


TINY = "sam-ft/tiny"
TINY_FOLDER = Path(__file__).parent / "carried" / "tiny"
RANDOM_TINY = "sam-ft/random-tiny"
RANDOM_TINY_SAM2 = "sam-ft/random-tiny-sam2"
TINY_SAM2 = "sam-ft/tiny-sam2"
# Weights in this package.
CARRIED = {TINY: TINY_FOLDER, TINY_SAM2: Path(__file__).parent / "carried" / "tiny_sam2"}


@dataclass(frozen=True)
class Family:
    """
    Classes, functions and names of a model family.

    Attributes:
        key (`str`): `sam3` or `sam2`.
        title (`str`): Name in messages.
        example (`str`): Hub id of a checkpoint.
        config (`type`): Transformers' config class.
        model (`type`): Model class of this package.
        processor (`type`): Transformers' processor class.
        encoders (`tuple[str, ...]`): Names of the modules that `dtype` applies to.
        random_name (`str`): Name of the untrained tiny model.
        tiny_config (`Callable`): Builds the config of the tiny model.
        tiny_processor (`Callable`): Builds the processor of the tiny model.
        random_model (`Callable`): `(config, seed) -> model`.
        set_resolution (`Callable`): `(config, side in px) -> None`.
        recipes (`str`): Recipes of the family, for messages.
    """

    key: str
    title: str
    example: str
    config: type
    model: type
    processor: type
    encoders: tuple[str, ...]
    random_name: str
    tiny_config: Callable
    tiny_processor: Callable
    random_model: Callable
    set_resolution: Callable
    recipes: str


SAM3 = Family(
    "sam3", "SAM 3", "facebook/sam3", Sam3Config, Sam3ForConceptSegmentation, Sam3Processor,
    ("vision_encoder", "text_encoder"), RANDOM_TINY, tiny_config, tiny_processor, random_model, set_resolution,
    "sam3_ft.py, sam3_eval.py or sam3_predict.py",
)  # fmt: skip
SAM2 = Family(
    "sam2", "SAM 2", "facebook/sam2.1-hiera-base-plus", Sam2Config, Sam2ForPromptSegmentation, Sam2Processor,
    ("vision_encoder",), RANDOM_TINY_SAM2, tiny_sam2_config, tiny_sam2_processor, random_sam2, set_sam2_resolution,
    "sam2_ft.py, sam2_eval.py or sam2_predict.py",
)  # fmt: skip
FAMILIES = {family.key: family for family in (SAM3, SAM2)}
OWN_NAMES = (*CARRIED, *(family.random_name for family in FAMILIES.values()))  # names that only this package resolves


def family_of_model(model) -> Family:
    """Return the family of a model with or without PEFT's wrapper."""
    return FAMILIES[model.config.model_type]


def family_of_files(config: Path | None, adapter: Path | None) -> Family | None:
    """
    Detect the family of a saved model or adapter.

    Args:
        config (`Path` or `None`): `config.json` of a model.
        adapter (`Path` or `None`): `adapter_config.json` of an adapter.

    Returns:
        `Family` or `None`: `None` if the files name neither family.
    """
    model_type = ""
    if adapter is not None:
        mapping = _read(adapter).get("auto_mapping")
        model_type = mapping.get("base_model_class") if isinstance(mapping, dict) else ""
    elif config is not None:
        model_type = _read(config).get("model_type")
    model_type = model_type if isinstance(model_type, str) else ""
    # The video models `sam3_video` and `sam2_video` contain the image model; SAM 3's tracker does not.
    return next(
        (
            family
            for key, family in FAMILIES.items()
            if model_type.lower().removesuffix("model").removesuffix("_video") == key
        ),
        None,
    )


def _read(file: Path) -> dict:
    """Read a JSON object; return an empty one if the file contains none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_foreign_config(config: Path) -> str:
    """
    Describe the model of a `config.json` that is of neither family, for an error message.

    Args:
        config (`Path`): The file.

    Returns:
        `str`: A part of a sentence that follows the model's name.

    Raises:
        `ValueError`: If the file is no JSON; names it.
    """
    content = read_json_file(config, "model_name_or_path", remedy="Copy the folder again")
    if not isinstance(content, dict) or "model_type" not in content:
        return f"has no `model_type` in {config}"
    architectures = content.get("architectures")
    classes = f" ({short_repr(architectures[0])})" if isinstance(architectures, list) and architectures else ""
    return f"is a model of the type {short_repr(content['model_type'])}{classes}"
