"""SAM 3 and SAM 2: which classes, sizes and random starts belong together, and which of the two a name is."""

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
CARRIED = {
    TINY: TINY_FOLDER,
    TINY_SAM2: Path(__file__).parent / "carried" / "tiny_sam2",
}  # weights inside this package


@dataclass(frozen=True)
class Family:
    """
    Attributes:
        key (`str`): `sam3` or `sam2`. title (`str`). example (`str`): a Hub id.
        config, model, processor (`type`): Transformers' config and processor, our model.
        encoders (`tuple[str, ...]`): modules that may be held in half precision.
        random_name (`str`): the name of its untrained tiny model; tiny_config, tiny_processor, random_model (`Callable`): what that is made of.
        set_resolution (`Callable`): `(config, side in px)`.
        recipes (`str`): the scripts that take it.
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
    "sam3", "SAM 3", "facebook/sam3", Sam3Config, Sam3ForConceptSegmentation, Sam3Processor, ("vision_encoder", "text_encoder"), RANDOM_TINY,
    tiny_config, tiny_processor, random_model, set_resolution, "sam3_ft.py, sam3_eval.py or sam3_predict.py",
)  # fmt: skip
SAM2 = Family(
    "sam2", "SAM 2", "facebook/sam2.1-hiera-base-plus", Sam2Config, Sam2ForPromptSegmentation, Sam2Processor, ("vision_encoder",),
    RANDOM_TINY_SAM2, tiny_sam2_config, tiny_sam2_processor, random_sam2, set_sam2_resolution, "sam2_ft.py, sam2_eval.py or sam2_predict.py",
)  # fmt: skip
FAMILIES = {one.key: one for one in (SAM3, SAM2)}
OWN_NAMES = (*CARRIED, *(one.random_name for one in FAMILIES.values()))  # known to this package alone


def family_of_model(model) -> Family:
    """Of a model of ours, or of what PEFT has made of it."""
    return FAMILIES[model.config.model_type]


def family_of_files(config: Path | None, adapter: Path | None) -> Family | None:
    """Of a saved model's or adapter's `config.json` or `adapter_config.json`; `None` where neither tells."""
    model_type = ""
    if adapter is not None:
        mapping = _read(adapter).get("auto_mapping")
        model_type = mapping.get("base_model_class") if isinstance(mapping, dict) else ""
    elif config is not None:
        model_type = _read(config).get("model_type")
    model_type = model_type if isinstance(model_type, str) else ""
    # the video layouts too: `sam3_video`, `sam2_video`; but not SAM 3's tracker, which is another model
    return next(
        (
            one
            for key, one in FAMILIES.items()
            if model_type.lower().removesuffix("model").removesuffix("_video") == key
        ),
        None,
    )


def _read(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_foreign_config(config: Path) -> str:
    """
    Describe what a `config.json` of neither family is, for an error.

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
