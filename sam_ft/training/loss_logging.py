"""Logged loss parts: sums over the steps since the last log, averaged over steps and processes."""

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback


class LossParts(TrainerCallback):
    """Sums of the loss parts since the last log, on the device; parts of auxiliary layers are not logged."""

    def __init__(self):
        self._sums: dict[str, torch.Tensor] = {}
        self._begin = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self._sums, self._begin = {}, state.global_step

    def add(self, parts: dict[str, torch.Tensor], scale: float) -> None:
        """
        Add the loss parts of a micro-batch.

        Args:
            parts (`dict[str, torch.Tensor]`): Loss parts by name.
            scale (`float`): Factor of the micro-batch in the optimizer step's loss.
        """
        for name, value in parts.items():
            if "_aux_" not in name:
                self._sums[name] = self._sums.get(name, 0.0) + value * scale

    def collect(self, step: int) -> dict[str, float]:
        """
        Return the sums over the processes, averaged over steps, and start again; all processes must call it.

        Args:
            step (`int`): Number of optimizer steps so far.
        """
        steps = max(step - self._begin, 1)
        self._begin = step
        values = torch.stack([value.float() for value in self._sums.values()]).tolist() if self._sums else []
        local = dict(zip(self._sums, values, strict=True))
        self._sums = {}
        means: dict[str, float] = {}
        for parts in gather_object([local]):
            for name, value in parts.items():
                means[name] = means.get(name, 0.0) + value / steps
        return means
