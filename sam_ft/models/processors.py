"""The processor beside a model's weights."""

from transformers import PreTrainedModel, ProcessorMixin

from ..utils.json_files import read_json_file
from ..utils.text import short_repr
from .families import FAMILIES, Family, family_of_model
from .model_files import family_of, file_beside, naming_the_model, source_of
from .sam3.config import side_of


def load_processor(
    model_name_or_path: str, revision: str | None = None, family: Family | None = None
) -> ProcessorMixin:
    """The processor beside the weights; `family` where it is known."""
    untrained = next((one for one in FAMILIES.values() if one.random_name == model_name_or_path), None)
    if untrained is not None:
        return untrained.tiny_processor()
    family = family or family_of(model_name_or_path, revision)
    source = source_of(model_name_or_path)
    with naming_the_model(model_name_or_path):
        return family.processor.from_pretrained(source, revision=revision)


def processor_of(model: PreTrainedModel, model_name_or_path: str, revision: str | None = None) -> ProcessorMixin:
    """
    The processor beside the weights, at the canvas that the model works at.

    Raises:
        `ValueError`: where its tokenizer has another vocabulary than the model.
    """
    processor = load_processor(model_name_or_path, revision, family_of_model(model))
    tokenizer, text = getattr(processor, "tokenizer", None), getattr(model.config, "text_config", None)
    if tokenizer is not None and len(tokenizer) != text.vocab_size:
        words, known = len(tokenizer), text.vocab_size
        raise ValueError(
            f"`model_name_or_path`: the tokenizer beside {model_name_or_path!r} has {words} tokens, the model {known}. Copy tokenizer.json "
            "and tokenizer_config.json of the model it was made from"
        )
    return fit_processor(processor, side_of(model.config))


def fit_processor(processor: ProcessorMixin, side: int) -> ProcessorMixin:
    """The processor, made to give a canvas of `side` px."""
    processor.image_processor.size = {"height": side, "width": side}
    processor.target_size = side
    return processor


def side_beside(name: str, revision: str | None) -> int | None:
    """The canvas of the processor that was saved with an adapter, px; `None` where there is none."""
    for saved in ("processor_config.json", "preprocessor_config.json"):
        file = file_beside(name, saved, revision)
        if file is not None:
            content = read_json_file(file, "model_name_or_path", remedy="Copy the adapter again")
            content = content if isinstance(content, dict) else {}
            images = content.get("image_processor") or content
            size = images.get("size") if isinstance(images, dict) else None
            side = size.get("height") if isinstance(size, dict) else size
            if side and not isinstance(side, int):
                raise ValueError(
                    f"`model_name_or_path`: {file} has the `size` {short_repr(size)}. Copy the adapter again"
                )
            if side:
                return side
    return None
