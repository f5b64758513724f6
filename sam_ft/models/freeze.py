"""The named parts of SAM 3 and what of them is trained."""

import torch


# order matters for reports only; every parameter of `Sam3Model` belongs to exactly one part
PARTS = {
    "vision_encoder": ("vision_encoder.",),
    "text_encoder": ("text_encoder.", "text_projection."),
    "geometry_encoder": ("geometry_encoder.",),
    "detr_encoder": ("detr_encoder.",),
    "detr_decoder": ("detr_decoder.",),
    "scoring": ("dot_product_scoring.",),
    "mask_decoder": ("mask_decoder.",),
}

# what no output depends on (`official_sam3`'s unused parameters): the neck's coarsest level, the pixel decoder's third
# stage, CLIP's own projection
NEVER_USED = (
    "vision_encoder.neck.fpn_layers.3.",
    "mask_decoder.pixel_decoder.conv_layers.2.",
    "mask_decoder.pixel_decoder.norms.2.",
    "text_encoder.text_projection.",
)


def freeze(model: torch.nn.Module, parts: list[str], *, with_masks: bool = True) -> None:
    """
    Freezes the named parts, and every parameter that this run could give no gradient, so that DistributedDataParallel
    never waits for one.

    Args:
        model (`Sam3Model`).
        parts (`list[str]`): keys of `PARTS`.
        with_masks (`bool`): whether masks are trained; if not, the mask decoder is frozen too.

    Raises:
        `ValueError`: on a name that is not in `PARTS`, or where nothing is left to train.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"`freeze` has no part {unknown[0]!r}. Choose from: {', '.join(PARTS)}.")
    prefixes = NEVER_USED + sum((PARTS[part] for part in parts), ())
    if not with_masks:
        prefixes += PARTS["mask_decoder"]
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
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
