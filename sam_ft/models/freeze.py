"""The named parts of SAM 3 and what of them is trained."""

import re

import torch


# order matters for reports only; every parameter of `Sam3Model` belongs to exactly one part
PARTS = {
    "vision_trunk": ("vision_encoder.backbone.",),
    "vision_neck": ("vision_encoder.neck.",),
    "text_encoder": ("text_encoder.", "text_projection."),
    "geometry_encoder": ("geometry_encoder.",),
    "detr_encoder": ("detr_encoder.",),
    "detr_decoder": ("detr_decoder.",),
    "scoring": ("dot_product_scoring.",),
    "mask_decoder": ("mask_decoder.",),
}

GROUPS = {"vision_encoder": ("vision_trunk", "vision_neck")}  # names for several parts at once

# what no output depends on (`official_sam3`'s unused parameters): the neck's coarsest level, the pixel decoder's third
# stage, CLIP's own projection
NEVER_USED = (
    "vision_encoder.neck.fpn_layers.3.",
    "mask_decoder.pixel_decoder.conv_layers.2.",
    "mask_decoder.pixel_decoder.norms.2.",
    "text_encoder.text_projection.",
)


def plain_name(name: str) -> str:
    """A parameter's name as `Sam3Model` has it, without the wrappers of PEFT and DistributedDataParallel."""
    name = re.sub(r"^(module\.|base_model\.model\.)+", "", name)
    return re.sub(r"\.(base_layer|original_module|modules_to_save\.\w+)(?=\.)", "", name)


def parts_of(names: list[str]) -> list[str]:
    """
    Keys of `PARTS` for names of parts and groups.

    Raises:
        `ValueError`: on a name that is neither.
    """
    unknown = [name for name in names if name not in (*PARTS, *GROUPS)]
    if unknown:
        raise ValueError(f"`freeze` has no part {unknown[0]!r}. Choose from: {', '.join((*GROUPS, *PARTS))}.")
    return [part for name in names for part in GROUPS.get(name, (name,))]


def prefixes_of(parts: list[str], *, with_masks: bool = True) -> tuple[str, ...]:
    """
    How the names of all parameters begin that the parts have, or that could get no gradient.

    Raises:
        `ValueError`: on a name that is not in `PARTS`.
    """
    parts = parts_of(parts) + ([] if with_masks else ["mask_decoder"])
    return NEVER_USED + sum((PARTS[part] for part in parts), ())


def freeze(model: torch.nn.Module, parts: list[str], *, with_masks: bool = True) -> None:
    """
    Freezes the named parts, and every parameter that this run could give no gradient, so that DistributedDataParallel
    never waits for one.

    Args:
        model (`Sam3Model`), with or without adapters.
        parts (`list[str]`): keys of `PARTS`.
        with_masks (`bool`): whether masks are trained; if not, the mask decoder is frozen too.

    Raises:
        `ValueError`: on a name that is not in `PARTS`, or where nothing is left to train.
    """
    prefixes = prefixes_of(parts, with_masks=with_masks)
    for name, parameter in model.named_parameters():
        if plain_name(name).startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"`freeze: {parts}` leaves nothing to train. Remove at least one part.")


def count_parameters(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """For each part of `PARTS`: (trainable, all) parameters."""
    counts = {}
    for part, prefixes in PARTS.items():
        sizes = [(p.numel(), p.requires_grad) for n, p in model.named_parameters() if n.startswith(prefixes)]
        counts[part] = sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
    return counts
