"""Named parts of SAM 3 and SAM 2 for freezing, adapters and learning rates."""

import re
from dataclasses import dataclass, field

import torch


_PROJECTION = r"([qkvo]_proj|out_proj)"


@dataclass(frozen=True)
class Anatomy:
    """
    Parts of a model, defined by prefixes of parameter names.

    Attributes:
        title (`str`): Name of the model in messages.
        parts (`dict[str, tuple[str, ...]]`): Part -> prefixes of its parameters. Each parameter belongs to one part.
        groups (`dict[str, tuple[str, ...]]`): Group -> parts.
        presets (`dict[str, str]`): LoRA preset -> regex over the names of linear layers and convolutions.
        rates (`dict[str, tuple[str, ...]]`): Learning rate -> parts. All other parts have the rate `transformer`.
        layer (`str`): Regex of the layer numbers in the vision trunk, for layer-wise learning-rate decay.
        undecayed (`str`): Substring of parameters of the vision trunk without layer-wise decay.
        never_used (`tuple[str, ...]`): Prefixes of parameters that no output depends on.
        masks (`tuple[str, ...]`): Parts that only masks depend on.
        trunk (`str`): Prefix of the vision trunk.
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
        Replace groups by their parts.

        Args:
            names (`list[str]`): Names of parts and groups.

        Returns:
            `list[str]`: Keys of `parts`.

        Raises:
            `ValueError`: If a name is neither a part nor a group.
        """
        unknown = [name for name in names if name not in (*self.parts, *self.groups)]
        if unknown:
            raise ValueError(
                f"`freeze` has no part {unknown[0]!r}. Choose from: {', '.join((*self.groups, *self.parts))}."
            )
        return [part for name in names for part in self.groups.get(name, (name,))]

    def prefixes_of(self, names: list[str], *, with_masks: bool = True) -> tuple[str, ...]:
        """
        Return the prefixes of parameters to freeze.

        Args:
            names (`list[str]`): Names of parts and groups.
            with_masks (`bool`): Whether masks are trained; if not, the parts of `masks` are included.

        Returns:
            `tuple[str, ...]`: Prefixes of these parts and of `never_used`.

        Raises:
            `ValueError`: If a name is neither a part nor a group.
        """
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
    # The neck's coarsest level, the pixel decoder's third stage, and CLIP's projection.
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
        # Applied once an image, like the encoder, although two of them are modules of the mask decoder.
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
    """Return the anatomy of a model with or without the wrappers of PEFT and DistributedDataParallel."""
    model_types = (getattr(getattr(module, "config", None), "model_type", None) for module in model.modules())
    return next(ANATOMIES[model_type] for model_type in model_types if model_type in ANATOMIES)


def plain_name(name: str) -> str:
    """Remove the wrappers of PEFT and DistributedDataParallel from a parameter's name."""
    name = re.sub(r"^(module\.|base_model\.model\.)+", "", name)
    return re.sub(r"\.(base_layer|original_module|modules_to_save\.\w+)(?=\.)", "", name)
