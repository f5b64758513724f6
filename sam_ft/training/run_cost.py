"""Training time and peak memory of a run, over all its resumptions."""

import time

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from ..utils.memory import peak_resident_memory


class RunCost(TrainerCallback, ExportableState):
    """
    Callback that measures training time and peak memory.

    Trainer saves its values in checkpoints, and a resumed run continues from them. Steps that are repeated after a
    kill are counted once.

    Args:
        seconds (`float`): Time in `train()` so far, s.
        memory (`int`): Peak memory of this process so far in bytes, of the accelerator if there is one.
    """

    def __init__(self, seconds: float = 0.0, memory: int = 0):
        self.seconds, self.memory = seconds, memory
        self._since: float | None = None
        self._device, self._begin = torch.device("cpu"), 0

    def on_train_begin(self, args, state, control, **kwargs):
        self._since, self._device, self._begin = time.perf_counter(), args.device, state.global_step

    def on_train_end(self, args, state, control, **kwargs):
        if state.global_step > self._begin:  # A finished run that is started again trains nothing.
            self._count()
        self._since = None

    def state(self) -> dict:
        """Return the values that a checkpoint stores, in the form of `ExportableState`."""
        self._count()
        return {"args": {"seconds": self.seconds, "memory": self.memory}, "attributes": {}}

    def _count(self) -> None:
        if self._since is None:
            return
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self.memory = max(self.memory, get_peak_memory(self._device))


def get_peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process on a device in bytes."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_memory()


def find_run_cost(trainer) -> RunCost | None:
    """Return the [`RunCost`] callback of a trainer, which resuming replaces with a new object."""
    return next((callback for callback in trainer.callback_handler.callbacks if isinstance(callback, RunCost)), None)
