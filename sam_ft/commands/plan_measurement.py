"""Measurement of memory and time of a run on this device, by component, from a few real steps."""

import contextlib
import copy
import io
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import TrainerCallback

from ..data.loading import PhraseData
from ..data.row_schema import to_dataset
from ..models.family_spec import resolve
from ..models.freezing import count_parameters
from ..models.unwrapping import unwrap_sam
from ..training.feature_cache import STORED_DTYPE
from ..utils.memory import peak_resident_memory, reset_peak_resident_memory, resident_memory
from .build import load_sam
from .build_concepts import add_concepts_of_run
from .run import Run
from .run_family import get_family_of_run


HEADROOM = 1.1  # factor for fragmentation of the allocator and library workspaces
CONTEXT_MEMORY = int(0.7 * 2**30)  # bytes of the CUDA context; 0.76 GiB was measured on an H200
_NUM_STEPS = 6  # One warms up, the next ones have the largest images, the others have ordinary ones.
_NUM_EVALUATION_IMAGES = 2


@dataclass
class RunMeasurement:
    """
    Memory in bytes and time in seconds of a short run.

    Attributes:
        step_peak (`int`): Peak memory of the steps; on a CPU, resident memory beyond that of the libraries.
        evaluation_peak (`int`): Peak memory of the evaluation.
        loading_peak (`int`): Peak memory of loading and caching.
        weights (`int`): Memory of parameters and buffers.
        gradients (`int`): Memory of the gradients.
        optimizer (`int`): Memory of the optimizer states.
        step (`float`): Time of forward, backward and update per image.
        caching (`float`): Time per view of an image to fill the feature cache.
        side (`int`): Side of the model's input in px.
        evaluation (`float`): Time per evaluation image.
        checkpoint (`int`): Size of one checkpoint on disk.
        view (`int`): Size of the cached ViT features of one view of an image.
        trained (`dict[str, tuple[int, int]]`): Number of (trained, all) parameters by part.
        reserved (`int`, *optional*): Peak of the memory that the allocator reserved on a GPU; `None` on a CPU.
    """

    step_peak: int
    evaluation_peak: int
    loading_peak: int
    weights: int
    gradients: int
    optimizer: int
    step: float
    caching: float
    side: int
    evaluation: float
    checkpoint: int
    view: int
    trained: dict[str, tuple[int, int]]
    reserved: int | None = None

    @property
    def needed(self) -> int:
        """Memory that the run takes on the device: reserved and the CUDA context; on a CPU, the peak and 10 %."""
        return int(self.peak * HEADROOM) if self.reserved is None else self.reserved + CONTEXT_MEMORY

    @property
    def peak(self) -> int:
        """Peak memory of the whole run."""
        return max(self.step_peak, self.evaluation_peak, self.loading_peak)

    @property
    def activations(self) -> int:
        """Memory of a step beyond weights, gradients and optimizer states."""
        return max(self.step_peak - self.weights - self.gradients - self.optimizer, 0)


def measure(run: Run, data: PhraseData) -> RunMeasurement | None:
    """
    Run a few real steps and evaluations in a separate process and measure them.

    Args:
        run (`Run`): Keys of the run.
        data (`PhraseData`): Data of the run.

    Returns:
        `RunMeasurement` or `None`: `None` if the device runs out of memory.

    Raises:
        ValueError: If the run itself would raise it.
    """
    return call_in_process(_measure, run, data)


def call_in_process(function: Callable, *args):
    """
    Call a function of a module in a separate process.

    Args:
        function (`Callable`): Function to call.
        args: Its arguments.

    Returns:
        The result, or `None` if the device runs out of memory.

    Raises:
        ValueError: If the function raises it.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_call_into, args=(queue, function, args))
    with _return_freed_memory():
        process.start()
    while process.is_alive() and queue.empty():
        process.join(0.2)
    result = None if queue.empty() else queue.get()
    process.join()
    if isinstance(result, Exception):
        raise result
    if result is None and process.exitcode not in (
        0,
        -signal.SIGKILL,
    ):  # The kernel kills a process that takes too much memory.
        raise RuntimeError(f"the process that measures the run ended with exit code {process.exitcode}")
    return result


@contextlib.contextmanager
def _return_freed_memory():
    """Set glibc to return freed blocks to the kernel in new processes, so that resident memory is memory in use."""
    variables = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _call_into(queue, function: Callable, args: tuple) -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints progress.
            queue.put(function(*args))
    except (torch.OutOfMemoryError, MemoryError):
        queue.put(None)
    except ValueError as error:
        queue.put(ValueError(str(error)))
    except Exception as error:
        if "not enough memory" in str(error):  # torch's CPU allocator raises RuntimeError.
            queue.put(None)
        else:
            queue.put(RuntimeError("".join(traceback.format_exception(error))))


def _measure(run: Run, data: PhraseData) -> RunMeasurement:
    model_args, data_args, args = run.model, replace(run.data), copy.deepcopy(run.training)
    with tempfile.TemporaryDirectory() as folder:
        # The second batch of a window finds the gradients of the first in memory; further batches add nothing.
        window = min(args.gradient_accumulation_steps, 2)
        args.reduce_to_dry_run(f"{folder}/run")
        args.max_steps, args.gradient_accumulation_steps = _NUM_STEPS, window
        args.logging_strategy, args.disable_tqdm, args.train_sampling_strategy = "no", True, "sequential"
        data_args.reduce_to_dry_run(folder)
        images = window * args.per_device_train_batch_size  # per step
        data = replace(
            data,
            train=_select_rows(data.train, _NUM_STEPS * images),
            validation=_select_rows(data.validation, _NUM_EVALUATION_IMAGES),
        )
        meter, family = _Meter(args.device), get_family_of_run(run)
        model, processor = load_sam(model_args, args.seed)
        add_concepts_of_run(model, processor, data, model_args, args.seed)
        trained = count_parameters(unwrap_sam(model))
        begin = time.perf_counter()
        trainer = resolve(family.build_trainer)(model, processor, data, data_args, run.loss, args)
        caching = (time.perf_counter() - begin) / (len(data.train) * data_args.cache_views + len(data.validation))
        loading_peak = meter.take()
        trainer.add_callback(meter)
        trainer.train()
        step_peak = meter.take()
        begin = time.perf_counter()
        trainer.evaluate()
        evaluation = (time.perf_counter() - begin) / len(data.validation)
        evaluation_peak = meter.take()
        trainer.save_model(f"{folder}/saved")
        saved = sum(file.stat().st_size for file in Path(folder, "saved").rglob("*") if file.is_file())
    sam = unwrap_sam(model)
    optimizer = _bytes(t for state in trainer.optimizer.state.values() for t in state.values() if torch.is_tensor(t))
    return RunMeasurement(
        step_peak=step_peak,
        evaluation_peak=evaluation_peak,
        loading_peak=loading_peak,
        weights=_bytes([*model.parameters(), *model.buffers()]),
        gradients=_bytes(p for p in model.parameters() if p.requires_grad),
        optimizer=optimizer,
        step=meter.seconds() / images,
        caching=caching,
        side=family.get_resolution(sam.config),
        evaluation=evaluation,
        checkpoint=saved + optimizer,
        view=_view_bytes(sam),
        trained=trained,
        reserved=meter.reserved,
    )


def _view_bytes(model) -> int:
    trunk = model.config.vision_config.backbone_config
    return (model.config.image_size // trunk.patch_size) ** 2 * trunk.hidden_size * STORED_DTYPE.itemsize


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _select_rows(rows, number: int) -> Dataset:
    """Select the rows with the most phrases and instances, then others spread over the data."""
    if not isinstance(rows, Dataset):
        rows = to_dataset([rows[i] for i in range(min(len(rows), number))])
    cost = [len(row["phrases"]) + len(row["instances"]) for row in rows.remove_columns("image")]
    largest = sorted(range(len(cost)), key=cost.__getitem__, reverse=True)[: (number + 1) // 2]
    spread = [i * len(cost) // number for i in range(number - len(largest))]
    return rows.select([*largest, *spread])


class _Meter(TrainerCallback):
    """Callback that measures peak memory and the times of steps; the first step warms up."""

    def __init__(self, device: torch.device):
        self.device, self.times, self.reserved = device, [], None
        if device.type == "cuda":
            torch.cuda.init()  # The device of unpickled arguments is set up, but CUDA in this process is not.
        self.before = 0 if device.type == "cuda" else resident_memory()
        self.take()

    def on_step_end(self, args, state, control, **kwargs):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())

    def take(self) -> int:
        """Return the peak memory since the last call in bytes."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            self.reserved = max(self.reserved or 0, torch.cuda.max_memory_reserved(self.device))
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        peak = peak_resident_memory() - self.before
        reset_peak_resident_memory()
        return peak

    def seconds(self) -> float:
        """Return the time of an ordinary step, the mean of the second half of the steps."""
        half = len(self.times) // 2
        return (self.times[-1] - self.times[half]) / max(len(self.times) - 1 - half, 1)
