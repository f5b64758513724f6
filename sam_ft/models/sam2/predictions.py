"""Predictions of SAM 2's rounds."""

from collections.abc import Callable

import torch

from ..finite import NonFiniteOutputError
from ..outputs import ObjectPrediction
from .rounds import Round


@torch.no_grad()
def predict_objects(
    chunk: list[int],
    rounds: list[Round],
    collect: Callable[[ObjectPrediction], None],
    box_round: Round | None = None,
) -> None:
    """
    Pass the predictions of a chunk of objects to `collect`.

    Args:
        chunk (`list[int]`): Indices of the objects in the batch.
        rounds (`list[Round]`): Rounds of these objects.
        collect (`Callable`): Receives the [`ObjectPrediction`] of each object in turn.
        box_round (`Round`, *optional*): Round of the same objects with box prompts.

    Raises:
        `NonFiniteOutputError`: If a prediction contains NaN or infinity.
    """
    masks = torch.stack([step.select_best(step.low) for step in rounds], 1)
    ious = torch.stack([step.select_best(step.ious) for step in rounds], 1)
    last = rounds[-1]
    tensors = {"candidates": rounds[0].low, "masks": masks, "ious": ious}
    if box_round is not None:
        tensors |= {"box_mask": box_round.low, "box_iou": box_round.ious}
    finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in tensors.values()]).tolist()
    for name, flags in zip(tensors, finite, strict=True):
        if not all(flags):
            raise NonFiniteOutputError(name, chunk[flags.index(False)])
    for row, index in enumerate(chunk):
        prediction = ObjectPrediction(
            index, masks[row], ious[row], rounds[0].low[row], last.points[row], last.labels[row]
        )
        if box_round is not None:
            prediction.box_mask = box_round.select_best(box_round.low)[row]
            prediction.box_iou = box_round.select_best(box_round.ious)[row]
        collect(prediction)
