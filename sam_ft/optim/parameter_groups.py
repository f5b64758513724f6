"""Parameter groups with a learning rate per model part, and the schedule of the official recipe."""

import re

import torch
from torch.optim.lr_scheduler import LambdaLR

from ..models.families import get_family_of_model
from ..models.parts import LearningRateGroups, strip_wrappers
from ..options.optim import LearningRates


def build_parameter_groups(model: torch.nn.Module, rates: LearningRates) -> list[dict]:
    """
    Group trainable parameters by learning rate and weight decay.

    The layer decay covers the vision trunk only: patch embedding and first norm 0.9^(n+1), layer i of n layers
    0.9^(n−i), position embeddings and the neck 1. Biases and `nn.LayerNorm` parameters have no weight decay.

    Args:
        model (`torch.nn.Module`): SAM 3 or SAM 2, wrapped or not.
        rates (`LearningRates`): Learning rates and decays.

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
    family = get_family_of_model(model)
    prefixes = {rate: family.parts.get_prefixes(parts) for rate, parts in family.rate_groups.parts.items()}
    depth = len({m[1] for n, _ in model.named_parameters() if (m := _trunk_layer(n, family.rate_groups))})
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = strip_wrappers(name)
        part = next((rate for rate, starts in prefixes.items() if plain.startswith(starts)), "transformer")
        rate = getattr(rates, part) * _layer_scale(plain, depth, rates.vision_layer_decay, family.rate_groups)
        decay = 0.0 if name.endswith("bias") or name in norms else rates.weight_decay
        group = {"params": [], "lr": rate, "weight_decay": decay, "part": part}
        groups.setdefault((part, rate, decay), group)["params"].append(parameter)
    return list(groups.values())


def _trunk_layer(name: str, groups: LearningRateGroups) -> re.Match | None:
    return re.match(re.escape(groups.trunk) + groups.layer, strip_wrappers(name))


def _layer_scale(name: str, depth: int, decay: float, groups: LearningRateGroups) -> float:
    if not name.startswith(groups.trunk) or groups.without_decay in name:
        return 1.0
    layer = _trunk_layer(name, groups)
    return decay ** (depth - int(layer[1]) if layer else depth + 1)


def build_sam3_schedule(
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


def keep_embeddings_in_32_bits(model: torch.nn.Module) -> None:
    """
    Exclude embeddings from the 8-bit optimizer states of bitsandbytes, as Trainer does.

    Args:
        model (`torch.nn.Module`): Model whose optimizer was just created.

    Source:
        Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 2.3.
    """
    from bitsandbytes.optim import GlobalOptimManager

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
