"""The rungs of the memory ladder: changes of a run that save memory, from free to costly."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from transformers.training_args import OptimizerNames

from ..models.anatomy import SAM3


WHOLE_WINDOWS = 336  # px: 24 patches, the ViT's attention window


@dataclass
class Rung:
    """One change of a run: its lines of YAML, what it costs, and the run with it and all rungs before it."""

    yaml: list[str]
    costs: str
    run: Any


def ladder(run, cache_folder: str, side: int) -> Iterator[Rung]:
    """
    What a run could still do to save memory, each rung on top of those before it.

    Args:
        run: A run's keys, `Run` of `arguments`, as planned; it is not changed.
        cache_folder (`str`): where its cached features would lie.
        side (`int`): of the model's canvas as planned, px.
    """
    for rung in (
        _fewer_pairs,
        _fewer_masks,
        _small_optimizer,
        _checkpoint_pairs,
        _checkpoint_encoders,
        _freeze_text,
        _adapters,
        lambda run: _cache_images(run, cache_folder),
        lambda run: _lower_resolution(run, side),
        _boxes_alone,
    ):
        found = rung(run)
        if found is not None:
            yaml, costs, changes = found
            run = _changed(run, **changes)
            yield Rung(yaml, costs, run)


def _changed(run, model=None, data=None, loss=None, training=None):
    arguments = copy.deepcopy(run.training)  # not made anew: its own checks would set up the device again
    for key, value in (training or {}).items():
        setattr(arguments, key, value)
    return replace(
        run,
        model=replace(run.model, **(model or {})),
        data=replace(run.data, **(data or {})),
        loss=replace(run.loss, **(loss or {})),
        training=arguments,
    )


def _an_encoder_is_trained(run) -> bool:
    return run.model.lora != "detr" and not {"vision_trunk", "text_encoder"} <= set(SAM3.parts_of(run.model.freeze))


def _frozen(run, *parts: str) -> list[str]:
    return [*dict.fromkeys([*run.model.freeze, *parts])]


def _fewer_pairs(run):
    if run.model.pairs_per_chunk > 1:
        return ["pairs_per_chunk: 1"], "some speed", {"model": {"pairs_per_chunk": 1}}


def _fewer_masks(run):
    if run.loss.masks_per_block > 2 and run.model.train_masks:
        return ["masks_per_block: 2"], "some speed", {"loss": {"masks_per_block": 2}}


def _checkpoint_encoders(run):
    if _an_encoder_is_trained(run) and not run.model.vision_text_checkpointing:
        return ["vision_text_checkpointing: true"], "a third more time", {"model": {"vision_text_checkpointing": True}}


def _checkpoint_pairs(run):
    if not run.model.pair_checkpointing:
        return ["pair_checkpointing: true"], "a fifth more time", {"model": {"pair_checkpointing": True}}


def _small_optimizer(run):
    if "8bit" not in run.training.optimizer_name() and find_spec("bitsandbytes"):
        return ["optim: adamw_8bit"], "nothing noticeable", {"training": {"optim": OptimizerNames.ADAMW_8BIT}}


def _freeze_text(run):
    if run.model.lora is None and not run.data.cache_text:
        freeze = _frozen(run, "text_encoder")
        yaml = [f"freeze: [{', '.join(freeze)}]", "cache_text: true"]
        return yaml, "words are not learned anew", {"model": {"freeze": freeze}, "data": {"cache_text": True}}


def _adapters(run):
    if run.model.lora is None and _an_encoder_is_trained(run):
        model = {"lora": "attention", "dtype": "bfloat16"}
        # adapters start at nothing and want larger steps than weights
        rates = {"learning_rate": 2e-4, "vision_learning_rate": 1e-4, "text_learning_rate": 5e-5}
        training = {**rates, "lr_scale": 1.0, "vision_layer_decay": 1.0}
        yaml = [f"{key}: {value}" for key, value in (model | training).items()]
        return yaml, "capacity", {"model": model, "training": training}


def _cache_images(run, folder: str):
    if not run.data.feature_cache:
        freeze = _frozen(run, "vision_trunk", "text_encoder")
        yaml = [f"freeze: [{', '.join(freeze)}]", f"feature_cache: {folder}", "cache_text: true"]
        data = {"feature_cache": folder, "cache_text": True}
        return yaml, "the ViT stays as it is; disk", {"model": {"freeze": freeze}, "data": data}


def _lower_resolution(run, side: int):
    lower = (side - 1) // WHOLE_WINDOWS * WHOLE_WINDOWS
    if lower:
        return [f"resolution: {lower}"], "small objects", {"model": {"resolution": lower}}


def _boxes_alone(run):
    if run.model.train_masks:
        return ["train_masks: false"], "masks", {"model": {"train_masks": False}}
