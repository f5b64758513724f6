"""Loading of processors."""

from typing import Any, TypeVar

from transformers import PreTrainedModel, ProcessorMixin

from ..utils.json_files import read_json_file
from ..utils.text import short_repr
from .families import UNTRAINED, get_family_of_model
from .family_spec import FamilySpec
from .model_files import add_model_to_errors, detect_family, find_concept_info, find_saved_file, resolve_source
from .sam3.concept_files import read_concept_info


Processor = TypeVar("Processor", bound=ProcessorMixin)


def load_processor(
    model_name_or_path: str, revision: str | None = None, family: FamilySpec | None = None
) -> ProcessorMixin:
    """
    Load the processor that is saved with a model's weights, or with those of the base of concepts.

    Args:
        model_name_or_path (`str`): Hub id, folder, or name of a model of this package.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        family (`FamilySpec`, *optional*): Family of the model; read from its config by default.

    Returns:
        `ProcessorMixin`: `Sam3Processor` or `Sam2Processor`.
    """
    info = find_concept_info(model_name_or_path, revision)
    if info is not None:
        found = read_concept_info(info)
        return load_processor(found.base, found.revision, family)
    if model_name_or_path in UNTRAINED:
        return UNTRAINED[model_name_or_path].build_tiny_processor()
    family = family or detect_family(model_name_or_path, revision)
    source = resolve_source(model_name_or_path)
    with add_model_to_errors(model_name_or_path):
        arguments: dict[str, Any] = {"revision": revision}  # Transformers' annotation lacks `None`.
        return family.processor_class.from_pretrained(source, **arguments)


def load_processor_of_model(
    model: PreTrainedModel, model_name_or_path: str, revision: str | None = None
) -> ProcessorMixin:
    """
    Load the processor of a model and set its resolution to the model's.

    Args:
        model (`PreTrainedModel`): The loaded model.
        model_name_or_path (`str`): Its name.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `ProcessorMixin`: The processor.

    Raises:
        `ValueError`: If the vocabulary sizes of tokenizer and model differ.
    """
    family = get_family_of_model(model)
    processor = load_processor(model_name_or_path, revision, family)
    if family.has_text_encoder and len(processor.tokenizer) != model.config.text_config.vocab_size:
        raise ValueError(
            f"`model_name_or_path`: the tokenizer of {model_name_or_path!r} has {len(processor.tokenizer)} tokens, "
            f"the model {model.config.text_config.vocab_size}. Copy tokenizer.json and tokenizer_config.json of the "
            "model that was fine-tuned"
        )
    return fit_processor(processor, family.get_resolution(model.config))


def fit_processor(processor: Processor, side: int) -> Processor:
    """Set the resolution of a processor to `side` px and return it."""
    processor.image_processor.size = {"height": side, "width": side}
    setattr(processor, "target_size", side)  # noqa: B010 (an attribute of SAM's processors)
    return processor


def read_saved_resolution(name: str, revision: str | None) -> int | None:
    """Read the resolution, in px, of the processor that is saved with an adapter; `None` if it has no processor."""
    for file_name in ("processor_config.json", "preprocessor_config.json"):
        file = find_saved_file(name, file_name, revision)
        if file is not None:
            content = read_json_file(file, "model_name_or_path", remedy="Copy the adapter again")
            content = content if isinstance(content, dict) else {}
            images = content.get("image_processor") or content
            size = images.get("size") if isinstance(images, dict) else None
            side = size.get("height") if isinstance(size, dict) else size
            if side and not isinstance(side, int):
                raise ValueError(
                    f"`model_name_or_path`: {file} has an invalid `size`: {short_repr(size)}. Copy the adapter again"
                )
            if side:
                return side
    return None
