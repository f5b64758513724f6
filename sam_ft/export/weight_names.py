"""Layouts of SAM 3 checkpoints, and the comparison of a checkpoint's tensors with those of an architecture."""

from dataclasses import dataclass, field

import torch
from transformers import Sam3Config, Sam3Model, Sam3VideoConfig, Sam3VideoModel

from ..models.sam3.official_names import build_official_only, to_official


SAM3 = "Sam3Model (Transformers)"
VIDEO = "Sam3VideoModel (Transformers, facebook/sam3)"
OFFICIAL = "official sam3.pt"
TRAINER = "the official trainer's checkpoint"
DETECTOR = "detector."
OFFICIAL_SIDE = 1008  # px; the official builder supports no other resolution
_MAX_LINES = 12  # per kind of difference
Shapes = dict[str, tuple[int, ...]]


def detect_layout(names) -> str:
    """
    Detect the layout of a checkpoint from its tensor names.

    Args:
        names (`Iterable[str]`): Names of the tensors.

    Returns:
        `str`: `SAM3`, `VIDEO`, `OFFICIAL` or `TRAINER`.

    Raises:
        `ValueError`: If no layout of SAM 3 has such names; lists some of them.
    """
    prefixes = {name.split(".", 1)[0] for name in names}
    for layout, prefix in ((VIDEO, "detector_model"), (OFFICIAL, "detector"), (TRAINER, "backbone")):
        if prefix in prefixes:
            return layout
    if "vision_encoder" in prefixes:
        return SAM3
    if "base_model" in prefixes:
        raise ValueError(
            "these tensors are a LoRA adapter, which cannot be loaded without its base; give the adapter's folder as "
            "`model_name_or_path`"
        )
    if "concept" in prefixes:
        raise ValueError(
            "these tensors are concepts, which are used with their base model; give their folder as "
            "`model_name_or_path` or in `concepts`"
        )
    examples = ", ".join(sorted(names)[:4])
    raise ValueError(f"these are no weights of SAM 3: no layout has names such as {examples}")


def remove_prefix(tensors: dict, layout: str) -> dict:
    """
    Select the detector's tensors of an official checkpoint and remove the prefix `detector.`.

    Args:
        tensors (`dict`): Tensors or shapes by name.
        layout (`str`): Layout of the checkpoint; a trainer's checkpoint has no prefix.

    Returns:
        `dict`: Tensors or shapes by name without the prefix.
    """
    if layout == TRAINER:
        return tensors
    return {name.removeprefix(DETECTOR): tensor for name, tensor in tensors.items() if name.startswith(DETECTOR)}


@dataclass
class KeyTable:
    """
    Comparison of a checkpoint's tensors with those of an architecture.

    Attributes:
        layout (`str`): Layout of the checkpoint.
        matched (`int`): Number of tensors with the expected name and shape.
        not_compared (`int`): Number of tensors of other parts of SAM 3, which are not compared.
        missing (`dict[str, tuple]`): Expected shape by name.
        unexpected (`dict[str, tuple]`): Shape by name.
        misshapen (`dict[str, tuple]`): Shape in the checkpoint and expected shape, by name.
    """

    layout: str
    matched: int = 0
    not_compared: int = 0
    missing: Shapes = field(default_factory=dict)
    unexpected: Shapes = field(default_factory=dict)
    misshapen: dict[str, tuple] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Return whether no tensor is missing, unexpected or misshapen."""
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def loads_officially(self) -> bool:
        """Return whether the official loader reads the tensors; it ignores names without `detector`."""
        return self.layout != TRAINER

    def lines(self) -> list[str]:
        """Format the table as lines of text."""
        lines = [f"layout: {self.layout}", f"{'matched':12}{self.matched:6}"]
        lines += [f"{'not compared':12}{self.not_compared:6}   tensors of the tracker"] if self.not_compared else []
        for kind in ("missing", "unexpected", "misshapen"):
            entries = getattr(self, kind)
            lines.append(f"{kind:12}{len(entries):6}")
            for name, shape in sorted(entries.items())[:_MAX_LINES]:
                text = f"{shape[0]}, expected {shape[1]}" if kind == "misshapen" else shape
                lines.append(f"    {name}  {text}")
            lines += [f"    … and {len(entries) - _MAX_LINES} more"] if len(entries) > _MAX_LINES else []
        return lines


def compare(shapes: Shapes, config: Sam3Config | Sam3VideoConfig) -> KeyTable:
    """
    Compare the tensors of a checkpoint with those of an architecture.

    Args:
        shapes (`dict[str, tuple]`): Shapes by name.
        config (`Sam3Config` or `Sam3VideoConfig`): Expected architecture.

    Returns:
        `KeyTable`: The comparison.

    Raises:
        `ValueError`: As [`detect_layout`].
    """
    layout = detect_layout(shapes)
    # `Sam3VideoModel.save_pretrained` repeats the prefix
    shapes = {name.replace("tracker_model.tracker_model.", "tracker_model."): shape for name, shape in shapes.items()}
    table, expected = KeyTable(layout), list_needed_shapes(layout, config)
    official = layout in (OFFICIAL, TRAINER)
    for name, shape in shapes.items():
        if name in expected:
            if shape == expected[name]:
                table.matched += 1
            else:
                table.misshapen[name] = shape, expected[name]
        elif (official and (name.startswith("tracker.") or ".sam2_convs." in name)) or (
            layout == VIDEO
            and not isinstance(config, Sam3VideoConfig)
            and name.startswith(("tracker_model.", "tracker_neck."))
        ):
            table.not_compared += 1
        else:
            table.unexpected[name] = shape
    # some checkpoints lack the rotary angles, which the official model computes
    table.missing = {
        name: shape
        for name, shape in expected.items()
        if name not in shapes and not (layout == TRAINER and name.endswith(".freqs_cis"))
    }
    return table


def list_needed_shapes(layout: str, config: Sam3Config | Sam3VideoConfig) -> Shapes:
    """
    List the tensors of an architecture in a layout, without allocating memory.

    Args:
        layout (`str`): Layout of the names.
        config (`Sam3Config` or `Sam3VideoConfig`): The architecture.

    Returns:
        `dict[str, tuple]`: Shapes by name.
    """
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
        weights = to_official(weights, build_official_only(detector, get_official_side(detector)))
    return _shapes({DETECTOR * (layout == OFFICIAL) + name: tensor for name, tensor in weights.items()})


def get_official_side(config: Sam3Config) -> int:
    """
    Return the side of the official model's canvas, px: 1008, unless the patch size is not that of SAM 3.

    Args:
        config (`Sam3Config`): The architecture.
    """
    patch = config.vision_config.backbone_config.patch_size
    return OFFICIAL_SIDE if patch == Sam3Config().vision_config.backbone_config.patch_size else config.image_size


def _shapes(weights: dict[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
