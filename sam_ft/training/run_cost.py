"""What a run took, over all its resumptions."""

import sys
import time

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class RunCost(TrainerCallback, ExportableState):
    """
    Counts seconds and memory; saved in checkpoints with Trainer's state, so that a resumed run goes on counting. What a kill took away is
    not counted twice.

    Attributes:
        seconds (`float`): in `train`. memory (`int`): bytes that this process held at most, of the accelerator where there is one.
    """

    def __init__(self, seconds: float = 0.0, memory: int = 0):
        self.seconds, self.memory = seconds, memory
        self._since: float | None = None
        self._device, self._begin = torch.device("cpu"), 0

    def on_train_begin(self, args, state, control, **kwargs):
        self._since, self._device, self._begin = time.perf_counter(), args.device, state.global_step

    def on_train_end(self, args, state, control, **kwargs):
        if state.global_step > self._begin:  # a finished run that is given again trains nothing
            self._count()
        self._since = None

    def state(self) -> dict:
        """As `ExportableState`."""
        self._count()
        return {"args": {"seconds": self.seconds, "memory": self.memory}, "attributes": {}}

    def _count(self) -> None:
        if self._since is None:
            return
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self.memory = max(self.memory, peak_memory(self._device))


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most on a device; 0 where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cost_of(trainer) -> RunCost | None:
    """The count of a trainer; resuming puts another object in the first one's place."""
    return next((one for one in trainer.callback_handler.callbacks if isinstance(one, RunCost)), None)
