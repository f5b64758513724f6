"""
Assignment of queries to targets.

All layers and pairs share one cost tensor and one transfer to the host.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from ..ops.boxes import paired_box_overlap
from ..ops.indices import to_index
from ..options.loss import MatchingCosts, OneToManyScores
from .structures import ConceptOutputs, PairTargets, QueryOutputs


CACHED_COSTS = 2**15  # Costs of queries that a CPU computes at a time.


@dataclass
class Matches:
    """
    Matched (layer, pair, query, target) quadruples, sorted in this order.

    Attributes:
        layer (`torch.Tensor` of shape `(num_matches,)`): Decoder layer, int64.
        pair (`torch.Tensor` of shape `(num_matches,)`): Pair index, int64.
        query (`torch.Tensor` of shape `(num_matches,)`): Query index, int64.
        target (`torch.Tensor` of shape `(num_matches,)`): Index into the packed targets, int64.
        last (`torch.Tensor` of shape `(num_matches,)`): Bool; true for the match with the largest target index of each
            query. The official code overwrites a query's soft target with each match, and the last one remains.
        layers (`np.ndarray`): `layer` on the host.
        pairs (`np.ndarray`): `pair` on the host.
        targets (`np.ndarray`): `target` on the host.
    """

    layer: torch.Tensor
    pair: torch.Tensor
    query: torch.Tensor
    target: torch.Tensor
    last: torch.Tensor
    layers: np.ndarray
    pairs: np.ndarray
    targets: np.ndarray

    @classmethod
    def from_host(cls, quadruples: np.ndarray, device: torch.device) -> "Matches":
        """Build matches from a `(num_matches, 4)` int64 array of `(layer, pair, query, target)` in any order."""
        quadruples = quadruples[np.lexsort(quadruples.T[::-1])]
        last = np.ones(len(quadruples), dtype=bool)
        last[:-1] = (quadruples[:-1, :3] != quadruples[1:, :3]).any(axis=1)
        columns = torch.from_numpy(np.column_stack([quadruples, last]).T.copy())
        layer, pair, query, target, last_column = columns.to(device, non_blocking=True)
        layers, pairs, targets = quadruples[:, [0, 1, 3]].T
        return cls(layer, pair, query, target, last_column.bool(), layers, pairs, targets)

    def join(self, other: "Matches", num_layers: int) -> "Matches":
        """Return these matches and those of a second set of queries, whose layers follow the first `num_layers`."""
        return Matches(
            layer=torch.cat([self.layer, other.layer + num_layers]),
            pair=torch.cat([self.pair, other.pair]),
            query=torch.cat([self.query, other.query]),
            target=torch.cat([self.target, other.target]),
            last=torch.cat([self.last, other.last]),
            layers=np.concatenate([self.layers, other.layers + num_layers]),
            pairs=np.concatenate([self.pairs, other.pairs]),
            targets=np.concatenate([self.targets, other.targets]),
        )


@dataclass
class HungarianMatcher(MatchingCosts):
    """
    Hungarian matcher: the assignment with the lowest total cost; see [`MatchingCosts`] for the weights.

        cost = 5·|b_q − b_t|₁ − 2·GIoU(b_q, b_t) + 2·[ 0.75·p²·log(1 − p) − 0.25·(1 − p)²·log p ]

    Attributes:
        alpha (`float`): Focal weight of a present class, default 0.25.
        gamma (`float`): Focal exponent, default 2.

    Source:
        `BinaryHungarianMatcherV2` with `focal=True` of `sam3/train/matcher.py`; Carion et al. 2020.
    """

    alpha: float = 0.25
    gamma: float = 2.0

    def cost(self, logits: torch.Tensor, boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """
        Compute the cost of each query for its target.

        Args:
            logits (`torch.Tensor` of shape `(…, num_targets, num_queries)`): Logits of all queries of each target's
                pair.
            boxes (`torch.Tensor` of shape `(…, num_targets, num_queries, 4)`): Normalised `(cx, cy, w, h)`.
            targets (`torch.Tensor` of shape `(num_targets, 4)`): Boxes in the same format.

        Returns:
            `torch.Tensor` of shape `(…, num_targets, num_queries)`: Costs.
        """
        targets = targets[:, None]
        distance = sum((b - t).abs() for b, t in zip(boxes.unbind(-1), targets.unbind(-1)))
        _, giou = paired_box_overlap(boxes, targets)
        p = logits.sigmoid()
        present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)  # log p, log(1 − p)
        focal = (1 - self.alpha) * p**self.gamma * absent - self.alpha * (1 - p) ** self.gamma * present
        return self.cost_box * distance - self.cost_giou * giou + self.cost_class * focal


class OneToManyMatcher(OneToManyScores):
    """
    One-to-many matcher: up to `topk` queries for each target; see [`OneToManyScores`] for the numbers.

        S = alpha·p + (1 − alpha)·IoU;   match  iff  S > quantile_q(S, 1 − topk / num_queries)  and  S > threshold

    with the linearly interpolated quantile. A query may be matched to several targets, as in the official code.

    Source:
        `BinaryOneToManyMatcher` of `sam3/train/matcher.py`.
    """

    def match(self, logits: torch.Tensor, boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return bool matches of shape `(num_targets, num_queries)`; arguments as in [`HungarianMatcher.cost`]."""
        iou, _ = paired_box_overlap(boxes, targets[:, None])
        score = self.alpha * logits.sigmoid() + (1 - self.alpha) * iou
        num_queries = score.shape[-1]
        level = torch.quantile(score, max(1 - self.topk / num_queries, 0.0), dim=-1, keepdim=True)
        return (score > level) & (score > self.threshold)


def start_matching(
    outputs: ConceptOutputs, targets: PairTargets, hungarian: HungarianMatcher, one_to_many: OneToManyMatcher
) -> Callable[[], tuple[Matches, Matches | None]]:
    """
    Start to match every decoder layer of every pair, for both sets of queries.

    The costs are computed on the device, and their copy to the host is started. Kernels that are launched before the
    matches are requested run while the host waits for the copy and solves the assignment.

    One-to-one queries and the one-to-many queries of all layers but the last use the Hungarian matcher, the
    one-to-many queries of the last layer the one-to-many matcher (`use_o2m_matcher_on_o2m_aux: false`, the official
    setting).

    Args:
        outputs (`ConceptOutputs`): Predictions for P pairs.
        targets (`PairTargets`): Targets of the same P pairs.
        hungarian (`HungarianMatcher`): Matcher of one-to-one queries and auxiliary layers.
        one_to_many (`OneToManyMatcher`): Matcher of the last layer's one-to-many queries.

    Returns:
        `Callable`: Function without arguments that waits for the costs. It returns the matches of the one-to-one and
        of the one-to-many queries (`None` without them), and raises a `ValueError` with the name of the pair if a cost
        is not finite.
    """
    device = targets.boxes.device
    pair_of_target = targets.pair_of_target()
    num_layers = len(outputs.one_to_one.logits)
    many = outputs.one_to_many
    if not pair_of_target:
        empty = np.zeros((0, 4), dtype=np.int64)
        no_matches = Matches.from_host(empty, device), None if many is None else Matches.from_host(empty, device)
        return lambda: no_matches

    sets = [outputs.one_to_one] if many is None else [outputs.one_to_one, many]
    read_cost = _start_copy(
        _compute_costs(sets, targets.boxes, to_index(pair_of_target, device), hungarian, one_to_many)
    )

    def finish() -> tuple[Matches, Matches | None]:
        cost = read_cost()  # the only synchronisation
        _check_finite(cost, targets, pair_of_target)
        one_to_one_matches = _assign(cost[:num_layers], targets.counts)
        if many is None:
            return Matches.from_host(one_to_one_matches, device), None
        aux = _assign(cost[num_layers:-1], targets.counts)
        target, query = np.nonzero(cost[-1])
        layer = np.full_like(target, num_layers - 1)
        final = np.column_stack([layer, np.asarray(pair_of_target)[target], query, target])
        return Matches.from_host(one_to_one_matches, device), Matches.from_host(np.concatenate([aux, final]), device)

    return finish


@torch.no_grad()
def _compute_costs(
    sets: list[QueryOutputs],
    boxes: torch.Tensor,
    pair: torch.Tensor,
    hungarian: HungarianMatcher,
    one_to_many: OneToManyMatcher,
) -> torch.Tensor:
    """
    Compute the costs of all layers of the sets of queries `(num_layers, num_targets, num_queries)`.

    The last layer of a second set contains the one-to-many matches instead, as 0 and 1.
    """
    logits, planes = _gather_for_targets(sets, pair)
    with_many = len(sets) > 1
    if with_many:
        chosen = one_to_many.match(logits[-1], planes[:, -1].movedim(0, -1), boxes)
        logits, planes = logits[:-1], planes[:, :-1]
    layers = len(logits)
    if boxes.device.type == "cpu":  # intermediate results of a few layers stay in the cache of a core
        layers = max(CACHED_COSTS // logits[0].numel(), 1)
    parts = zip(logits.split(layers), planes.split(layers, dim=1), strict=True)
    cost = torch.cat([hungarian.cost(part, part_boxes.movedim(0, -1), boxes) for part, part_boxes in parts])
    return torch.cat([cost, chosen[None].to(cost.dtype)]) if with_many else cost


def _gather_for_targets(sets: list[QueryOutputs], pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Gather logits and boxes of all queries of each target's pair, the layers of the sets of queries one after another.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Logits `(num_layers, num_targets, num_queries)`; boxes with one contiguous
        plane per coordinate, `(4, num_layers, num_targets, num_queries)`.
    """
    # Concatenated first, because there are fewer pairs than targets.
    logits, boxes = (torch.cat([getattr(queries, name).float() for queries in sets]) for name in ("logits", "boxes"))
    planes = boxes.movedim(-1, 0)  # (4, layers, num_pairs, num_queries)
    return logits.index_select(1, pair), planes.index_select(2, pair)


def _start_copy(tensor: torch.Tensor) -> Callable[[], np.ndarray]:
    """Start to copy a tensor to the host; return a function that waits for this copy, not for later kernels."""
    if tensor.device.type != "cuda":
        return lambda: tensor.cpu().numpy()
    host = tensor.to("cpu", non_blocking=True)  # to pinned memory
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> np.ndarray:
        copied.synchronize()
        return host.numpy()

    return wait


def _assign(cost: np.ndarray, counts: list[int]) -> np.ndarray:
    """Solve each layer of each pair; return `(num_matches, 4)` rows of (layer, pair, query, target)."""
    targets, queries, sizes, start = [], [], [], 0
    for count in counts:
        for layer in cost[:, start : start + count] if count else ():
            target, query = linear_sum_assignment(layer)
            targets.append(target + start)
            queries.append(query)
            sizes.append(len(query))
        start += count
    if not targets:
        return np.zeros((0, 4), dtype=np.int64)
    present = np.flatnonzero(counts)
    layers = np.tile(np.arange(len(cost)), len(present))
    pairs = np.repeat(present, len(cost))
    columns = np.repeat(layers, sizes), np.repeat(pairs, sizes), np.concatenate(queries), np.concatenate(targets)
    return np.column_stack(columns)


def _check_finite(cost: np.ndarray, targets: PairTargets, pair_of_target: list[int]):
    bad = ~np.isfinite(cost).all(axis=(0, 2))
    if bad.any():
        pair = pair_of_target[int(np.flatnonzero(bad)[0])]
        name = targets.names[pair] if targets.names else f"pair {pair}"
        raise ValueError(
            f"The matching cost of {name} is not finite because the model's logits or boxes are NaN or infinite. "
            "Lower `learning_rate` or `lr_scale`, set `max_grad_norm: 0.1`, and check the log for a loss spike before "
            "this step."
        )
