"""Rounds of prompts of SAM 2: the first prompt, then one corrective click a round."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...losses.functional import resize_logits
from ...losses.sam2 import suppress_absent
from ...ops.clicks import center_click, uniform_clicks
from ...ops.prompts import ObjectPrompts


if TYPE_CHECKING:
    from .model import Sam2ForPromptSegmentation

# (round, masks (N, H, W)) -> (points (N, 2), labels (N,))
NextClicks = Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Round:
    """
    Prompts and outputs of N objects in one round, with M mask candidates each.

    Attributes:
        low (`torch.Tensor` of shape `(N, M, h, w)`): Mask logits at the decoder's resolution.
        best (`torch.Tensor` of shape `(N,)`): Candidate of the highest predicted IoU, the mask prompt of the next
            round.
        ious (`torch.Tensor` of shape `(N, M)`): Predicted IoUs.
        object_logits (`torch.Tensor` of shape `(N,)`): Logits of the objects' presence.
        points (`torch.Tensor` of shape `(N, k, 2)`): `(x, y)` in px of the canvas.
        labels (`torch.Tensor` of shape `(N, k)`): Labels of `points`; see [`ObjectPrompts`].
        full (`torch.Tensor` of shape `(N, M, H, W)`, *optional*): Mask logits at the input resolution.
    """

    low: torch.Tensor
    best: torch.Tensor
    ious: torch.Tensor
    object_logits: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    full: torch.Tensor | None = None

    def select_best(self, values: torch.Tensor) -> torch.Tensor:
        """Select from values `(N, M, …)` the best candidate of each object."""
        return values[torch.arange(len(values), device=values.device), self.best]


def run_rounds(
    model: "Sam2ForPromptSegmentation",
    maps: tuple[torch.Tensor, ...],
    prompts: ObjectPrompts,
    chunk: list[int],
    num_rounds: int = 1,
    next_clicks: NextClicks | None = None,
    *,
    full: bool = False,
    gate_absent: bool = False,
) -> list[Round]:
    """
    Run the rounds of a chunk of objects with the same kind of prompts.

    The prompts of a round are all clicks up to it and the best mask of the previous round, neither detached nor
    clamped.

    Args:
        model (`Sam2ForPromptSegmentation`): Model.
        maps (`tuple[torch.Tensor, ...]`): Maps of [`Sam2ForPromptSegmentation.encode`].
        prompts (`ObjectPrompts`): Prompts of the first round.
        chunk (`list[int]`): Indices of the objects.
        num_rounds (`int`): Number of rounds, default 1.
        next_clicks (`Callable`, *optional*): Computes the clicks of the rounds after the first, which need `full`.
        full (`bool`): Resize all logits to the input resolution, default false.
        gate_absent (`bool`): Suppress the masks of objects predicted as absent, see [`suppress_absent`]; default
            false.

    Source:
        Official `training/model/sam2.py`, `_iter_correct_pt_sampling`.
    """
    images, points, labels, masks = prompts.of(chunk)
    object_maps = [level[images] for level in maps]
    dense = None if masks is None else model.convert_masks(masks)
    rounds: list[Round] = []
    for step in range(num_rounds):
        if step:
            with torch.no_grad():
                best = rounds[-1].select_best(rounds[-1].full) > 0
                new_points, new_labels = next_clicks(step, best)
            points = torch.cat([points, new_points[:, None].to(points.dtype)], dim=1)
            labels = torch.cat([labels, new_labels[:, None].to(labels.dtype)], dim=1)
            dense = rounds[-1].select_best(rounds[-1].low)[:, None]
        rounds.append(model.decode(object_maps, points, labels, dense))
        if gate_absent:
            rounds[-1].low = suppress_absent(rounds[-1].low, rounds[-1].object_logits)
        if full:
            low, side = rounds[-1].low, model.prompt_encoder.input_image_size
            rounds[-1].full = resize_logits(low.flatten(0, 1), side, side).unflatten(0, low.shape[:2])
    return rounds


def build_random_clicks(truth: torch.Tensor, prompts: ObjectPrompts, index: torch.Tensor) -> NextClicks:
    """
    Build the click function of training: uniform over the error region, or with `click_from_truth` over the object.

    Args:
        truth (`torch.Tensor` of shape `(N, H, W)`, bool): Masks of the objects.
        prompts (`ObjectPrompts`): Prompts of all objects, with the draws of their clicks.
        index (`torch.Tensor` of shape `(N,)`): Indices of the objects in `prompts`.
    """
    draws, from_truth = prompts.click_draws[index], prompts.click_from_truth[index]
    return lambda step, masks: uniform_clicks(truth, masks, draws[:, step - 1], from_truth[:, step - 1])


def build_center_clicks(truth: torch.Tensor) -> NextClicks:
    """
    Build the click function of evaluation: at the centre of the largest error, computed on the host.

    Args:
        truth (`torch.Tensor` of shape `(N, H, W)`, bool): Masks of the objects.
    """
    targets = truth.cpu().numpy()

    def clicks(_step: int, masks: torch.Tensor):
        points_and_labels = [center_click(*pair) for pair in zip(targets, masks.cpu().numpy(), strict=True)]
        return tuple(torch.tensor(part, device=truth.device) for part in zip(*points_and_labels, strict=True))

    return clicks
