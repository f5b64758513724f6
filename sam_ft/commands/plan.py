"""Plan of a run from measured steps: memory, time and disk, and changes that make it fit."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from ..arguments import ParsedTraining, PlanArguments
from ..data.loading import PhraseData
from ..planning.memory_ladder import iterate_memory_ladder
from ..utils.console import stage
from ..utils.memory import available_memory
from .build import load_data
from .plan_measurement import RunMeasurement, measure
from .run import Run, build_run


logger = logging.getLogger("sam_ft.run")

HEADROOM = 1.1  # Factor for fragmentation of the allocator and the context of the driver.
_OFFICIAL_SIDE = 1008  # px


def get_device_memory(device: torch.device) -> int:
    """Return the memory of a device in bytes; on a CPU, the available memory of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return available_memory()


def run_plan(model_args, data_args, loss_args, training: ParsedTraining, plan_args: PlanArguments) -> None:
    """
    Read the data, and log the plan of a run with parsed keys.

    Args:
        model_args (`ModelArguments`): Keys of the model.
        data_args (`DataArguments`): Keys of the data.
        loss_args (`LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training.
        plan_args (`PlanArguments`): Memory of the device to plan for.

    Raises:
        ValueError: If the command runs in several processes, or the run itself would raise it.
    """
    run = build_run(model_args, data_args, loss_args, training)
    if run.training.world_size > 1:
        raise ValueError(
            f"a plan measures one device, got {run.training.world_size} processes. Start it with "
            "`--num_processes 1`, and CUDA_VISIBLE_DEVICES=0 on a machine with several GPUs"
        )
    logger.info("%s", run.training.summary(run.model.model_name_or_path, run.data.source_name))
    with stage("data"):
        data = load_data(run.data)
    memory = (
        get_device_memory(run.training.device) if plan_args.memory_gb is None else int(plan_args.memory_gb * 2**30)
    )
    for line in plan(run, data, memory):
        logger.info("%s", line)


def plan(run: Run, data: PhraseData, memory: int) -> Iterator[str]:
    """
    Measure a run and yield the lines of its plan, each as soon as it is measured.

    Args:
        run (`Run`): Keys of the run.
        data (`PhraseData`): Data of the run.
        memory (`int`): Memory limit in bytes.

    Raises:
        ValueError: If the run itself would raise it.
    """
    measured = measure(run, data)
    if measured is None:
        yield f"a step does not fit {_gb(memory)}: the device ran out of memory"
    else:
        yield from _parameters(measured)
        yield from _memory(measured, memory)
        yield from _time(measured, run, data)
        yield from _disk(measured, run, data)
    if measured is None or measured.peak * HEADROOM > memory:
        yield from _changes_that_fit(run, data, memory, _OFFICIAL_SIDE if measured is None else measured.side)


def _parameters(measured: RunMeasurement) -> Iterator[str]:
    yield "trained parameters"
    for part, (trained, total) in measured.trained.items():
        yield f"  {part:20}{trained / 1e6:7.2f} of {total / 1e6:7.2f} M"


def _memory(measured: RunMeasurement, memory: int) -> Iterator[str]:
    yield "memory of a step on the largest images, measured"
    for name in ("weights", "gradients", "optimizer", "activations"):
        yield f"  {name:20}{_gb(getattr(measured, name)):>10}"
    yield f"  {'evaluation':20}{_gb(measured.evaluation_peak):>10}"
    yield f"  {'loading, caching':20}{_gb(measured.loading_peak):>10}"
    verdict = "fits" if measured.peak * HEADROOM <= memory else "does not fit"
    yield f"  {'a step':20}{_gb(measured.step_peak):>10}"
    yield f"  {'peak':20}{_gb(measured.peak):>10}: {verdict} {_gb(memory)} with 10% for fragmentation"


def _time(measured: RunMeasurement, run: Run, data: PhraseData) -> Iterator[str]:
    args = run.training
    window = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    images = args.max_steps * window if args.max_steps > 0 else args.num_train_epochs * len(data.train)
    train = images * measured.step / args.world_size
    evaluation = len(data.validation) * measured.evaluation / args.world_size
    yield "time on this device, measured on a few images"
    yield f"  training            {measured.step:.3f} s per image, {_hours(train)} for {images:.0f}"
    if run.data.feature_cache:
        views = len(data.train) * run.data.cache_views + len(data.validation)
        yield f"  caching             {measured.caching:.3f} s per view, {_hours(views * measured.caching)} once"
    number = len(data.validation)
    yield f"  one evaluation      {measured.evaluation:.3f} s per image, {_hours(evaluation)} for {number}"


def _disk(measured: RunMeasurement, run: Run, data: PhraseData) -> Iterator[str]:
    limit = run.training.save_total_limit
    # A new checkpoint is written before the oldest one is removed, and the final model comes on top.
    number, text = (1, "each") if limit is None else (limit + 2, f"{limit + 2} of {_gb(measured.checkpoint)}")
    yield "disk"
    yield f"  checkpoints         {_gb(measured.checkpoint * number)} ({text}), {_free(run.training.output_dir)}"
    if run.data.feature_cache:
        views = len(data.train) * run.data.cache_views + len(data.validation)
        yield f"  cached features     {_gb(measured.view * views)}, {_free(run.data.feature_cache)}"


def _free(folder: str) -> str:
    path = Path(folder).resolve()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return f"free {_gb(shutil.disk_usage(existing).free)}"


def _changes_that_fit(run: Run, data: PhraseData, memory: int, side: int) -> Iterator[str]:
    yield "changes that make it fit, each together with those above it"
    cache = f"{run.training.output_dir}-features"
    for rung in iterate_memory_ladder(run, cache, side):
        try:
            measured = measure(rung.run, data)
        except ValueError as error:
            yield f"  ({rung.yaml[-1]} is not possible in this run: {error})"
            continue
        fits = measured is not None and measured.peak * HEADROOM <= memory
        peak = "out of memory" if measured is None else f"{_gb(measured.peak)}, {measured.step:.3f} s per image"
        for line in rung.yaml:
            yield f"  {line}"
        yield f"    {peak}; costs {rung.costs}{': it fits' if fits else ''}"
        if fits:
            return
    yield "  no further change: set a smaller `resolution`, or use a GPU with more memory"


def _gb(size: float) -> str:
    return f"{size / 2**30:.2f} GB"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
