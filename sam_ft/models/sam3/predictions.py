"""Predictions of SAM 3's queries: inputs of the criterion, detections, and predictions for self-distillation."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ...losses.distillation import DistillationOutputs, select_distilled_queries
from ...losses.structures import ConceptOutputs, FactoredMasks, QueryOutputs
from ...options.evaluation import DetectionLimits
from ..finite import check_output
from ..outputs import PairPrediction, select_queries
from .detr import boxes_to_xyxy
from .features import DecodedPairs


if TYPE_CHECKING:
    from .model import Sam3ForConceptSegmentation


def build_criterion_inputs(model: "Sam3ForConceptSegmentation", decoded: DecodedPairs) -> ConceptOutputs:
    """
    Build the criterion's inputs without masks, see [`add_masks`].

    Args:
        model (`Sam3ForConceptSegmentation`): Model that decoded the pairs.
        decoded (`DecodedPairs`): Pairs, decoded with one-to-many queries.

    Returns:
        `ConceptOutputs`: Predictions of all decoder layers.
    """
    num_queries = model.detr_decoder.config.num_queries
    one_to_one, one_to_many = (
        QueryOutputs(decoded.logits[:, :, part], decoded.decoder.boxes[:, :, part])
        for part in (slice(0, num_queries), slice(num_queries, None))
    )
    return ConceptOutputs(one_to_one, one_to_many, decoded.decoder.presence_logits)


def add_masks(
    model: "Sam3ForConceptSegmentation", outputs: ConceptOutputs, decoded: DecodedPairs, pixels: torch.Tensor
) -> None:
    """
    Add masks to the criterion's inputs; they stay factored until the criterion selects queries.

    Args:
        model (`Sam3ForConceptSegmentation`): Model that decoded the pairs.
        outputs (`ConceptOutputs`): Result of [`build_criterion_inputs`].
        decoded (`DecodedPairs`): The same pairs.
        pixels (`torch.Tensor` of shape `(n, C, h, w)`): Pixel embeddings of the first n pairs by
            [`Sam3ForConceptSegmentation.embed_pixels`].
    """
    num_queries = model.detr_decoder.config.num_queries
    embeddings = model.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1, : len(pixels)])
    instances = model.mask_decoder.instance_projection(pixels)
    outputs.one_to_one.masks = FactoredMasks(embeddings[:, :num_queries], instances)
    outputs.one_to_many.masks = FactoredMasks(embeddings[:, num_queries:], instances)
    outputs.semantic_logits = model.mask_decoder.semantic_projection(pixels).squeeze(1)


@torch.no_grad()
def predict_pairs(
    model: "Sam3ForConceptSegmentation",
    decoded: DecodedPairs,
    chunk: list[int],
    limits: DetectionLimits,
    collect: Callable[[PairPrediction], None],
    pixels: torch.Tensor | None = None,
) -> None:
    """
    Pass scores, boxes and masks of the selected queries to `collect`.

    Args:
        model (`Sam3ForConceptSegmentation`): Model that decoded the pairs.
        decoded (`DecodedPairs`): The p pairs of a chunk.
        chunk (`list[int]` of length p): Indices of the pairs in the batch.
        limits (`DetectionLimits`): Selection of queries.
        collect (`Callable`): Receives the [`PairPrediction`] of each pair in turn.
        pixels (`torch.Tensor` of shape `(p, C, h, w)`, *optional*): Pixel embeddings, if they are already computed.

    Raises:
        `NonFiniteOutputError`: If a prediction contains NaN or infinity.
    """
    queries = slice(model.detr_decoder.config.num_queries)
    presence = decoded.decoder.presence_logits[-1].float().sigmoid()  # (p,)
    scores = decoded.logits[-1][:, queries].float().sigmoid() * presence[:, None]
    boxes = boxes_to_xyxy(decoded.decoder.boxes[-1][:, queries])
    values, order, counts = select_queries(presence, scores, boxes, limits, chunk)
    masks = None
    if model.with_masks and any(counts):
        pixels = model.embed_pixels(decoded) if pixels is None else pixels
        masks = model.mask_decoder.instance_projection(pixels)
    for i, (pair, count) in enumerate(zip(chunk, counts)):
        selected = order[i, :count]
        rows = None
        if masks is not None and count:
            embeddings = model.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1, i, selected])
            rows = torch.einsum("qc,chw->qhw", embeddings, masks[i])
            check_output(rows, "masks", pair)
        collect(PairPrediction(pair, presence[i], values[i, :count], boxes[i, selected], rows))


def predict_distillation_outputs(
    model: "Sam3ForConceptSegmentation",
    decoded: DecodedPairs,
    rows: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> DistillationOutputs:
    """
    Predict presence, scores, boxes and masks of a student or a teacher.

    Args:
        model (`Sam3ForConceptSegmentation`): Model that decoded the pairs.
        decoded (`DecodedPairs`): The pairs of a chunk, decoded without one-to-many queries.
        rows (`tuple[torch.Tensor, torch.Tensor]`, *optional*): Pair and query, each `(R,)`, of the predicted masks.
            Default: the confident queries of this model, see [`select_distilled_queries`].

    Returns:
        `DistillationOutputs`: Predictions of the last decoder layer.
    """
    queries = slice(model.detr_decoder.config.num_queries)
    presence, logits = decoded.decoder.presence_logits[-1], decoded.logits[-1][:, queries]
    rows = select_distilled_queries(presence, logits) if rows is None else rows
    masks = None
    if model.with_masks and len(rows[0]):
        pixels = model.mask_decoder.instance_projection(model.embed_pixels(decoded))
        embeddings = model.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1][rows])
        masks = torch.einsum("rc,rchw->rhw", embeddings, pixels[rows[0]])
    return DistillationOutputs(presence, logits, decoded.decoder.boxes[-1][:, queries], rows, masks)
