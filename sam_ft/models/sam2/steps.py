"""
Steps of SAM 2 on a batch: training, evaluation and prediction.

As in `models/sam3/steps.py`, a step is a callable `step(model, batch)` that [`Sam2ForPromptSegmentation.forward`]
runs, so that it works with every wrapper of the model.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch

from ...losses.sam2 import RoundOutputs, Sam2Criterion
from ...ops.blocks import sum_over_blocks, sum_parts
from ..contexts import full_precision
from ..outputs import LossOutput, ObjectPrediction
from .batch import PromptBatch
from .predictions import predict_objects
from .rounds import Round, build_center_clicks, build_random_clicks, run_rounds


if TYPE_CHECKING:
    from .model import Sam2ForPromptSegmentation

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]
Criterion = Callable[[list[RoundOutputs], torch.Tensor, torch.Tensor | float], Loss]


class PromptTrainingStep:
    """
    Loss of a batch with labels, over rounds of random corrective clicks.

    Objects are decoded in chunks of `model.objects_per_chunk`. The backward pass of a chunk runs right after its
    forward pass, see [`sum_over_blocks`], so that memory is independent of the number of objects.

    Args:
        criterion (`Callable`, *optional*): `criterion(rounds, targets, num_objects) -> (loss, parts)`; see
            [`Sam2Criterion`], the default.
        gate_absent (`bool`): Suppress the masks of objects predicted as absent, if the model is in training mode; see
            [`suppress_absent`]. Default false.
    """

    def __init__(self, criterion: Criterion | None = None, *, gate_absent: bool = False):
        self.criterion, self.gate_absent = criterion or Sam2Criterion(), gate_absent

    def __call__(self, model: "Sam2ForPromptSegmentation", batch: PromptBatch) -> LossOutput:
        """
        Compute the loss.

        Args:
            model (`Sam2ForPromptSegmentation`): Model to train.
            batch (`PromptBatch`): Batch with labels.

        Returns:
            `LossOutput`: Loss with gradient, and its parts.

        Raises:
            `ValueError`: If the batch has no labels.
        """
        gate_absent = self.gate_absent and model.training

        def compute(chunk: list[int], *maps: torch.Tensor) -> Loss:
            index, truth = _select_truth(batch, chunk)
            clicks = build_random_clicks(truth, batch.prompts, index)
            rounds = run_rounds(
                model, maps, batch.prompts, chunk, batch.prompts.rounds, clicks, full=True, gate_absent=gate_absent
            )
            return _compute_loss(self.criterion, rounds, truth, batch)

        return _sum_losses(model, batch, compute)


class PromptEvaluationStep:
    """
    Loss of a batch with labels, over rounds of clicks at the centre of the largest error, and the predictions.

    Args:
        criterion (`Callable`): As in [`PromptTrainingStep`].
        clicks (`int`): Number of rounds, at least 1.
        collect (`Callable`): Receives the [`ObjectPrediction`] of each object in turn.
    """

    def __init__(self, criterion: Criterion, clicks: int, collect: Callable[[ObjectPrediction], None]):
        self.criterion, self.clicks, self.collect = criterion, clicks, collect

    def __call__(self, model: "Sam2ForPromptSegmentation", batch: PromptBatch) -> LossOutput:
        """
        Compute the loss and the predictions.

        Args:
            model (`Sam2ForPromptSegmentation`): Model to evaluate.
            batch (`PromptBatch`): Batch with labels, and optionally box prompts.

        Returns:
            `LossOutput`: Loss and its parts.

        Raises:
            `ValueError`: If the batch has no labels.
            `NonFiniteOutputError`: If a prediction contains NaN or infinity.
        """

        def compute(chunk: list[int], *maps: torch.Tensor) -> Loss:
            _, truth = _select_truth(batch, chunk)
            clicks = build_center_clicks(truth)
            rounds = run_rounds(model, maps, batch.prompts, chunk, self.clicks, clicks, full=True)
            box_round = None if batch.box_prompts is None else run_rounds(model, maps, batch.box_prompts, chunk)[0]
            predict_objects(chunk, rounds, self.collect, box_round)
            return _compute_loss(self.criterion, rounds, truth, batch)

        return _sum_losses(model, batch, compute)


class PromptPredictionStep:
    """
    Predictions of the first round of all objects of a batch. Labels are ignored.

    Args:
        collect (`Callable`): Receives the [`ObjectPrediction`] of each object in turn.
    """

    def __init__(self, collect: Callable[[ObjectPrediction], None]):
        self.collect = collect

    def __call__(self, model: "Sam2ForPromptSegmentation", batch: PromptBatch) -> LossOutput:
        """
        Compute the predictions.

        Args:
            model (`Sam2ForPromptSegmentation`): Model.
            batch (`PromptBatch`): Batch.

        Returns:
            `LossOutput`: Output without a loss.

        Raises:
            `NonFiniteOutputError`: If a prediction contains NaN or infinity.
        """
        maps = model.encode(batch)
        for chunk in batch.prompts.chunks(model.objects_per_chunk):
            predict_objects(chunk, run_rounds(model, maps, batch.prompts, chunk), self.collect)
        return LossOutput()


def _select_truth(batch: PromptBatch, chunk: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices `(n,)` and the masks `(n, R, R)` of the objects of a chunk, on the masks' device."""
    masks = batch.require_masks()
    index = torch.tensor(chunk, device=masks.device)
    return index, masks[index]


def _compute_loss(criterion: Criterion, rounds: list[Round], truth: torch.Tensor, batch: PromptBatch) -> Loss:
    outputs = [RoundOutputs(cast(torch.Tensor, step.full), step.ious, step.object_logits) for step in rounds]
    with full_precision(truth):
        return criterion(outputs, truth, batch.num_objects)


def _sum_losses(model: "Sam2ForPromptSegmentation", batch: PromptBatch, compute: Callable) -> LossOutput:
    """Sum `compute(chunk, *maps)` over the chunks of a batch."""
    batch.require_masks()
    maps, chunks = model.encode(batch), batch.prompts.chunks(model.objects_per_chunk)
    in_chunks = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(model.cached_from)]
    loss, parts = sum_over_blocks(compute, chunks, maps, in_chunks)
    return LossOutput(loss=loss, parts=sum_parts(parts))
