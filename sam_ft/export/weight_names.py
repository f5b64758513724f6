"""Which layout a checkpoint has, and whether its tensors are the ones that a model of it needs."""

from dataclasses import dataclass, field

import torch
from transformers import Sam3Config, Sam3Model, Sam3VideoConfig, Sam3VideoModel

from ..models.sam3.official_names import official_only, to_official


SAM3 = "Sam3Model (Transformers)"
VIDEO = "Sam3VideoModel (Transformers, facebook/sam3)"
OFFICIAL = "official sam3.pt"
TRAINER = "the official trainer's checkpoint"
DETECTOR = "detector."
OFFICIAL_SIDE = 1008  # px; the official builder knows no other
_SHOWN = 12  # lines of a kind
Shapes = dict[str, tuple[int, ...]]


def layout_of(names) -> str:
    """
    The layout that a checkpoint's names are of.

    Raises:
        `ValueError`: where it is none of SAM 3's; shows some names.
    """
    begins = {name.split(".", 1)[0] for name in names}
    for layout, mark in ((VIDEO, "detector_model"), (OFFICIAL, "detector"), (TRAINER, "backbone")):
        if mark in begins:
            return layout
    if "vision_encoder" in begins:
        return SAM3
    if "base_model" in begins:
        raise ValueError(
            "these are a LoRA adapter's tensors, which mean nothing without their base: give the adapter's folder as "
            "`model_name_or_path`"
        )
    shown = ", ".join(sorted(names)[:4])
    raise ValueError(f"these are no weights of SAM 3: no layout has names such as {shown}")


def without_prefix(tensors: dict, layout: str) -> dict:
    """The detector's part of an official checkpoint, without `detector.`."""
    if layout == TRAINER:
        return tensors
    return {name.removeprefix(DETECTOR): tensor for name, tensor in tensors.items() if name.startswith(DETECTOR)}


@dataclass
class KeyTable:
    """
    A checkpoint's tensors against those that a model needs.

    Attributes:
        layout (`str`). matched (`int`): tensors that are right. beside (`int`): of other parts of SAM 3, which this does not look at.
        missing, unexpected (`dict[str, tuple]`): name -> shape. misshapen (`dict[str, tuple]`): name -> shape found, shape needed.
    """

    layout: str
    matched: int = 0
    beside: int = 0
    missing: Shapes = field(default_factory=dict)
    unexpected: Shapes = field(default_factory=dict)
    misshapen: dict[str, tuple] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def loads_officially(self) -> bool:
        """`False` of an official checkpoint that Meta's loader silently takes nothing from: it keeps names with `detector` alone."""
        return self.layout != TRAINER

    def lines(self) -> list[str]:
        """The table as text."""
        lines = [f"layout: {self.layout}", f"{'matched':12}{self.matched:6}"]
        lines += [f"{'beside':12}{self.beside:6}   tensors of the tracker"] if self.beside else []
        for kind in ("missing", "unexpected", "misshapen"):
            found = getattr(self, kind)
            lines.append(f"{kind:12}{len(found):6}")
            for name, shape in sorted(found.items())[:_SHOWN]:
                told = f"{shape[0]}, needed {shape[1]}" if kind == "misshapen" else shape
                lines.append(f"    {name}  {told}")
            lines += [f"    … and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        return lines


def compare(found: Shapes, config: Sam3Config | Sam3VideoConfig) -> KeyTable:
    """
    Args:
        found (`dict[str, tuple]`): names and shapes. config (`Sam3Config` or `Sam3VideoConfig`): of the model that they should fit.

    Raises:
        `ValueError`: as [`layout_of`].
    """
    layout = layout_of(found)
    # `Sam3VideoModel.save_pretrained` says it twice
    found = {name.replace("tracker_model.tracker_model.", "tracker_model."): shape for name, shape in found.items()}
    table, needed = KeyTable(layout), needed_shapes(layout, config)
    official = layout in (OFFICIAL, TRAINER)
    for name, shape in found.items():
        if name in needed:
            if shape == needed[name]:
                table.matched += 1
            else:
                table.misshapen[name] = shape, needed[name]
        elif (official and (name.startswith("tracker.") or ".sam2_convs." in name)) or (
            layout == VIDEO
            and not isinstance(config, Sam3VideoConfig)
            and name.startswith(("tracker_model.", "tracker_neck."))
        ):
            table.beside += 1
        else:
            table.unexpected[name] = shape
    # some writers leave rotary angles out: the official model computes them
    table.missing = {
        name: shape
        for name, shape in needed.items()
        if name not in found and not (layout == TRAINER and name.endswith(".freqs_cis"))
    }
    return table


def needed_shapes(layout: str, config: Sam3Config | Sam3VideoConfig) -> Shapes:
    """Names and shapes of a model, none of whose memory is taken."""
    detector = config.detector_config if isinstance(config, Sam3VideoConfig) else config
    with torch.device("meta"):
        if layout == VIDEO and isinstance(config, Sam3VideoConfig):
            return _shapes(Sam3VideoModel(config).state_dict())
        weights = Sam3Model(detector).state_dict()
    if layout == VIDEO:
        return _shapes({f"detector_model.{name}": tensor for name, tensor in weights.items()})
    if layout == SAM3:
        return _shapes(weights)
    with torch.device("meta"):
        weights = to_official(weights, official_only(detector, official_side(detector)))
    return _shapes({DETECTOR * (layout == OFFICIAL) + name: tensor for name, tensor in weights.items()})


def official_side(config: Sam3Config) -> int:
    """The canvas that the official model of a config works at, px: always 1008, unless the config is of another architecture."""
    patch = config.vision_config.backbone_config.patch_size
    return OFFICIAL_SIDE if patch == Sam3Config().vision_config.backbone_config.patch_size else config.image_size


def _shapes(weights: dict[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
