"""Loading of processors."""

from transformers import PreTrainedModel, ProcessorMixin

from ..utils.json_files import read_json_file
from ..utils.text import short_repr
from .families import FAMILIES, Family, family_of_model
from .model_files import family_of, file_beside, naming_the_model, source_of
from .sam3.config import side_of


def load_processor(
    model_name_or_path: str, revision: str | None = None, family: Family | None = None
) -> ProcessorMixin:
    """
    Load the processor that is saved with a model's weights.

    Args:
        model_name_or_path (`str`): Hub id, folder, or name of a model of this package.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        family (`Family`, *optional*): Family of the model; read from its config by default.

    Returns:
        `ProcessorMixin`: `Sam3Processor` or `Sam2Processor`.
    """
    untrained = next((member for member in FAMILIES.values() if member.random_name == model_name_or_path), None)
    if untrained is not None:
        return untrained.tiny_processor()
    family = family or family_of(model_name_or_path, revision)
    source = source_of(model_name_or_path)
    with naming_the_model(model_name_or_path):
        return family.processor.from_pretrained(source, revision=revision)


def processor_of(model: PreTrainedModel, model_name_or_path: str, revision: str | None = None) -> ProcessorMixin:
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
    processor = load_processor(model_name_or_path, revision, family_of_model(model))
    tokenizer, text = getattr(processor, "tokenizer", None), getattr(model.config, "text_config", None)
    if tokenizer is not None and len(tokenizer) != text.vocab_size:
        raise ValueError(
            f"`model_name_or_path`: the tokenizer of {model_name_or_path!r} has {len(tokenizer)} tokens, the model "
            f"{text.vocab_size}. Copy tokenizer.json and tokenizer_config.json of the model that was fine-tuned"
        )
    return fit_processor(processor, side_of(model.config))


def fit_processor(processor: ProcessorMixin, side: int) -> ProcessorMixin:
    """Set the resolution of a processor to `side` px and return it."""
    processor.image_processor.size = {"height": side, "width": side}
    processor.target_size = side
    return processor


def side_beside(name: str, revision: str | None) -> int | None:
    """Read the resolution, in px, of the processor that is saved with an adapter; `None` if it has no processor."""
    for file_name in ("processor_config.json", "preprocessor_config.json"):
        file = file_beside(name, file_name, revision)
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
