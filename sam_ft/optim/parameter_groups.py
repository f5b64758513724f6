"""Parameter groups with a learning rate per model part, and the schedule of the official recipe."""

import re
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LambdaLR

from ..models.anatomy import Anatomy, anatomy_of, plain_name


@dataclass
class Rates:
    """
    Learning rates by model part; defaults are the paper's times 0.1, as in the official fine-tuning.

    Attributes:
        transformer (`float`): Learning rate of all parameters outside the two encoders.
        vision (`float`): Learning rate of the vision encoder.
        text (`float`, *optional*): Learning rate of the text encoder; not set for SAM 2.
        vision_layer_decay (`float`): Layer-wise learning-rate decay of the vision trunk.
        weight_decay (`float`): Weight decay of all parameters except biases and LayerNorm weights.

    Source:
        Carion et al. 2025.
    """

    transformer: float = 8e-5
    vision: float = 2.5e-5
    text: float | None = 5e-6
    vision_layer_decay: float = 0.9
    weight_decay: float = 0.1


def parameter_groups(model: torch.nn.Module, rates: Rates) -> list[dict]:
    """
    Group trainable parameters by learning rate and weight decay.

    The layer decay covers the vision trunk only: patch embedding and first norm 0.9^(n+1), layer i of n layers
    0.9^(n−i), position embeddings and the neck 1. Biases and `nn.LayerNorm` parameters have no weight decay.

    Args:
        model (`torch.nn.Module`): SAM 3 or SAM 2, wrapped or not.
        rates (`Rates`): Learning rates and decays.

    Returns:
        `list[dict]`: Groups with `params`, `lr`, `weight_decay`, and `part`: `transformer`, `vision` or `text`.

    Source:
        SAM 3: `sam3/train/optim/optimizer.py`, `get_layer_id` of `vitdet.py`; SAM 2: `training/optimizer.py`,
        `get_layer_id` of `hieradet.py`. Both use the same rules.
    """
    norms = {
        f"{module_name}.{name}"
        for module_name, module in model.named_modules()
        if type(module) is torch.nn.LayerNorm
        for name, _ in module.named_parameters(recurse=False)
    }
    anatomy = anatomy_of(model)
    depth = len({m[1] for n, _ in model.named_parameters() if (m := _trunk_layer(n, anatomy))})
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = plain_name(name)
        part = next(
            (rate for rate, parts in anatomy.rates.items() if plain.startswith(_prefixes(anatomy, parts))),
            "transformer",
        )
        rate = getattr(rates, part) * _layer_scale(plain, depth, rates.vision_layer_decay, anatomy)
        decay = 0.0 if name.endswith("bias") or name in norms else rates.weight_decay
        group = {"params": [], "lr": rate, "weight_decay": decay, "part": part}
        groups.setdefault((part, rate, decay), group)["params"].append(parameter)
    return list(groups.values())


def _prefixes(anatomy: Anatomy, parts: tuple[str, ...]) -> tuple[str, ...]:
    return sum((anatomy.parts[part] for part in parts), ())


def _trunk_layer(name: str, anatomy: Anatomy) -> re.Match | None:
    return re.match(re.escape(anatomy.trunk) + anatomy.layer, plain_name(name))


def _layer_scale(name: str, depth: int, decay: float, anatomy: Anatomy) -> float:
    if not name.startswith(anatomy.trunk) or anatomy.undecayed in name:
        return 1.0
    layer = _trunk_layer(name, anatomy)
    return decay ** (depth - int(layer[1]) if layer else depth + 1)


def sam3_schedule(
    optimizer: torch.optim.Optimizer,
    num_training_steps: int,
    *,
    warmup: int = 20,
    timescale: int = 20,
    cooldown: int = 20,
) -> LambdaLR:
    """
    Build the official schedule of the learning rate, for step s of N.

        rate · [1 if s ≤ warmup else ((s + timescale − warmup) / timescale)^−½] · min(1, s / warmup) · min(1, (N − s) /
        cooldown)

    The first step's rate is 0. With fewer than `warmup + cooldown` steps the two ramps multiply.

    Args:
        optimizer (`torch.optim.Optimizer`): Optimizer with the groups' peak rates.
        num_training_steps (`int`): N, in optimizer steps.
        warmup (`int`): Linear warmup, in optimizer steps, default 20.
        timescale (`int`): Time constant of the inverse square root, in optimizer steps, default 20.
        cooldown (`int`): Linear cooldown at the end, in optimizer steps, default 20.

    Returns:
        `LambdaLR`: The schedule.

    Source:
        `InverseSquareRootParamScheduler` of `sam3/train/optim/schedulers.py`.
    """

    def factor(step: int) -> float:
        decay = 1.0 if step <= warmup else ((step + timescale - warmup) / timescale) ** -0.5
        rise = min(1.0, step / warmup) if warmup else 1.0
        fall = min(1.0, max(num_training_steps - step, 0) / cooldown) if cooldown else 1.0
        return decay * rise * fall

    return LambdaLR(optimizer, factor)
