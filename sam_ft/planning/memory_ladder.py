"""Memory ladder: changes of a run that reduce memory, from free to costly."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from transformers.training_args import OptimizerNames

from ..models.families import FAMILIES


WINDOW_SIDE = 336  # px: 24 patches, the side of the ViT's attention window


@dataclass
class Rung:
    """
    One change of a run that reduces memory.

    Attributes:
        yaml (`list[str]`): Lines of YAML.
        costs (`str`): Disadvantages, in a few words.
        run (`Run`): The run with this change and those of all previous rungs.
    """

    yaml: list[str]
    costs: str
    run: Any


def iterate_memory_ladder(run, cache_folder: str, side: int, dtype: str = "bfloat16") -> Iterator[Rung]:
    """
    Iterate over the changes that can still reduce a run's memory, each applied on top of the previous ones.

    Args:
        run (`Run`): Planned run; it is not modified.
        cache_folder (`str`): Folder for cached features.
        side (`int`): Side of the model's canvas as planned, px.
        dtype (`str`): Dtype of the frozen encoders below adapters; float32 for a card without bf16.

    Yields:
        `Rung`: A change that applies to the run.
    """
    for rung in (
        _reduce_pairs_per_chunk,
        _reduce_masks_per_block,
        _use_8bit_optimizer,
        _checkpoint_pairs,
        _checkpoint_encoders,
        _freeze_text,
        lambda run: _train_adapters(run, dtype),
        lambda run: _cache_image_features(run, cache_folder),
        lambda _run: _lower_resolution(side),
        _train_boxes_only,
    ):
        change = rung(run)
        if change is not None:
            yaml, costs, changes = change
            run = _apply(run, **changes)
            yield Rung(yaml, costs, run)


def _apply(run, model=None, data=None, loss=None, training=None):
    arguments = copy.deepcopy(run.training)  # a new object would set up the device again
    for key, value in (training or {}).items():
        setattr(arguments, key, value)
    return replace(
        run,
        model=replace(run.model, **(model or {})),
        data=replace(run.data, **(data or {})),
        loss=replace(run.loss, **(loss or {})),
        training=arguments,
    )


def _is_encoder_trained(run) -> bool:
    frozen = FAMILIES[run.model.family].parts.expand_groups(run.model.freeze)
    return run.model.lora != "detr" and not {"vision_trunk", "text_encoder"} <= set(frozen)


def _freeze_also(run, *parts: str) -> list[str]:
    return [*dict.fromkeys([*run.model.freeze, *parts])]


def _reduce_pairs_per_chunk(run):
    if run.model.pairs_per_chunk > 1:
        return ["pairs_per_chunk: 1"], "some speed", {"model": {"pairs_per_chunk": 1}}
    return None


def _reduce_masks_per_block(run):
    if run.loss.masks_per_block > 2 and run.model.train_masks:
        return ["masks_per_block: 2"], "some speed", {"loss": {"masks_per_block": 2}}
    return None


def _checkpoint_encoders(run):
    if _is_encoder_trained(run) and not run.model.vision_text_checkpointing:
        return ["vision_text_checkpointing: true"], "a third more time", {"model": {"vision_text_checkpointing": True}}
    return None


def _checkpoint_pairs(run):
    if not run.model.pair_checkpointing:
        return ["pair_checkpointing: true"], "a fifth more time", {"model": {"pair_checkpointing": True}}
    return None


def _use_8bit_optimizer(run):
    if "8bit" not in run.training.get_optimizer_name() and find_spec("bitsandbytes"):
        return ["optim: adamw_8bit"], "nothing noticeable", {"training": {"optim": OptimizerNames.ADAMW_8BIT}}
    return None


def _freeze_text(run):
    if run.model.lora is None and not run.data.cache_text:
        freeze = _freeze_also(run, "text_encoder")
        yaml = [f"freeze: [{', '.join(freeze)}]", "cache_text: true"]
        return yaml, "the training of the text encoder", {"model": {"freeze": freeze}, "data": {"cache_text": True}}
    return None


def _train_adapters(run, dtype: str):
    if run.model.lora is None and _is_encoder_trained(run):
        model = {"lora": "attention", "dtype": dtype}
        # Adapters start at zero and need larger learning rates than weights.
        rates = {"learning_rate": 2e-4, "vision_learning_rate": 1e-4, "text_learning_rate": 5e-5}
        training = {**rates, "lr_scale": 1.0, "vision_layer_decay": 1.0}
        yaml = [f"{key}: {value}" for key, value in (model | training).items()]
        return yaml, "capacity", {"model": model, "training": training}
    return None


def _cache_image_features(run, folder: str):
    if not run.data.feature_cache:
        freeze = _freeze_also(run, "vision_trunk", "text_encoder")
        yaml = [f"freeze: [{', '.join(freeze)}]", f"feature_cache: {folder}", "cache_text: true"]
        data = {"feature_cache": folder, "cache_text": True}
        return yaml, "the training of the ViT, and disk space", {"model": {"freeze": freeze}, "data": data}
    return None


def _lower_resolution(side: int):
    lower = (side - 1) // WINDOW_SIDE * WINDOW_SIDE
    if lower:
        return [f"resolution: {lower}"], "accuracy on small objects", {"model": {"resolution": lower}}
    return None


def _train_boxes_only(run):
    if run.model.train_masks:
        return ["train_masks: false"], "the masks", {"model": {"train_masks": False}}
    return None
