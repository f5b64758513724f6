"""Keys of the model."""

import dataclasses
from dataclasses import dataclass

from ..models.families import SAM2, SAM3, TINY, TINY_SAM2
from ..models.loading import ModelOptions
from ..models.lora import LoraOptions
from .base import arg, check_ranges, take


@dataclass
class SharedModelArguments:
    """Revision, attention kernel and adapters: keys of the model that SAM 3 and SAM 2 share."""

    model_revision: str | None = arg(None, "Branch, tag or commit of the model on the Hub. Default: its main branch.")
    attn_implementation: str | None = arg(
        None, "Attention implementation: sdpa, eager or flash_attention_2. Default: chosen by Transformers."
    )
    lora_r: int = arg(16, "LoRA rank, 1 to 4096; a higher rank has more capacity and takes more memory.")
    lora_alpha: float = arg(32.0, "LoRA scale, at least 0: adapter outputs are multiplied by `lora_alpha` / `lora_r`.")
    lora_dropout: float = arg(0.0, "Dropout probability before the adapters, 0 to 0.99.")
    lora_rank_pattern: dict = arg(
        {}, "LoRA rank of single modules, as {name or regex: rank}, such as {q_proj: 32}. Default: `lora_r` for all."
    )
    lora_dora: bool = arg(False, "Use DoRA (separate magnitude and direction): slower, often better at a low rank.")
    lora_rslora: bool = arg(
        False, "Use rsLoRA: adapter outputs are multiplied by `lora_alpha` / √`lora_r`, for high ranks."
    )
    lora_modules_to_save: list[str] = arg(
        [],
        "Modules that are trained and saved as full weights beside the adapters, such as dot_product_scoring or "
        "iou_prediction_head.",
    )

    allow_other_base: bool = arg(
        False,
        "Load an adapter onto a base model whose weights differ from the base on which it was trained; without it "
        "this is an error.",
    )

    def __post_init__(self):
        check_ranges(self)
        if self.lora is None:
            self._refuse_lora_keys()
        self.adapters()  # `LoraOptions` checks the values.

    def _refuse_lora_keys(self) -> None:
        """Raise `ValueError` if a key of the adapters is set without `lora`."""
        for field in dataclasses.fields(self):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            if field.name.startswith("lora_") and getattr(self, field.name) != default:
                raise ValueError(
                    f"`{field.name}` is {getattr(self, field.name)!r}, but `lora` is not set, so all "
                    f"weights would be trained. Set `lora: attention`, or leave `{field.name}` out"
                )

    def adapters(self) -> LoraOptions | None:
        """Return the options of the adapters; `None` without `lora`."""
        if self.lora is None:
            return None
        names = [field.name for field in dataclasses.fields(LoraOptions) if field.name != "target"]
        return LoraOptions(self.lora, **{name: getattr(self, f"lora_{name}") for name in names})


@dataclass
class ModelArguments(SharedModelArguments):
    """Checkpoint, precision, memory options, adapters and frozen parts of SAM 3."""

    model_name_or_path: str = arg(
        TINY,
        "Model: Hub id (facebook/sam3), folder of a saved model or of a run, or a model of this package: sam-ft/tiny "
        "(1.8 M parameters, trained on coloured shapes) or sam-ft/random-tiny (the same with random weights).",
    )
    dtype: str = arg(
        "float32",
        "Data type of the weights of the vision and text encoders; the other parts are in float32.",
        choices=["float32", "bfloat16"],
    )
    resolution: int | None = arg(
        None,
        "Side of the model's input in px, a multiple of its patch size (14 in SAM 3). Default: the checkpoint's, 1008 "
        "in SAM 3.",
    )
    vision_text_checkpointing: bool = arg(
        False,
        "Gradient checkpointing of the ViT and text layers: about a third more time for a fraction of the memory.",
    )
    dropout: float | None = arg(
        None, "Dropout probability of the parts behind the encoders, 0 to 1. Default: the checkpoint's, 0.1 in SAM 3."
    )
    official_dropout: bool = arg(
        False, "Use the drop path and dropouts of the official training, which Transformers leaves out."
    )
    train_masks: bool = arg(True, "Train and predict masks; if false, boxes only.")
    pairs_per_chunk: int = arg(
        4,
        "Number of (image, phrase) pairs that are processed at once, at least 1. It changes speed and memory, but no "
        "result.",
    )
    lora: str | None = arg(
        None,
        "Modules that get LoRA adapters, which are trained instead of the weights: attention, attention+mlp, detr, "
        "vision, text, or a regex that matches whole module names. Default: no adapters.",
    )
    quantization: str | None = arg(
        None,
        "Quantization of the encoders' frozen weights: nf4 (4 bits). Needs `lora` and bitsandbytes. Default: none.",
        choices=["nf4"],
    )
    pair_checkpointing: bool = arg(
        False,
        "Gradient checkpointing of the fusion encoder, decoder and pixel decoder: less memory for more time.",
    )
    freeze: list[str] = arg(
        [],
        "Frozen parts, which get no adapters either: vision_encoder (vision_trunk and vision_neck), text_encoder, "
        "geometry_encoder, detr_encoder, detr_decoder, scoring, mask_decoder.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.quantization and not self.lora:
            raise ValueError(
                f"`quantization` is {self.quantization!r}, but `lora` is not set, and quantized weights cannot be "
                "trained. Set `lora`, or leave `quantization` out"
            )

    def options(self, seed: int) -> ModelOptions:
        """
        Return the options that load the model.

        Args:
            seed (`int`): Random seed of new weights.
        """
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
    """Checkpoint, precision, memory options, adapters and frozen parts of SAM 2."""

    model_name_or_path: str = arg(
        TINY_SAM2,
        "Model: Hub id (facebook/sam2.1-hiera-tiny, -small, -base-plus, -large, or facebook/sam2-hiera-…), folder of "
        "a saved model or of a run, or a model of this package: sam-ft/tiny-sam2 (1.0 M parameters, trained on "
        "coloured "
        "shapes) or sam-ft/random-tiny-sam2 (the same with random weights).",
    )
    dtype: str = arg(
        "float32",
        "Data type of the weights of the image encoder; prompt encoder and mask decoder are in float32.",
        choices=["float32", "bfloat16"],
    )
    resolution: int | None = arg(
        None,
        "Side of the model's input in px, a multiple of 32. Default: the checkpoint's, 1024 in SAM 2; 512 takes a "
        "quarter of the computation.",
    )
    vision_checkpointing: bool = arg(
        False, "Gradient checkpointing of the image encoder: more time for a fraction of the memory."
    )
    objects_per_chunk: int = arg(
        8,
        "Number of objects that are processed at once, at least 1. It changes speed and memory, but no result.",
    )
    lora: str | None = arg(
        None,
        "Modules that get LoRA adapters, which are trained instead of the weights: attention, attention+mlp, decoder, "
        "vision, or a regex that matches whole module names. Default: no adapters.",
    )
    freeze: list[str] = arg(
        [],
        "Frozen parts, which get no adapters either: vision_encoder (vision_trunk, vision_neck and "
        "vision_projections), prompt_encoder, mask_decoder.",
    )

    train_masks = True  # SAM 2 predicts no boxes, so that masks cannot be switched off.

    def options(self, seed: int) -> ModelOptions:
        """
        Return the options that load the model.

        Args:
            seed (`int`): Random seed of new weights.
        """
        return take(
            ModelOptions,
            self,
            family=SAM2,
            revision=self.model_revision,
            activation_checkpointing=self.vision_checkpointing,
            seed=seed,
        )
