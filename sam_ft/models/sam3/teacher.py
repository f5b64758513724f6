"""Self-distillation teacher: the frozen initial model."""

import contextlib
import copy

import torch

from ...losses.distillation import DistillationOutputs
from .batch import ConceptBatch
from .features import EncodedPairs
from .predictions import predict_distillation_outputs


class Teacher:
    """
    Frozen copy of a model in its initial state.

    Args:
        student (`Sam3ForConceptSegmentation` or `AdaptedSam`): Model to distil from. Trained parameters are copied and
            frozen ones are shared. A model with adapters is not copied: it predicts with the adapters disabled.
        weight (`float`): Weight of the distillation loss.

    Raises:
        `ValueError`: If the adapters have been trained, so that the base is not the initial model.
    """

    def __init__(self, student, weight: float = 1.0):
        self.weight = weight
        self._adapted = student if hasattr(student, "disable_adapter") else None
        self._copy = None
        if self._adapted is not None and any(
            float(p.detach().abs().max()) > 0 for n, p in student.named_parameters() if ".lora_B." in n
        ):
            raise ValueError(
                "`distill_weight` distils from the initial model, but this adapter has been trained before, so "
                "its base is an older model. Merge the adapter (merge_adapters) and start a new one from the result"
            )
        if self._adapted is None:
            shared = {id(p): p for p in student.parameters() if not p.requires_grad}
            self._copy = copy.deepcopy(student, shared).requires_grad_(False).eval()

    @contextlib.contextmanager
    def model(self, device: torch.device):
        """Yield the teacher on `device`, in evaluation mode and without gradients."""
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
                for parameter, requires_grad in trained:  # PEFT makes frozen adapters trainable again
                    parameter.requires_grad_(requires_grad)

    def encode(self, batch: ConceptBatch, device: torch.device) -> EncodedPairs:
        """Encode the distillation pairs of a batch with the teacher on `device`."""
        with self.model(device) as teacher:
            return teacher.encode_pairs(teacher.encode(batch), batch.distillation_pairs)

    def predict(self, encoded: EncodedPairs, chunk: list[int]) -> DistillationOutputs:
        """
        Predict the targets of a chunk of distillation pairs.

        Args:
            encoded (`EncodedPairs`): Features of [`encode`].
            chunk (`list[int]`): Indices of the pairs to predict.
        """
        with self.model(encoded.prompt.device) as teacher:
            decoded = teacher.decode(encoded, chunk, with_one_to_many=False)
            return predict_distillation_outputs(teacher, decoded)
