"""
Steps of SAM 3 on a batch: training, evaluation and prediction.

A step is a callable `step(model, batch)` that [`Sam3ForConceptSegmentation.forward`] runs. It holds what a run adds
to the model: criterion, teacher, selection and receiver of predictions. Because it runs inside `forward`, it works
with every wrapper of the model: DistributedDataParallel, FSDP, autocast.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from ...losses.distillation import distillation_loss
from ...losses.sam3 import Sam3Criterion
from ...losses.structures import ConceptOutputs, Normalizers, PairTargets
from ...ops.blocks import sum_over_blocks, sum_parts
from ...options.evaluation import DetectionLimits
from ..contexts import full_precision
from ..outputs import LossOutput, PairPrediction
from .batch import ConceptBatch
from .features import EncodedBatch
from .predictions import build_criterion_inputs, predict_distillation_outputs, predict_pairs
from .teacher import Teacher


if TYPE_CHECKING:
    from .model import Sam3ForConceptSegmentation

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]
Criterion = Callable[[ConceptOutputs, PairTargets, Normalizers], Loss]
# Loss of the pairs of a chunk, and the chunk.
LossBlock = tuple[Callable[[EncodedBatch, list[int]], Loss], list[int]]

# Parameters outside these prefixes are applied to a chunk of pairs, not once a batch.
ENCODER_PREFIXES = ("vision_encoder.", "text_encoder.", "text_projection.", "concepts.")


class ConceptTrainingStep:
    """
    Loss of a batch with labels, and of its distillation pairs.

    Pairs are decoded in chunks of `model.pairs_per_chunk`. The backward pass of a chunk runs right after its forward
    pass, see [`sum_over_blocks`], so that memory is independent of the number of pairs.

    Args:
        criterion (`Callable`, *optional*): `criterion(outputs, targets, normalizers) -> (loss, parts)`; see
            [`Sam3Criterion`], the default.
        teacher (`Teacher`, *optional*): Frozen model that predicts the targets of distillation pairs.
    """

    def __init__(self, criterion: Criterion | None = None, teacher: Teacher | None = None):
        self.criterion, self.teacher = criterion or Sam3Criterion(), teacher

    def __call__(self, model: "Sam3ForConceptSegmentation", batch: ConceptBatch) -> LossOutput:
        """
        Compute the loss.

        Args:
            model (`Sam3ForConceptSegmentation`): Model to train.
            batch (`ConceptBatch`): Batch with labels.

        Returns:
            `LossOutput`: Loss with gradient, and its parts.

        Raises:
            `ValueError`: If the batch has no labels or needs a teacher, or the matching cost is not finite; names
                example and phrase.
        """
        blocks = _supervised_blocks(model, batch, self.criterion)
        pairs = batch.distillation_pairs
        if pairs is not None and self.teacher is None:
            raise ValueError(
                f"`distill_image` has {len(pairs.image)} distillation pairs, but the step has no teacher. Pass "
                "`step=ConceptTrainingStep(criterion, teacher)`, or leave out `distill_image`"
            )
        encoded = model.encode(batch)
        if pairs is not None:
            features = self.teacher.encode(batch, encoded.text.device)
            compute = partial(_compute_distillation_loss, model, batch, self.teacher, features)
            blocks += [(compute, chunk) for chunk in pairs.chunks(model.pairs_per_chunk, present=None)]
        return _sum_losses(model, encoded, blocks)


class ConceptEvaluationStep:
    """
    Loss of a batch with labels, and the predictions of its pairs. Distillation pairs are ignored.

    Args:
        criterion (`Callable`): As in [`ConceptTrainingStep`].
        limits (`DetectionLimits`): Selection of queries.
        collect (`Callable`): Receives the [`PairPrediction`] of each pair in turn.
    """

    def __init__(self, criterion: Criterion, limits: DetectionLimits, collect: Callable[[PairPrediction], None]):
        self.criterion, self.limits, self.collect = criterion, limits, collect

    def __call__(self, model: "Sam3ForConceptSegmentation", batch: ConceptBatch) -> LossOutput:
        """
        Compute the loss and the predictions.

        Args:
            model (`Sam3ForConceptSegmentation`): Model to evaluate.
            batch (`ConceptBatch`): Batch with labels.

        Returns:
            `LossOutput`: Loss and its parts.

        Raises:
            `ValueError`: As in [`ConceptTrainingStep`].
            `NonFiniteOutputError`: If a prediction contains NaN or infinity.
        """
        predict = partial(predict_pairs, model, limits=self.limits, collect=self.collect)
        blocks = _supervised_blocks(model, batch, self.criterion, predict)
        return _sum_losses(model, model.encode(batch), blocks)


class ConceptPredictionStep:
    """
    Predictions of the pairs of a batch. Labels and distillation pairs are ignored.

    Args:
        limits (`DetectionLimits`): Selection of queries.
        collect (`Callable`): Receives the [`PairPrediction`] of each pair in turn.
    """

    def __init__(self, limits: DetectionLimits, collect: Callable[[PairPrediction], None]):
        self.limits, self.collect = limits, collect

    def __call__(self, model: "Sam3ForConceptSegmentation", batch: ConceptBatch) -> LossOutput:
        """
        Compute the predictions.

        Args:
            model (`Sam3ForConceptSegmentation`): Model.
            batch (`ConceptBatch`): Batch.

        Returns:
            `LossOutput`: Output without a loss.

        Raises:
            `NonFiniteOutputError`: If a prediction contains NaN or infinity.
        """
        encoded = model.encode(batch)
        for chunk in batch.pairs.chunks(model.pairs_per_chunk, present=None):
            decoded = model.decode(encoded, batch.pairs, chunk, with_one_to_many=False)
            predict_pairs(model, decoded, chunk, self.limits, self.collect)
        return LossOutput()


def _supervised_blocks(
    model: "Sam3ForConceptSegmentation", batch: ConceptBatch, criterion: Criterion, predict: Callable | None = None
) -> list[LossBlock]:
    """Divide the labelled pairs into blocks; `predict(decoded, chunk, pixels=pixels)` is called in each of them."""
    if batch.labels is None:
        raise ValueError(
            "`labels` is missing, so there is no loss. Pass the labels, or "
            "`step=ConceptPredictionStep(limits, collect)`"
        )
    compute = partial(_compute_supervised_loss, model, batch, criterion, predict)
    return [(compute, chunk) for chunk in batch.pairs.chunks(model.pairs_per_chunk, batch.labels.list_present())]


def _compute_supervised_loss(
    model: "Sam3ForConceptSegmentation",
    batch: ConceptBatch,
    criterion: Criterion,
    predict: Callable | None,
    encoded: EncodedBatch,
    chunk: list[int],
) -> Loss:
    """Compute the loss of a chunk of labelled pairs."""
    decoded = model.decode(encoded, batch.pairs, chunk, with_one_to_many=True)
    targets = batch.labels.build_targets(chunk, model.with_masks)
    masks = model.with_masks and targets.masks is not None and sum(targets.counts) > 0
    pixels = model.embed_pixels(decoded) if masks else None
    if predict is not None:
        predict(decoded, chunk, pixels=pixels)
    outputs = build_criterion_inputs(model, decoded, pixels)
    with full_precision(encoded.text):
        return criterion(outputs, targets, batch.normalizers)


def _compute_distillation_loss(
    model: "Sam3ForConceptSegmentation",
    batch: ConceptBatch,
    teacher: Teacher,
    teacher_features: EncodedBatch,
    encoded: EncodedBatch,
    chunk: list[int],
) -> Loss:
    """Compute the loss of a chunk of distillation pairs; `encoded` are the student's features."""
    targets = teacher.predict(teacher_features, batch.distillation_pairs, chunk)
    decoded = model.decode(encoded, batch.distillation_pairs, chunk, with_one_to_many=False)
    predictions = predict_distillation_outputs(model, decoded, targets.rows)
    with full_precision(encoded.text):
        loss = teacher.weight * distillation_loss(predictions, targets) / batch.normalizers.distillation_pairs
    return loss, {"loss_distill": loss.detach()}


def _sum_losses(model: "Sam3ForConceptSegmentation", encoded: EncodedBatch, blocks: list[LossBlock]) -> LossOutput:
    """Sum the losses of all blocks."""

    def block_loss(block: LossBlock, *tensors: torch.Tensor) -> Loss:
        (compute, chunk), (*pyramid, text) = block, tensors
        return compute(EncodedBatch(tuple(pyramid), text, encoded.text_mask), chunk)

    in_chunks = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(ENCODER_PREFIXES)]
    loss, parts = sum_over_blocks(block_loss, blocks, (*encoded.pyramid, encoded.text), in_chunks)
    return LossOutput(loss=loss, parts=sum_parts(parts))
