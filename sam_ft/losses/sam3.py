"""SAM 3's criterion: matched queries, presence, masks and the semantic map."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

import torch
import torch.nn.functional as F

from ..ops.blocks import sum_over_blocks
from ..ops.boxes import box_cxcywh_to_xyxy, boxes_in_region, paired_box_overlap
from ..ops.indices import to_index
from ..options.loss import ConceptLossOptions
from .functional import focal_dice_rows, sample_rows
from .matcher import HungarianMatcher, Matches, OneToManyMatcher, start_matching
from .resized_masks import resized_focal_dice_rows
from .structures import ConceptOutputs, Normalizers, PairTargets, QueryOutputs


@dataclass
class Sam3Criterion(ConceptLossOptions):
    """
    SAM 3's criterion; see [`ConceptLossOptions`] for weights and blocks.

    Attributes:
        hungarian (`HungarianMatcher`): One-to-one matcher.
        one_to_many (`OneToManyMatcher`): One-to-many matcher.
        query_slots (`int`): Minimum number of queries that the class loss is averaged over (`pad_n_queries`), so that
            its relative weight is independent of the number of queries, default 200.

    Source:
        `Boxes`, `IABCEMdetr`, `Masks`, `SemanticSegCriterion` of `sam3/train/loss/loss_fns.py`; `Sam3LossWrapper` of
        `sam3_loss.py`.
    """

    hungarian: HungarianMatcher = field(default_factory=HungarianMatcher)
    one_to_many: OneToManyMatcher = field(default_factory=OneToManyMatcher)
    query_slots: int = 200

    def start_matching(
        self, outputs: ConceptOutputs, targets: PairTargets
    ) -> Callable[[], tuple[Matches, Matches | None]]:
        """Start to assign queries to targets, which needs no masks; see [`start_matching`]."""
        return start_matching(outputs, targets, self.hungarian, self.one_to_many)

    def __call__(
        self, outputs: ConceptOutputs, targets: PairTargets, normalizers: Normalizers
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Compute the loss of a batch of pairs.

        Args:
            outputs (`ConceptOutputs`): Predictions for P pairs.
            targets (`PairTargets`): Targets of the same P pairs.
            normalizers (`Normalizers`): Divisors of the sums; the batch's counts for a single batch.

        Returns:
            `tuple[torch.Tensor, dict[str, torch.Tensor]]`: The weighted loss, a scalar with gradient, and its terms
            without gradient under their official names (`loss_ce`, `loss_bbox`, `loss_giou`, `presence_loss`,
            `loss_mask`, `loss_dice`, `loss_semantic_seg`, `loss_semantic_dice`). Earlier layers have the suffix
            `_aux_0` and so on. One-to-many queries have the suffix `_o2m`; their terms include their weight.
        """
        w = self.weights
        matches, many_matches = (outputs.matching or self.start_matching(outputs, targets))()
        present = _present(targets)
        sets = [("", 1.0, outputs.one_to_one, matches)]
        queries, all_matches = outputs.one_to_one, matches
        if outputs.one_to_many is not None and many_matches is not None:
            sets.append(("_o2m", w.one_to_many, outputs.one_to_many, many_matches))
            # Both sets share each kernel: the layers of the second one follow those of the first one.
            all_matches = matches.join(many_matches, len(queries.logits))
            queries = queries.join(outputs.one_to_many)

        parts: dict[str, torch.Tensor] = {}
        terms = self._query_terms(queries, all_matches, targets, present, normalizers)  # name -> (all layers,)
        weighted = w.classification * terms["loss_ce"] + w.box * terms["loss_bbox"] + w.giou * terms["loss_giou"]
        sizes = [len(queries.logits) for _, _, queries, _ in sets]
        of_set = {name: value.detach().split(sizes) for name, value in terms.items()}
        set_losses = zip(weighted.split(sizes), sets, strict=True)
        loss = reduce(torch.add, (weight * set_loss.sum() for set_loss, (_, weight, *_) in set_losses))
        for i, (suffix, weight, *_) in enumerate(sets):
            _report(parts, {name: weight * values[i] for name, values in of_set.items()}, suffix)

        presence = self._presence_term(outputs.presence_logits.float(), present, targets, normalizers)
        loss = loss + w.presence * presence.sum()
        _report(parts, {"presence_loss": presence}, "")

        if outputs.one_to_one.masks is not None and targets.masks is not None:
            for suffix, weight, queries, set_matches in sets:
                value, (focal, dice) = self._mask_terms(queries, set_matches, targets, weight / normalizers.instances)
                loss = loss + value
                parts |= {f"loss_mask{suffix}": focal, f"loss_dice{suffix}": dice}
        if outputs.semantic_logits is not None and targets.masks is not None:
            value, (focal, dice) = self._semantic_terms(outputs.semantic_logits, targets, normalizers)
            loss = loss + value
            parts |= {"loss_semantic_seg": focal, "loss_semantic_dice": dice}

        if self.scale_by_sqrt_pairs:
            loss = loss * len(targets.counts) ** 0.5
        return loss, parts

    def _query_terms(
        self,
        queries: QueryOutputs,
        matches: Matches,
        targets: PairTargets,
        present: torch.Tensor,
        normalizers: Normalizers,
    ) -> dict[str, torch.Tensor]:
        """Compute class, L1 and GIoU terms of all layers, each of shape `(num_layers,)`."""
        logits, boxes = queries.logits.float(), queries.boxes.float()
        index = matches.layer, matches.pair, matches.query
        matched_boxes, matched_targets = boxes[index], targets.boxes[matches.target]
        iou, giou = paired_box_overlap(matched_boxes, matched_targets)
        distance = (matched_boxes - matched_targets).abs().sum(-1)

        score = logits.sigmoid()
        with torch.no_grad():
            alpha = self.weights.score_alpha
            soft_target = (score[index] ** alpha * iou ** (1 - alpha)).clamp(min=0.01)
            # One value per query makes the accumulation an assignment.
            soft_target = torch.where(matches.last, soft_target, 0.0)
            # (num_layers, num_pairs, num_queries), 0 where a query is unmatched
            target = torch.zeros_like(logits).index_put_(index, soft_target, accumulate=True)
            matched = target > 0
            counted = present[:, None] * (matched | self._supervised_background(boxes, targets))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weight = torch.where(matched, self.weights.positive, score.square())
        per_layer = (cross_entropy * weight * counted).sum((1, 2))

        zeros = logits.new_zeros(len(logits))
        return {
            "loss_ce": per_layer / (normalizers.pairs * max(logits.shape[-1], self.query_slots)),
            "loss_bbox": zeros.index_add(0, matches.layer, distance) / normalizers.instances,
            "loss_giou": zeros.index_add(0, matches.layer, 1 - giou) / normalizers.instances,
        }

    def _presence_term(
        self, logits: torch.Tensor, present: torch.Tensor, targets: PairTargets, normalizers: Normalizers
    ) -> torch.Tensor:
        """Compute the presence term of all layers, of shape `(num_layers,)`, over the labelled pairs."""
        cross_entropy = F.binary_cross_entropy_with_logits(logits, present.expand_as(logits), reduction="none")
        is_labelled = torch.tensor(targets.list_labelled(), dtype=logits.dtype).to(logits.device, non_blocking=True)
        return self.weights.presence_alpha * (cross_entropy * is_labelled).sum(1) / normalizers.pairs

    def _supervised_background(self, boxes: torch.Tensor, targets: PairTargets) -> torch.Tensor:
        """Return the unmatched queries to supervise as background; bool, broadcasts to `(layers, pairs, queries)`."""
        exhaustive = torch.tensor(targets.exhaustive).to(boxes.device, non_blocking=True)
        supervised = exhaustive[None, :, None]
        if targets.ignore is None or all(region is None for region in targets.ignore):
            return supervised
        supervised = supervised.expand(boxes.shape[:-1]).clone()
        corners = box_cxcywh_to_xyxy(boxes)
        for pair, region in enumerate(targets.ignore):
            if region is not None:
                supervised[:, pair] &= boxes_in_region(corners[:, pair], region) < self.ignore_overlap
        return supervised

    def _mask_terms(self, queries: QueryOutputs, matches: Matches, targets: PairTargets, scale):
        """Compute focal loss and dice of the last layer's matched masks, block by block."""
        if queries.masks is None:
            raise ValueError("`masks` of the one-to-many queries are missing; pass them as for the one-to-one queries")
        target_masks, mask_index = targets.require_masks()
        rows = (matches.layers == len(queries.logits) - 1).nonzero()[0]
        mask_rows = [mask_index[t] for t in matches.targets[rows]]
        with_mask = [(row, mask) for row, mask in zip(rows, mask_rows, strict=True) if mask >= 0]
        device = queries.logits.device
        chosen, mask_of_row = to_index(with_mask, device).view(-1, 2).unbind(1)
        tensors, rows_of = queries.masks.select(
            matches.pair[chosen],
            matches.query[chosen],
            matches.pairs[[row for row, _ in with_mask]].tolist() if with_mask else [],
            self.masks_per_block,
        )

        def block_loss(start, *tensors):
            stop = min(start + self.masks_per_block, len(with_mask))
            target = target_masks.index_select(0, mask_of_row[start:stop])
            focal, dice = self._focal_dice(rows_of(start, stop, *tensors), target, self.weights.mask_alpha)
            focal, dice = focal.sum() * scale, dice.sum() * scale
            return self.weights.mask * focal + self.weights.dice * dice, (focal.detach(), dice.detach())

        loss, terms = sum_over_blocks(block_loss, range(0, len(with_mask), self.masks_per_block), tensors)
        return loss, _add_terms(terms, loss)

    def _semantic_terms(self, logits: torch.Tensor, targets: PairTargets, normalizers: Normalizers):
        """Compute focal loss and dice of the semantic map, for pairs with a complete, non-empty union of masks."""
        pairs = semantic_pairs(targets)
        target_masks, mask_index = targets.require_masks()
        rows = to_index(mask_index, target_masks.device)
        chosen = logits.index_select(0, to_index(pairs, logits.device))

        def block_loss(start, chosen):
            stop = start + self.masks_per_block
            target = torch.stack([_union(targets, target_masks, pair, rows) for pair in pairs[start:stop]])
            focal, dice = self._focal_dice(chosen[start:stop], target, self.weights.semantic_alpha)
            counted = target.flatten(1).any(1) / normalizers.semantic_pairs
            focal, dice = (focal * counted).sum(), (dice * counted).sum()
            return self.weights.semantic * focal + self.weights.semantic_dice * dice, (focal.detach(), dice.detach())

        loss, terms = sum_over_blocks(block_loss, range(0, len(pairs), self.masks_per_block), (chosen,))
        return loss, _add_terms(terms, loss)

    def _focal_dice(self, logits: torch.Tensor, target: torch.Tensor, alpha: float):
        if self.mask_points is not None:
            return focal_dice_rows(*sample_rows(logits, target, num_points=self.mask_points), alpha=alpha)
        return resized_focal_dice_rows(logits, target, alpha=alpha)


def semantic_pairs(targets: PairTargets) -> list[int]:
    """Return the pairs with a supervised semantic map: exhaustive, with instances that all have a mask."""
    if targets.mask_index is None:
        return []
    pairs, start = [], 0
    for pair, count in enumerate(targets.counts):
        if count and targets.exhaustive[pair] and all(m >= 0 for m in targets.mask_index[start : start + count]):
            pairs.append(pair)
        start += count
    return pairs


def _present(targets: PairTargets) -> torch.Tensor:
    """Return floats `(num_pairs,)`: 1 where a pair has a target with an area (`keep_loss` of the official code)."""
    device = targets.boxes.device
    pair = to_index(targets.pair_of_target(), device)
    has_area = (targets.boxes[:, 2:] > 0).all(-1).float()
    return torch.zeros(len(targets.counts), device=device).index_add(0, pair, has_area).clamp(max=1)


def _union(
    targets: PairTargets, target_masks: torch.Tensor, pair: int, rows: torch.Tensor, block: int = 8
) -> torch.Tensor:
    """
    Compute the union of a pair's masks and its ignored region, which also shows the phrase.

    Args:
        targets (`PairTargets`): Targets.
        target_masks (`torch.Tensor` of shape `(num_masks, H, W)`): Their masks.
        pair (`int`): Index of a pair whose instances all have a mask.
        rows (`torch.Tensor` of shape `(num_targets,)`): `mask_index` of the targets on their device.
        block (`int`): Masks that are copied at once.
    """
    start = sum(targets.counts[:pair])
    union = targets.ignore[pair] if targets.ignore else None
    for index in rows[start : start + targets.counts[pair]].split(block):
        masks = target_masks.index_select(0, index).any(0)
        union = masks if union is None else union | masks
    if union is None:
        raise ValueError(f"pair {pair} has no instances, so it has no union of masks")
    return union


def _add_terms(
    terms: list[tuple[torch.Tensor, torch.Tensor]], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    zero = like.detach() * 0
    return sum((t[0] for t in terms), zero), sum((t[1] for t in terms), zero)


def _report(parts: dict, terms: dict[str, torch.Tensor], suffix: str):
    """Add `(num_layers,)` terms under their official names; the last layer has no `_aux_i` suffix."""
    for name, values in terms.items():
        *aux, final = values.detach().unbind()
        parts |= {f"{name}_aux_{i}{suffix}": value for i, value in enumerate(aux)} | {f"{name}{suffix}": final}
