"""
Steps of SAM 3 on a batch: training, evaluation and prediction.

A step is a callable `step(model, batch)` that [`Sam3ForConceptSegmentation.forward`] runs. It holds what a run adds
to the model: criterion, teacher, selection and receiver of predictions. Because it runs inside `forward`, it works
with every wrapper of the model: DistributedDataParallel, FSDP, autocast.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from .features import EncodedPairs
from .predictions import add_masks, build_criterion_inputs, predict_distillation_outputs, predict_pairs
from .teacher import Teacher


if TYPE_CHECKING:
    from .model import Sam3ForConceptSegmentation

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]
Criterion = Callable[[ConceptOutputs, PairTargets, Normalizers], Loss]
# Parameters outside these prefixes are applied to a chunk of pairs, not once a batch.
ENCODER_PREFIXES = ("vision_encoder.", "text_encoder.", "text_projection.", "concepts.", "geometry_encoder.")


@dataclass
class PairLosses:
    """
    Losses of pairs, chunk by chunk.

    Attributes:
        pairs (`EncodedPairs`): Features of all pairs.
        chunks (`list[list[int]]`): Indices of the pairs of each chunk.
        compute (`Callable`): `compute(pairs, chunk)` returns the loss of a chunk and its parts.
    """

    pairs: EncodedPairs
    chunks: list[list[int]]
    compute: Callable[[EncodedPairs, list[int]], Loss]


class ConceptTrainingStep:
    """
    Loss of a batch with labels, and of its distillation pairs.

    Pairs are decoded in chunks of `model.pairs_per_chunk`. The backward pass of a chunk runs right after its forward
    pass, see [`sum_over_blocks`], so that memory is independent of the number of pairs.

    The host waits for the device once a chunk with instances, for the matching costs. One wait a batch would need the
    outputs of all chunks before the first loss: either their activations, whose memory grows with the pairs, or a
    second forward pass. The chunks start with the present pairs, so that `pairs_per_chunk` of at least their number
    gives one wait a batch. Each wait is for the costs alone: the mask head's kernels are launched before it.

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
        chunks = _labelled_chunks(model, batch)
        pairs = batch.distillation_pairs
        if pairs is not None and self.teacher is None:
            raise ValueError(
                f"`distill_image` has {len(pairs.image)} distillation pairs, but the step has no teacher. Pass "
                "`step=ConceptTrainingStep(criterion, teacher)`, or leave out `distill_image`"
            )
        encoded = model.encode(batch)
        compute = partial(_compute_supervised_loss, model, batch, self.criterion, None)
        losses = [PairLosses(model.encode_pairs(encoded, batch.pairs), chunks, compute)]
        if pairs is not None and self.teacher is not None:
            features = self.teacher.encode(batch, encoded.text.device)
            compute = partial(_compute_distillation_loss, model, batch, self.teacher, features)
            chunks = list(pairs.chunks(model.pairs_per_chunk, present=None))
            losses.append(PairLosses(model.encode_pairs(encoded, pairs), chunks, compute))
        return _sum_losses(model, losses)


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
        chunks = _labelled_chunks(model, batch)
        predict = partial(predict_pairs, model, limits=self.limits, collect=self.collect)
        compute = partial(_compute_supervised_loss, model, batch, self.criterion, predict)
        encoded = model.encode_pairs(model.encode(batch), batch.pairs)
        return _sum_losses(model, [PairLosses(encoded, chunks, compute)])


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
        encoded = model.encode_pairs(model.encode(batch), batch.pairs)
        for chunk in batch.pairs.chunks(model.pairs_per_chunk, present=None):
            decoded = model.decode(encoded, chunk, with_one_to_many=False)
            predict_pairs(model, decoded, chunk, self.limits, self.collect)
        return LossOutput()


def _labelled_chunks(model: "Sam3ForConceptSegmentation", batch: ConceptBatch) -> list[list[int]]:
    """Divide the labelled pairs into chunks."""
    labels, _ = batch.require_labels()
    return list(batch.pairs.chunks(model.pairs_per_chunk, labels.list_present()))


def _compute_supervised_loss(
    model: "Sam3ForConceptSegmentation",
    batch: ConceptBatch,
    criterion: Criterion,
    predict: Callable | None,
    encoded: EncodedPairs,
    chunk: list[int],
) -> Loss:
    """Compute the loss of a chunk of labelled pairs; `predict(decoded, chunk, pixels=pixels)` is called before it."""
    decoded = model.decode(encoded, chunk, with_one_to_many=True)
    labels, normalizers = batch.require_labels()
    targets = labels.build_targets(chunk, model.with_masks)
    present = sum(count > 0 for count in targets.counts)  # they are the first of the chunk
    outputs = build_criterion_inputs(model, decoded)
    if isinstance(criterion, Sam3Criterion):
        with full_precision(encoded.prompt):
            outputs.matching = criterion.start_matching(outputs, targets)
    pixels = None
    if model.with_masks and targets.masks is not None and present > 0:
        pixels = model.embed_pixels(decoded, present if predict is None else len(chunk))
        add_masks(model, outputs, decoded, pixels)
    if predict is not None:
        predict(decoded, chunk, pixels=pixels)
    with full_precision(encoded.prompt):
        return criterion(outputs, targets, normalizers)


def _compute_distillation_loss(
    model: "Sam3ForConceptSegmentation",
    batch: ConceptBatch,
    teacher: Teacher,
    teacher_features: EncodedPairs,
    encoded: EncodedPairs,
    chunk: list[int],
) -> Loss:
    """Compute the loss of a chunk of distillation pairs; `encoded` are the student's features."""
    _, normalizers = batch.require_labels()
    targets = teacher.predict(teacher_features, chunk)
    decoded = model.decode(encoded, chunk, with_one_to_many=False)
    predictions = predict_distillation_outputs(model, decoded, targets.rows)
    with full_precision(encoded.prompt):
        loss = teacher.weight * distillation_loss(predictions, targets) / normalizers.distillation_pairs
    return loss, {"loss_distill": loss.detach()}


def _sum_losses(model: "Sam3ForConceptSegmentation", losses: list[PairLosses]) -> LossOutput:
    """Sum the losses of all chunks."""
    pyramid = losses[0].pairs.pyramid

    def block_loss(block: tuple[int, list[int]], *tensors: torch.Tensor) -> Loss:
        index, chunk = block
        pairs = replace(losses[index].pairs, pyramid=tensors[: len(pyramid)], prompt=tensors[len(pyramid) + index])
        return losses[index].compute(pairs, chunk)

    blocks = [(index, chunk) for index, loss in enumerate(losses) for chunk in loss.chunks]
    in_chunks = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(ENCODER_PREFIXES)]
    prompts = [loss.pairs.prompt for loss in losses]
    loss, parts = sum_over_blocks(block_loss, blocks, (*pyramid, *prompts), in_chunks)
    return LossOutput(loss=loss, parts=sum_parts(parts))
