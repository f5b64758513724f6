"""The model as it was before it was tuned: what a student is held to."""

import contextlib
import copy

import torch


class Teacher:
    """
    Answers as a model did when the teacher was made.

    Args:
        student: [`Sam3ForConceptSegmentation`], of which the trained parts are copied and the frozen ones shared; or
            [`AdaptedSam`], whose adapters are silent while it teaches, so that nothing is copied.
        weight (`float`): of the distillation loss beside the others.

    Raises:
        `ValueError`: where the adapters have been trained: without them the model is not the one that it was.
    """

    def __init__(self, student, weight: float = 1.0):
        self.weight = weight
        self._adapted = student if hasattr(student, "disable_adapter") else None
        self._copy = None
        if self._adapted is not None and any(
            float(p.detach().abs().max()) > 0 for n, p in student.named_parameters() if ".lora_B." in n
        ):
            raise ValueError(
                "`distill_weight` holds a model to what it was, and this adapter has been trained before: without it the model is an older one. "
                "Merge it (merge_adapters) and start a new adapter from the result"
            )
        if self._adapted is None:
            shared = {id(p): p for p in student.parameters() if not p.requires_grad}
            self._copy = copy.deepcopy(student, shared).requires_grad_(False).eval()

    @contextlib.contextmanager
    def model(self, device: torch.device):
        """The base on a device, without gradients and dropout, as long as the context lasts."""
        with torch.no_grad():
            if self._copy is not None:
                yield self._copy.to(device)
                return
            modes = [(module, module.training) for module in self._adapted.modules()]
            trained = [(parameter, parameter.requires_grad) for parameter in self._adapted.parameters()]
            self._adapted.eval()
            try:
                with self._adapted.disable_adapter():
                    yield self._adapted.get_base_model()
            finally:
                for module, mode in modes:
                    module.training = mode
                for parameter, wanted in trained:  # PEFT wakes frozen adapters, too
                    parameter.requires_grad_(wanted)
