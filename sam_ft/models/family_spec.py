"""Specification of a model family: everything that differs between SAM 3 and SAM 2, in one place."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig, ProcessorMixin

from .offloading import OffloadingModel
from .parts import LearningRateGroups, ModelParts


@dataclass(frozen=True)
class FamilyCard:
    """
    Content of a model card that depends on the family.

    Attributes:
        task (`str`): Description of the task, the second half of a sentence.
        metrics (`str`): Description of the metrics.
        tags (`tuple[str, ...]`): Tags on the Hub.
        licence (`str`): Licence of the family's checkpoints, as an identifier of the Hub.
        licence_notice (`str`): Sentence about weights under a licence other than Apache-2.0.
        licence_name (`str`, *optional*): Name of a licence that has no identifier on the Hub.
        licence_link (`str`, *optional*): URL of that licence.
        usage (`str`): Import path of the function `(facts) -> usage examples`, see [`describe_usage`].
    """

    task: str
    metrics: str
    tags: tuple[str, ...]
    licence: str
    licence_notice: str
    usage: str
    licence_name: str | None = None
    licence_link: str | None = None

    def describe_usage(self, facts) -> list[dict[str, str]]:
        """
        Build the usage examples of a model.

        Args:
            facts (`CardFacts`): Content of the card.

        Returns:
            `list[dict[str, str]]`: Description (`what`) and `code` of each example.
        """
        return resolve(self.usage)(facts)


@dataclass(frozen=True)
class FamilySpec:
    """
    Classes, functions, parts and capabilities of a model family.

    Import paths have the form `package.module:name` and are resolved by [`resolve`] on use, because models must not
    import trainers, keys and commands.

    Attributes:
        key (`str`): `model_type` of the config: `sam3` or `sam2`.
        title (`str`): Name in messages.
        example (`str`): Hub id of a checkpoint.
        recipes (`str`): Recipes of the family, for messages.
        config_class (`type`): Transformers' config class.
        model_class (`type`): Model class of this package.
        processor_class (`type`): Transformers' processor class.
        tiny_name (`str`): Name of the trained tiny model in this package.
        tiny_folder (`Path`): Folder of the trained tiny model.
        random_name (`str`): Name of the untrained tiny model.
        build_tiny_config (`Callable`): `() -> config` of the tiny models.
        build_tiny_processor (`Callable`): `() -> processor` of the tiny models.
        build_random_model (`Callable`): `(config, seed) -> model`.
        get_resolution (`Callable`): `(config) -> side in px`.
        set_resolution (`Callable`): `(config, side in px) -> None`.
        encoders (`tuple[str, ...]`): Names of the modules that `dtype` and `quantization` apply to.
        parts (`ModelParts`): Named parts.
        lora_presets (`dict[str, str]`): LoRA preset -> regex over the names of linear layers and convolutions.
        rate_groups (`LearningRateGroups`): Parts with a learning rate of their own.
        arguments (`str`): Import path of the dataclasses of the keys of model, data, loss and training.
        trainer (`str`): Import path of the trainer class.
        build_trainer (`str`): Import path of the function that builds the trainer from keys.
        card (`FamilyCard`): Content of model cards.
        takes_phrases (`bool`): Whether prompts are phrases, so that retention and trained phrases are recorded.
        evaluation_prompts (`tuple[str, ...]`): First prompts of an evaluation to choose from; empty for phrases.
        model_settings (`tuple[str, ...]`): Options of [`ModelOptions`] that are attributes of this family's models.
        loading_options (`tuple[str, ...]`): Further options of [`ModelOptions`] that not every family has.
        has_flash_attention (`bool`): Whether `attn_implementation: flash_attention_2` is supported.
        set_dropout (`Callable`, *optional*): `(config, probability) -> None`, for the option `dropout`.
        add_official_dropout (`Callable`, *optional*): `(model) -> None`, for the option `official_dropout`.
    """

    key: str
    title: str
    example: str
    recipes: str
    config_class: type[PreTrainedConfig]
    model_class: type[OffloadingModel]
    processor_class: type[ProcessorMixin]
    tiny_name: str
    tiny_folder: Path
    random_name: str
    build_tiny_config: Callable[[], PreTrainedConfig]
    build_tiny_processor: Callable
    build_random_model: Callable[[PreTrainedConfig, int], OffloadingModel]
    get_resolution: Callable
    set_resolution: Callable
    encoders: tuple[str, ...]
    parts: ModelParts
    lora_presets: dict[str, str]
    rate_groups: LearningRateGroups
    arguments: str
    trainer: str
    build_trainer: str
    card: FamilyCard
    takes_phrases: bool
    evaluation_prompts: tuple[str, ...] = ()
    model_settings: tuple[str, ...] = ()
    loading_options: tuple[str, ...] = ()
    has_flash_attention: bool = True
    set_dropout: Callable | None = None
    add_official_dropout: Callable | None = None

    @property
    def options(self) -> frozenset[str]:
        """Options of [`ModelOptions`] that apply to this family, beside those that every family has."""
        return frozenset((*self.model_settings, *self.loading_options))

    @property
    def has_text_encoder(self) -> bool:
        """Return whether the model encodes text, so that its processor has a tokenizer."""
        return "text_encoder" in self.encoders


def resolve(path: str):
    """
    Import an object on use.

    Args:
        path (`str`): Import path such as `package.module:name`.
    """
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
