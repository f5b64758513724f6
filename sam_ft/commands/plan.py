"""Plan of a run: memory, time and disk from measured or predicted steps, and changes that make it fit."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ..arguments import ParsedTraining, PlanArguments
from ..data.loading import PhraseData
from ..planning.cards import Card, find_card, find_card_of_device
from ..planning.memory_ladder import iterate_memory_ladder
from ..planning.roofline import BANDWIDTH_SHARE, HOST_SECONDS_PER_KERNEL, MATMUL_SHARE
from ..utils.console import stage
from ..utils.memory import available_memory
from .build import load_data
from .plan_measurement import CONTEXT_MEMORY, RunMeasurement, call_in_process, measure
from .plan_prediction import StepContent, StepPrediction, predict
from .run import Run, build_run


logger = logging.getLogger("sam_ft.run")

_OFFICIAL_SIDE = 1008  # px
_MIN_PHRASES = 8  # per image of a predicted step
_COMPONENTS = ("weights", "gradients", "optimizer", "activations")


def get_device_memory(device: torch.device) -> int:
    """Return the memory of a device in bytes; on a CPU, the available memory of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return available_memory()


def run_plan(model_args, data_args, loss_args, training: ParsedTraining, plan_args: PlanArguments) -> None:
    """
    Log the plan of a run with parsed keys: predicted for `card`, otherwise measured on this device.

    Args:
        model_args (`ModelArguments`): Keys of the model.
        data_args (`DataArguments`): Keys of the data.
        loss_args (`LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training.
        plan_args (`PlanArguments`): Card and memory to plan for, and images of a predicted step.

    Raises:
        ValueError: If the card is unknown, the command runs in several processes, or the run itself would raise it.
    """
    phrases = plan_args.predicted_phrases or max(_MIN_PHRASES, 2 * model_args.pairs_per_chunk)
    content = StepContent(phrases, plan_args.predicted_objects or phrases)
    limit = None if plan_args.memory_gb is None else int(plan_args.memory_gb * 2**30)
    if plan_args.card is not None:
        card = find_card(plan_args.card)
        card = card if limit is None else dataclasses.replace(card, memory=limit)
        run, with_bf16 = build_cpu_run(model_args, data_args, loss_args, training)
        for line in plan_for_card(run, card, content, with_bf16=with_bf16):
            logger.info("%s", line)
        return
    run = build_run(model_args, data_args, loss_args, training)
    if run.training.world_size > 1:
        raise ValueError(
            f"a plan measures one device, got {run.training.world_size} processes. Start it with "
            "`--num_processes 1`, and CUDA_VISIBLE_DEVICES=0 on a machine with several GPUs"
        )
    logger.info("%s", run.training.summary(run.model.model_name_or_path, run.data.source_name))
    with stage("data"):
        data = load_data(run.data)
    device, predicted = run.training.device, None
    if device.type == "cuda":
        card = find_card_of_device(torch.cuda.get_device_name(device), get_device_memory(device))
        keys = model_args, data_args, loss_args, training
        try:
            predicted = call_in_process(_predict_on_cpu, keys, card, content)
        except ValueError as error:  # A saved adapter can be measured, but not predicted.
            logger.info("note: there is no prediction beside the measurement: %s", error)
    logger.info("measuring steps and an evaluation on %s in a process of its own …", device.type)
    for line in plan(run, data, get_device_memory(device) if limit is None else limit, predicted):
        logger.info("%s", line)


def build_cpu_run(model_args, data_args, loss_args, training: ParsedTraining) -> tuple[Run, bool]:
    """
    Build a run whose training arguments use the CPU, for a prediction.

    Args:
        model_args (`ModelArguments`): Keys of the model.
        data_args (`DataArguments`): Keys of the data.
        loss_args (`LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training.

    Returns:
        `tuple[Run, bool]`: The run, and whether its steps run under bf16 autocast on a GPU.
    """
    values = dict(training.transformers)
    with_bf16 = bool(values.pop("bf16", False)) or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16"
    if values.get("tf32"):
        del values["tf32"]  # the default of a GPU, which transformers refuses without one
    parsed = dataclasses.replace(training, transformers=values | {"use_cpu": True})
    return build_run(model_args, data_args, loss_args, parsed), with_bf16


def _predict_on_cpu(keys: tuple, card: Card, content: StepContent) -> StepPrediction:
    run, with_bf16 = build_cpu_run(*keys)
    run, with_bf16, _ = _adjust_to_card(run, card, with_bf16)
    return predict(run, card, content, with_bf16=with_bf16)


def plan_for_card(run: Run, card: Card, content: StepContent, *, with_bf16: bool) -> Iterator[str]:
    """
    Predict a run on a card and yield the lines of its plan, each as soon as it is predicted.

    Args:
        run (`Run`): Keys of the run, with training arguments for the CPU.
        card (`Card`): Card to predict for.
        content (`StepContent`): Images of the step.
        with_bf16 (`bool`): Whether the run sets bf16 autocast.

    Raises:
        ValueError: If the run itself would raise it.
    """
    run, with_bf16, notes = _adjust_to_card(run, card, with_bf16)
    yield from notes
    yield (
        f"{run.model.model_name_or_path} on {card.name}, predicted without a GPU; images with {content.phrases} "
        f"phrases, {content.present} of them present, and {content.objects} objects"
    )

    def attempt(run: Run) -> StepPrediction:
        return predict(run, card, content, with_bf16=with_bf16)

    predicted = attempt(run)
    yield from _parameters(predicted)
    yield f"memory of a step of {predicted.side} px, predicted"
    for name in _COMPONENTS:
        yield f"  {name:20}{_gb(getattr(predicted, name)):>10}"
    yield f"  {'a step':20}{_gb(predicted.step_peak):>10}"
    yield (
        f"  {'on the card':20}{_gb(predicted.needed):>10} with 10% for fragmentation and {_gb(CONTEXT_MEMORY)} of "
        f"CUDA context: {_verdict(predicted.needed, card.memory)}"
    )
    yield from _predicted_time(predicted, card)
    if predicted.needed > card.memory:
        dtype = "bfloat16" if card.with_bf16 else "float32"
        yield from _changes_that_fit(run, attempt, card.memory, predicted.side, dtype)
    else:
        yield f"the run fits {_gb(card.memory)} without changes"


def _adjust_to_card(run: Run, card: Card, with_bf16: bool) -> tuple[Run, bool, list[str]]:
    """Replace bf16 by float32 on a card without it; return the run, whether it uses bf16, and a line about it."""
    model = run.model
    if card.with_bf16 or not (with_bf16 or model.dtype == "bfloat16" or model.quantization):
        return run, with_bf16, []
    without = "" if not model.quantization else ", without `quantization`, whose layers compute in bf16"
    note = (
        f"{card.name} has no bf16, and `fp16` is not supported: set `bf16: false` and `dtype: float32`. Predicted "
        f"with both{without}"
    )
    model = dataclasses.replace(model, dtype="float32", quantization=None)
    return dataclasses.replace(run, model=model), False, [note]


def plan(run: Run, data: PhraseData, memory: int, predicted: StepPrediction | None = None) -> Iterator[str]:
    """
    Measure a run and yield the lines of its plan, each as soon as it is measured.

    Args:
        run (`Run`): Keys of the run.
        data (`PhraseData`): Data of the run.
        memory (`int`): Memory limit in bytes.
        predicted (`StepPrediction`, *optional*): Prediction to show beside the measurement.

    Raises:
        ValueError: If the run itself would raise it.
    """
    measured = measure(run, data)
    if measured is None:
        yield f"a step does not fit {_gb(memory)}: the device ran out of memory"
    else:
        yield from _parameters(measured)
        yield from _memory(measured, memory, predicted)
        yield from _time(measured, run, data, predicted)
        yield from _disk(measured, run, data)
    if measured is None or measured.needed > memory:
        side = _OFFICIAL_SIDE if measured is None else measured.side
        yield from _changes_that_fit(run, lambda rung: measure(rung, data), memory, side)
    else:
        yield f"the run fits {_gb(memory)} without changes"


def _parameters(found: RunMeasurement | StepPrediction) -> Iterator[str]:
    yield "trained parameters"
    for part, (trained, total) in found.trained.items():
        yield f"  {part:20}{trained / 1e6:7.2f} of {total / 1e6:7.2f} M"


def _memory(measured: RunMeasurement, memory: int, predicted: StepPrediction | None) -> Iterator[str]:
    def row(label: str, size: int, name: str | None = None) -> str:
        beside = "" if predicted is None or name is None else f"{_gb(getattr(predicted, name)):>10}"
        return f"  {label:20}{_gb(size):>10}{beside}"

    yield f"memory of a step on the largest images, measured{'' if predicted is None else ' and predicted'}"
    for name in _COMPONENTS:
        yield row(name, getattr(measured, name), name)
    yield row("evaluation", measured.evaluation_peak)
    yield row("loading, caching", measured.loading_peak)
    yield row("a step", measured.step_peak, "step_peak")
    verdict = _verdict(measured.needed, memory)
    if measured.reserved is None:
        yield f"{row('peak', measured.peak)}: {verdict} with 10% for fragmentation"
    else:
        yield (
            f"{row('on the card', measured.needed, 'needed')}: reserved, and {_gb(CONTEXT_MEMORY)} of CUDA context; "
            f"{verdict}"
        )


def _verdict(needed: float, memory: int) -> str:
    return f"{'fits' if needed <= memory else 'does not fit'} {_gb(memory)}"


def _predicted_time(predicted: StepPrediction, card: Card) -> Iterator[str]:
    if card.bandwidth is None:
        yield "no time is predicted for a size; set `--card` to a name such as rtx4090"
        return
    rate = f"{card.bf16:g} TFLOP/s in bf16" if card.bf16 else f"{card.fp32:g} TFLOP/s in float32"
    yield "time of an image, predicted"
    yield (
        f"  kernels           {predicted.kernel_seconds:6.2f} s  {predicted.flops / 1e12:.1f} TFLOP and "
        f"{predicted.moved / 1e9:.0f} GB, at up to {MATMUL_SHARE:.0%} of {rate} and {BANDWIDTH_SHARE:.0%} of "
        f"{card.bandwidth:g} GB/s ({card.source})"
    )
    yield (
        f"  host              {predicted.host_seconds:6.2f} s  {predicted.kernels:.0f} kernels, "
        f"{HOST_SECONDS_PER_KERNEL * 1e6:.0f} µs of Python and launch each, as measured beside an H200"
    )
    yield f"  training          {predicted.step:6.2f} s  the larger of both, because they overlap"


def _time(measured: RunMeasurement, run: Run, data: PhraseData, predicted: StepPrediction | None) -> Iterator[str]:
    args = run.training
    window = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    images = args.max_steps * window if args.max_steps > 0 else args.num_train_epochs * len(data.train)
    train = images * measured.step / args.world_size
    evaluation = len(data.validation) * measured.evaluation / args.world_size
    beside = "" if predicted is None else f" (predicted {predicted.step:.3f} s)"
    yield "time on this device, measured on a few images"
    yield f"  training            {measured.step:.3f} s per image{beside}, {_hours(train)} for {images:.0f}"
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


def _changes_that_fit(run: Run, attempt: Callable, memory: int, side: int, dtype: str = "bfloat16") -> Iterator[str]:
    """
    Yield the rungs of the memory ladder up to the first one that fits.

    Args:
        run (`Run`): The run that does not fit.
        attempt (`Callable`): `attempt(run)` measures or predicts a run; `None` if the device runs out of memory.
        memory (`int`): Memory limit in bytes.
        side (`int`): Side of the model's input in px.
        dtype (`str`): Dtype of frozen encoders.
    """
    yield "changes that make it fit, each together with those above it"
    for rung in iterate_memory_ladder(run, f"{run.training.output_dir}-features", side, dtype):
        try:
            found = attempt(rung.run)
        except ValueError as error:
            yield f"  ({rung.yaml[-1]} is not possible in this run: {error})"
            continue
        fits = found is not None and found.needed <= memory
        peak = "out of memory" if found is None else f"{_gb(found.needed)}, {found.step:.3f} s per image"
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
