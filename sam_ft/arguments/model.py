"""Keys of the model."""

import dataclasses
from dataclasses import dataclass

from ..models.families import SAM2, SAM3, TINY, TINY_SAM2
from ..models.loading import ModelOptions
from ..models.lora import LoraOptions
from .base import arg, check_ranges, take


@dataclass
class SharedModelArguments:
    """How a model is held in memory, and what of it is trained: SAM 3 and SAM 2 alike."""

    model_revision: str | None = arg(None, "Branch, tag or commit on the Hub.")
    attn_implementation: str | None = arg(None, "Attention kernel: sdpa, eager, flash_attention_2.")
    lora_r: int = arg(16, "Rank of the adapters: higher learns more and takes more memory.")
    lora_alpha: float = arg(32.0, "Scale of the adapters, as a multiple of 1/rank.")
    lora_dropout: float = arg(0.0, "Dropout before the adapters.")
    lora_rank_pattern: dict = arg({}, "Module name or regex: another rank for it.")
    lora_dora: bool = arg(False, "DoRA: direction and magnitude apart; slower, learns more at low rank.")
    lora_rslora: bool = arg(False, "rsLoRA: scale by alpha/√r, for high ranks.")
    lora_modules_to_save: list[str] = arg(
        [],
        "Modules that are trained and saved whole beside the adapters, such as dot_product_scoring or iou_prediction_head.",
    )

    allow_other_base: bool = arg(
        False,
        "Load an adapter although the weights of its base differ from those that it was trained on; else that is an error.",
    )

    def __post_init__(self):
        check_ranges(self)
        if self.lora is None:
            self._refuse_stray_lora_keys()
        self.adapters()  # checks the values

    def _refuse_stray_lora_keys(self) -> None:
        for field in dataclasses.fields(self):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            if field.name.startswith("lora_") and getattr(self, field.name) != default:
                raise ValueError(
                    f"`{field.name}` is {getattr(self, field.name)!r}, but `lora` is not set, so all weights would be trained. Set "
                    "`lora: attention`, or leave the key out"
                )

    def adapters(self) -> LoraOptions | None:
        if self.lora is None:
            return None
        names = [field.name for field in dataclasses.fields(LoraOptions) if field.name != "target"]
        return LoraOptions(self.lora, **{name: getattr(self, f"lora_{name}") for name in names})


@dataclass
class ModelArguments(SharedModelArguments):
    """Which model, how it is held in memory, and what of it is trained."""

    model_name_or_path: str = arg(
        TINY,
        "Hub id (facebook/sam3), folder of a saved model or of a run, or what this package carries: sam-ft/tiny, 1.8 M "
        "parameters that know coloured shapes, and sam-ft/random-tiny, the same untrained.",
    )
    dtype: str = arg(
        "float32", "Weights of the two encoders; the small parts stay in float32.", choices=["float32", "bfloat16"]
    )
    resolution: int | None = arg(
        None, "Side of the model's canvas in px, a multiple of its patch (14 in SAM 3). Default: the checkpoint's."
    )
    vision_text_checkpointing: bool = arg(
        False, "Recompute ViT and text layers in the backward pass: a third more time, a fraction of the memory."
    )
    dropout: float | None = arg(None, "Dropout behind the encoders. Default: the checkpoint's, 0.1 in SAM 3.")
    official_dropout: bool = arg(
        False, "Drop-path and dropouts of the official training that Transformers leaves out."
    )
    train_masks: bool = arg(True, "Train and predict masks; boxes alone where false.")
    pairs_per_chunk: int = arg(4, "(image, phrase) pairs in memory at once. Changes speed and memory, no result.")
    lora: str | None = arg(
        None,
        "Train adapters (LoRA) instead of weights: attention, attention+mlp, detr, vision, text, or a regex that matches "
        "whole module names.",
    )
    quantization: str | None = arg(
        None, "nf4: the encoders' frozen weights in 4 bits; with `lora`, needs bitsandbytes.", choices=["nf4"]
    )
    pair_checkpointing: bool = arg(
        False,
        "Recompute fusion encoder, decoder and pixel decoder in the backward pass, each when its gradient is due.",
    )
    freeze: list[str] = arg(
        [],
        "Parts that are not trained, by weights or adapters: vision_encoder (vision_trunk and vision_neck), text_encoder, geometry_encoder, detr_encoder, detr_decoder, scoring, "
        "mask_decoder.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.quantization and not self.lora:
            raise ValueError("`quantization` holds weights that cannot be trained: set `lora`, or leave it out")

    def options(self, seed: int) -> ModelOptions:
        return take(
            ModelOptions,
            self,
            family=SAM3,
            revision=self.model_revision,
            activation_checkpointing=self.vision_text_checkpointing,
            with_masks=self.train_masks,
            seed=seed,
        )


@dataclass
class Sam2ModelArguments(SharedModelArguments):
    """Which SAM 2, how it is held in memory, and what of it is trained."""

    model_name_or_path: str = arg(
        TINY_SAM2,
        "Hub id (facebook/sam2.1-hiera-tiny, -small, -base-plus, -large, and facebook/sam2-hiera-…), folder of a saved model or of a run, or what this "
        "package carries: sam-ft/tiny-sam2, 1.0 M parameters that know coloured shapes, and sam-ft/random-tiny-sam2, the same untrained.",
    )
    dtype: str = arg(
        "float32",
        "Weights of the image encoder; prompt encoder and decoder stay in float32.",
        choices=["float32", "bfloat16"],
    )
    resolution: int | None = arg(
        None,
        "Side of the model's canvas in px, a multiple of 32. Default: the checkpoint's, 1024 in SAM 2; 512 is a quarter of the cost.",
    )
    vision_checkpointing: bool = arg(
        False, "Recompute the image encoder's blocks in the backward pass: more time, a fraction of the memory."
    )
    objects_per_chunk: int = arg(8, "Objects in memory at once. Changes speed and memory, no result.")
    lora: str | None = arg(
        None,
        "Train adapters (LoRA) instead of weights: attention, attention+mlp, decoder, vision, or a regex that matches whole module names.",
    )
    freeze: list[str] = arg(
        [],
        "Parts that are not trained, by weights or adapters: vision_encoder (vision_trunk, vision_neck and vision_projections), prompt_encoder, "
        "mask_decoder.",
    )

    train_masks = True  # SAM 2 has nothing else

    def options(self, seed: int) -> ModelOptions:
        return take(
            ModelOptions,
            self,
            family=SAM2,
            revision=self.model_revision,
            activation_checkpointing=self.vision_checkpointing,
            seed=seed,
        )
