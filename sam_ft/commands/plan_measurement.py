"""What a step of a run takes on this device, by component, from a few real steps."""

import contextlib
import copy
import io
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import TrainerCallback

from ..arguments import Run
from ..data.loading import PhraseData
from ..data.row_schema import to_dataset
from ..models.freezing import count_parameters
from ..models.lora import sam_of
from ..training.feature_cache import STORED
from .build import load_sam
from .build_sam3 import build_sam3_trainer


_STEPS = 6  # one to warm up, two on the largest images, the rest on ordinary ones
_EVALUATED = 2


@dataclass
class Measured:
    """
    A short run's memory in bytes and time in seconds.

    Attributes:
        step_peak, evaluation_peak, loading_peak (`int`): most that was held at once in steps, in evaluation, and before them, while
            loading and caching; on a CPU, resident memory beyond what the libraries take.
        weights, gradients, optimizer (`int`): what of a step's peak is no activation.
        step (`float`): of one image's forward, backward and share of the update.
        caching (`float`): of one view of an image, where the run caches features.
        side (`int`): of the model's canvas, px.
        evaluation (`float`): of one evaluation image.
        checkpoint (`int`): files of one checkpoint.
        view (`int`): what the ViT says of one view of an image, as a cache stores it.
        trained (`dict[str, tuple[int, int]]`): part -> (trained, all) parameters.
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

    @property
    def peak(self) -> int:
        return max(self.step_peak, self.evaluation_peak, self.loading_peak)

    @property
    def activations(self) -> int:
        return max(self.step_peak - self.weights - self.gradients - self.optimizer, 0)


def measure(run: Run, data: PhraseData) -> Measured | None:
    """
    A few real steps and evaluations in a process of its own; `None` where the device's memory does not suffice.

    Raises:
        `ValueError`: what the run itself would raise.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure_into, args=(queue, run, data))
    with _freed_blocks_returned():
        process.start()
    while process.is_alive() and queue.empty():
        process.join(0.2)
    result = None if queue.empty() else queue.get()
    process.join()
    if isinstance(result, Exception):
        raise result
    if result is None and process.exitcode not in (0, -signal.SIGKILL):  # the kernel kills what takes too much memory
        raise RuntimeError(f"measuring ended with exit code {process.exitcode}")
    return result


@contextlib.contextmanager
def _freed_blocks_returned():
    """Lets glibc give freed blocks back to the kernel in processes that are started here: resident memory is what is held."""
    wanted = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure_into(queue, run: Run, data: PhraseData) -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Trainer's own lines
            queue.put(_measure(run, data))
    except (torch.OutOfMemoryError, MemoryError):
        queue.put(None)
    except ValueError as error:
        queue.put(ValueError(str(error)))
    except Exception as error:
        if "not enough memory" in str(error):  # torch's allocator on a CPU
            queue.put(None)
        else:
            queue.put(RuntimeError("".join(traceback.format_exception(error))))


def _measure(run: Run, data: PhraseData) -> Measured:
    model_args, data_args, args = run.model, replace(run.data), copy.deepcopy(run.training)
    with tempfile.TemporaryDirectory() as folder:
        # the second batch of a window meets the gradients of the first; more batches add nothing
        window = min(args.gradient_accumulation_steps, 2)
        args.make_dry(f"{folder}/run")
        args.max_steps, args.gradient_accumulation_steps = _STEPS, window
        args.logging_strategy, args.disable_tqdm, args.train_sampling_strategy = "no", True, "sequential"
        data_args.make_dry(folder)
        images = window * args.per_device_train_batch_size  # a step
        data = replace(data, train=_some(data.train, _STEPS * images), validation=_some(data.validation, _EVALUATED))
        meter = _Meter(args.device)
        model, processor = load_sam(model_args, args.seed)
        trained = count_parameters(sam_of(model))
        begin = time.perf_counter()
        trainer = build_sam3_trainer(model, processor, data, data_args, run.loss, args)
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
    sam3, optimizer = (
        sam_of(model),
        _bytes(t for state in trainer.optimizer.state.values() for t in state.values() if torch.is_tensor(t)),
    )
    return Measured(
        step_peak=step_peak,
        evaluation_peak=evaluation_peak,
        loading_peak=loading_peak,
        weights=_bytes([*model.parameters(), *model.buffers()]),
        gradients=_bytes(p for p in model.parameters() if p.requires_grad),
        optimizer=optimizer,
        step=meter.seconds() / images,
        caching=caching,
        side=sam3.config.image_size,
        evaluation=evaluation,
        checkpoint=saved + optimizer,
        view=_view_bytes(sam3),
        trained=trained,
    )


def _view_bytes(model) -> int:
    trunk = model.config.vision_config.backbone_config
    return (model.config.image_size // trunk.patch_size) ** 2 * trunk.hidden_size * STORED.itemsize


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _some(rows, number: int) -> Dataset:
    """The rows with most phrases and instances, then others spread over the data."""
    if not isinstance(rows, Dataset):
        rows = to_dataset([rows[i] for i in range(min(len(rows), number))])
    light = rows.remove_columns("image")
    cost = [len(row["phrases"]) + len(row["instances"]) for row in light]
    largest = sorted(range(len(cost)), key=cost.__getitem__, reverse=True)[: (number + 1) // 2]
    spread = [i * len(cost) // number for i in range(number - len(largest))]
    return rows.select([*largest, *spread])


class _Meter(TrainerCallback):
    """Peaks of memory between two takes, and times of steps; the first step warms up."""

    def __init__(self, device: torch.device):
        self.device, self.times = device, []
        self.before = 0 if device.type == "cuda" else _resident("VmRSS")
        self.take()

    def on_step_end(self, args, state, control, **kwargs):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())

    def take(self) -> int:
        """The peak since the last take, in bytes."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        peak = _resident("VmHWM") - self.before
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the high-water mark to what is held now
        return peak

    def seconds(self) -> float:
        """Of an ordinary step: the second half of them, on ordinary images."""
        half = len(self.times) // 2
        return (self.times[-1] - self.times[half]) / max(len(self.times) - 1 - half, 1)


def _resident(key: str) -> int:
    """A line of the kernel's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1]) * 1024
