"""Keys of the model."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.concepts import ConceptOptions
from ..options.keys import build_options, get_default, get_keys, key, key_of
from ..options.model import LoraOptions, ModelOptions
from ..options.model_names import TINY_SAM2
from .base import Keys, with_keys_of


@dataclass
class CheckpointArguments(Keys):
    """Checkpoint, precision and attention kernel of the model."""

    key_topic: ClassVar[str] = "Model"

    model_name_or_path: str = key_of(ModelOptions, "model_name_or_path")
    model_revision: str | None = key_of(ModelOptions, "model_revision")
    dtype: str = key_of(ModelOptions, "dtype")
    resolution: int | None = key_of(ModelOptions, "resolution")
    attn_implementation: str | None = key_of(ModelOptions, "attn_implementation")
    allow_other_base: bool = key_of(ModelOptions, "allow_other_base")


@with_keys_of(LoraOptions)
class LoraArguments(Keys):
    """LoRA adapters."""

    key_topic: ClassVar[str] = "Model"

    lora: str | None = key(
        None,
        "Modules that get LoRA adapters, which are trained instead of the weights: attention, attention+mlp, detr, "
        "vision, text, or a regex that matches whole module names. Default: no adapters.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora is None:
            self._refuse_lora_keys()
        else:
            build_options(LoraOptions, self, target=self.lora)

    def _refuse_lora_keys(self) -> None:
        """Raise `ValueError` if a key of the adapters is set without `lora`."""
        for name, declared in get_keys(LoraOptions).items():
            value = getattr(self, name)
            if value != get_default(declared):
                raise ValueError(
                    f"`{name}` is {value!r}, but `lora` is not set, so there are no adapters. Set `lora: "
                    f"attention`, or leave `{name}` out"
                )


@dataclass
class SharedModelArguments(LoraArguments, CheckpointArguments):
    """
    Keys of the model that SAM 3 and SAM 2 share.

    Attributes:
        family (`str`): Key of the model family.
        checkpointing_key (`str`): Key of the gradient checkpointing of the encoders.
    """

    key_topic: ClassVar[str] = "Model"
    family: ClassVar[str]
    checkpointing_key: ClassVar[str]


@with_keys_of(ConceptOptions)
class ConceptArguments(Keys):
    """Concepts: learned prompt tokens of new phrases."""

    key_topic: ClassVar[str] = "Model"

    concepts: list[str] = key_of(ModelOptions, "concepts")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, declared in get_keys(ConceptOptions).items():
            value = getattr(self, name)
            if self.concept_tokens is None and value != get_default(declared):
                raise ValueError(
                    f"`{name}` is {value!r}, but `concept_tokens` is not set, so there are no concepts to train. Set "
                    f"`concept_tokens: 8`, or leave `{name}` out"
                )


@dataclass
class ModelArguments(ConceptArguments, SharedModelArguments):
    """Checkpoint, precision, memory options, adapters, frozen parts and concepts of SAM 3."""

    family: ClassVar[str] = "sam3"
    checkpointing_key: ClassVar[str] = "vision_text_checkpointing"

    vision_text_checkpointing: bool = key_of(ModelOptions, "vision_text_checkpointing")
    dropout: float | None = key_of(ModelOptions, "dropout")
    official_dropout: bool = key_of(ModelOptions, "official_dropout")
    train_masks: bool = key_of(ModelOptions, "train_masks")
    pairs_per_chunk: int = key_of(ModelOptions, "pairs_per_chunk")
    quantization: str | None = key_of(ModelOptions, "quantization")
    pair_checkpointing: bool = key_of(ModelOptions, "pair_checkpointing")
    compile_vision: bool | str = key_of(ModelOptions, "compile_vision")
    freeze: list[str] = key(
        [],
        "Frozen parts, which get no adapters either: vision_encoder (vision_trunk and vision_neck), text_encoder, "
        "geometry_encoder, detr_encoder, detr_decoder, scoring, mask_decoder.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        name = next((key for key in ("lora", "freeze", "quantization") if getattr(self, key)), None)
        if self.concept_tokens and name:
            raise ValueError(
                f"`concept_tokens` trains prompt tokens in front of a frozen model, but `{name}` is set. Leave out "
                f"`{name}` or `concept_tokens`"
            )
        if self.quantization and not self.lora:
            raise ValueError(
                f"`quantization` is {self.quantization!r}, but `lora` is not set, and quantized weights cannot be "
                "trained. Set `lora`, or leave `quantization` out"
            )


@dataclass
class Sam2ModelArguments(SharedModelArguments):
    """Checkpoint, precision, memory options, adapters and frozen parts of SAM 2."""

    family: ClassVar[str] = "sam2"
    checkpointing_key: ClassVar[str] = "vision_checkpointing"

    model_name_or_path: str = key_of(
        ModelOptions,
        "model_name_or_path",
        TINY_SAM2,
        "Model: Hub id (facebook/sam2.1-hiera-tiny, -small, -base-plus, -large, or facebook/sam2-hiera-…), folder of "
        "a saved model or of a run, or a model of this package: sam-ft/tiny-sam2 (1.0 M parameters, trained on "
        "coloured shapes) or sam-ft/random-tiny-sam2 (the same with random weights).",
    )
    dtype: str = key_of(
        ModelOptions,
        "dtype",
        help="Data type of the weights of the image encoder; prompt encoder and mask decoder are in float32.",
    )
    resolution: int | None = key_of(
        ModelOptions,
        "resolution",
        help="Side of the model's input in px, a multiple of 32. Default: the checkpoint's, 1024 in SAM 2; 512 takes "
        "a quarter of the computation.",
    )
    vision_checkpointing: bool = key(
        False, "Gradient checkpointing of the image encoder: more time for a fraction of the memory."
    )
    objects_per_chunk: int = key_of(ModelOptions, "objects_per_chunk")
    lora: str | None = key_of(
        LoraArguments,
        "lora",
        help="Modules that get LoRA adapters, which are trained instead of the weights: attention, attention+mlp, "
        "decoder, vision, or a regex that matches whole module names. Default: no adapters.",
    )
    freeze: list[str] = key(
        [],
        "Frozen parts, which get no adapters either: vision_encoder (vision_trunk, vision_neck and "
        "vision_projections), prompt_encoder, mask_decoder.",
    )
