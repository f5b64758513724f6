"""The named parts of SAM 3 and SAM 2: what can be frozen, what gets adapters, what has a rate of its own."""

import re
from dataclasses import dataclass, field

import torch


_PROJECTION = r"([qkvo]_proj|out_proj)"


@dataclass(frozen=True)
class Anatomy:
    """
    A model's parts by the names of its parameters.

    Attributes:
        title (`str`): how the model is called.
        parts (`dict[str, tuple[str, ...]]`): part -> how the names of its parameters begin; each belongs to exactly one. The order matters
            for reports only.
        groups (`dict[str, tuple[str, ...]]`): names for several parts at once.
        never_used (`tuple[str, ...]`): what no output depends on.
        masks (`tuple[str, ...]`): parts that only masks need.
        presets (`dict[str, str]`): LoRA preset -> regex over module names; only linear layers and convolutions among them.
        rates (`dict[str, tuple[str, ...]]`): learning rate -> parts; all others learn at the rate `transformer`.
        trunk (`str`), layer (`str`), undecayed (`str`): beginning of the names of the vision trunk, where layer decay applies; regex of its layers'
            numbers; what of it keeps the trunk's own rate.
    """

    title: str
    parts: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]
    presets: dict[str, str]
    rates: dict[str, tuple[str, ...]]
    layer: str
    undecayed: str
    never_used: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    trunk: str = field(default="vision_encoder.backbone.")

    def parts_of(self, names: list[str]) -> list[str]:
        """
        Keys of `parts` for names of parts and groups.

        Raises:
            `ValueError`: on a name that is neither.
        """
        unknown = [name for name in names if name not in (*self.parts, *self.groups)]
        if unknown:
            raise ValueError(
                f"`freeze` has no part {unknown[0]!r}. Choose from: {', '.join((*self.groups, *self.parts))}."
            )
        return [part for name in names for part in self.groups.get(name, (name,))]

    def prefixes_of(self, names: list[str], *, with_masks: bool = True) -> tuple[str, ...]:
        """How the names of all parameters begin that these parts have, or that could get no gradient; raises as `parts_of`."""
        parts = self.parts_of(names) + ([] if with_masks else list(self.masks))
        return self.never_used + sum((self.parts[part] for part in parts), ())


SAM3 = Anatomy(
    title="SAM 3",
    parts={
        "vision_trunk": ("vision_encoder.backbone.",),
        "vision_neck": ("vision_encoder.neck.",),
        "text_encoder": ("text_encoder.", "text_projection."),
        "geometry_encoder": ("geometry_encoder.",),
        "detr_encoder": ("detr_encoder.",),
        "detr_decoder": ("detr_decoder.",),
        "scoring": ("dot_product_scoring.",),
        "mask_decoder": ("mask_decoder.",),
    },
    groups={"vision_encoder": ("vision_trunk", "vision_neck")},
    # `official_sam3`'s unused parameters: the neck's coarsest level, the pixel decoder's third stage, CLIP's own projection
    never_used=(
        "vision_encoder.neck.fpn_layers.3.",
        "mask_decoder.pixel_decoder.conv_layers.2.",
        "mask_decoder.pixel_decoder.norms.2.",
        "text_encoder.text_projection.",
    ),
    masks=("mask_decoder",),
    presets={
        "attention": rf".*\.{_PROJECTION}",
        "attention+mlp": rf".*\.({_PROJECTION}|mlp\.fc[12])",
        "detr": r"(detr_encoder|detr_decoder|dot_product_scoring|mask_decoder)\..*",
        "vision": rf"vision_encoder\.backbone\..*\.({_PROJECTION}|mlp\.fc[12])",
        "text": rf"text_encoder\..*\.({_PROJECTION}|mlp\.fc[12])|text_projection",
    },
    rates={"vision": ("vision_trunk", "vision_neck"), "text": ("text_encoder",)},
    layer=r"layers\.(\d+)\.",
    undecayed="position_embeddings",
)

SAM2 = Anatomy(
    title="SAM 2",
    parts={
        "vision_trunk": ("vision_encoder.backbone.",),
        "vision_neck": ("vision_encoder.neck.",),
        # applied once an image, though two of the three belong to the decoder by name
        "vision_projections": ("mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_embedding"),
        "prompt_encoder": ("prompt_encoder.",),
        "mask_decoder": (
            "mask_decoder.transformer.", "mask_decoder.upscale_", "mask_decoder.output_hypernetworks_mlps.",
            "mask_decoder.mask_tokens.", "mask_decoder.iou_", "mask_decoder.obj_score_token.",
            "mask_decoder.pred_obj_score_head.",
        ),
    },
    groups={"vision_encoder": ("vision_trunk", "vision_neck", "vision_projections")},
    presets={
        "attention": rf".*\.({_PROJECTION}|qkv|attn\.proj)",
        "attention+mlp": rf".*\.({_PROJECTION}|qkv|attn\.proj|mlp\.proj_(in|out))",
        "decoder": rf"mask_decoder\.transformer\..*\.({_PROJECTION}|mlp\.proj_(in|out))",
        "vision": r"vision_encoder\.backbone\..*\.(attn\.(qkv|proj)|mlp\.proj_(in|out))",
    },
    rates={"vision": ("vision_trunk", "vision_neck")},
    layer=r"blocks\.(\d+)\.",
    undecayed="pos_embed",
)  # fmt: skip

ANATOMIES = {"sam3": SAM3, "sam2": SAM2}  # by `model_type` of the config


def anatomy_of(model: torch.nn.Module) -> Anatomy:
    """A model's anatomy, whatever PEFT or DistributedDataParallel has wrapped around it."""
    kinds = (getattr(getattr(module, "config", None), "model_type", None) for module in model.modules())
    return next(ANATOMIES[kind] for kind in kinds if kind in ANATOMIES)


def plain_name(name: str) -> str:
    """A parameter's name as Transformers' class has it, without the wrappers of PEFT and DistributedDataParallel."""
    name = re.sub(r"^(module\.|base_model\.model\.)+", "", name)
    return re.sub(r"\.(base_layer|original_module|modules_to_save\.\w+)(?=\.)", "", name)
