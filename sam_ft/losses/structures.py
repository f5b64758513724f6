"""Criterion inputs and targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


# Tensors, and a function `rows(start, stop, *tensors)` of the mask logits of a block of selected queries.
SelectedMasks = tuple[Sequence[torch.Tensor], Callable[..., torch.Tensor]]


@dataclass
class QueryOutputs:
    """
    Per-layer query predictions.

    Attributes:
        logits (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries)`): Class logits.
        boxes (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, 4)`): Normalised `(cx, cy, w, h)`.
        masks (`DenseMasks | FactoredMasks | None`): Masks of the last layer; `None` trains boxes only.
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    masks: "DenseMasks | FactoredMasks | None" = None

    def join(self, other: "QueryOutputs") -> "QueryOutputs":
        """Return the logits and boxes of a second set of queries as further layers of this one."""
        return QueryOutputs(torch.cat([self.logits, other.logits]), torch.cat([self.boxes, other.boxes]))


@dataclass
class ConceptOutputs:
    """
    All predictions that a criterion supervises, for P (image, phrase) pairs.

    Attributes:
        one_to_one (`QueryOutputs`): Queries that inference uses.
        one_to_many (`QueryOutputs | None`): Second set of queries, which shares all weights and skips self-attention
            (DAC); training only.
        presence_logits (`torch.Tensor` of shape `(num_layers, num_pairs)`): Logits of the phrase's presence.
        semantic_logits (`torch.Tensor` of shape `(n, h, w)` or `None`): Mask logits of the union of all instances, of
            the first n pairs, which include all pairs with instances.
        matching (`Callable`, *optional*): Result of `Sam3Criterion.start_matching`, if it was called before the masks
            were computed.
    """

    one_to_one: QueryOutputs
    one_to_many: QueryOutputs | None
    presence_logits: torch.Tensor
    semantic_logits: torch.Tensor | None = None
    matching: Callable | None = None


@dataclass
class DenseMasks:
    """
    Mask logits of all queries.

    Attributes:
        logits (`torch.Tensor` of shape `(num_pairs, num_queries, h, w)`): Mask logits.
    """

    logits: torch.Tensor

    def select(self, pair: torch.Tensor, query: torch.Tensor, _pairs: list[int], size: int) -> SelectedMasks:
        """Return tensors and a function `rows(start, stop, *tensors)` of mask logits of a block of at most `size`."""
        # The gradient of a slice would be written into zeros of the size of all rows.
        return self.logits[pair, query].split(size), lambda start, _stop, *blocks: blocks[start // size]


@dataclass
class FactoredMasks:
    """
    Mask logits as the mask head's two factors, multiplied for selected queries only.

    Both are of the first n pairs, which include all pairs with instances.

    Attributes:
        embeddings (`torch.Tensor` of shape `(n, num_queries, C)`): Query embeddings of the mask head.
        pixels (`torch.Tensor` of shape `(n, C, h, w)`): Pixel embeddings of the mask head.
    """

    embeddings: torch.Tensor
    pixels: torch.Tensor

    def select(self, pair: torch.Tensor, query: torch.Tensor, pairs: list[int], _size: int) -> SelectedMasks:
        """Return tensors and a function `rows(start, stop, *tensors)` of mask logits `(stop - start, h, w)`."""

        def rows(start, stop, embeddings, *pixels):
            # Rows are processed pair by pair: pixels are not copied, and other pairs' pixels receive no gradient.
            products, begin = [], start
            for row in range(start + 1, stop + 1):
                if row == stop or pairs[row] != pairs[begin]:
                    products.append(torch.einsum("mc,chw->mhw", embeddings[begin:row], pixels[pairs[begin]]))
                    begin = row
            return torch.cat(products)

        return (self.embeddings[pair, query], *self.pixels.unbind()), rows


@dataclass
class PairTargets:
    """
    Packed ground truth of P pairs: all instances of pair 0, then those of pair 1, and so on.

    Attributes:
        boxes (`torch.Tensor` of shape `(num_targets, 4)`): Normalised `(cx, cy, w, h)`, float32.
        counts (`list[int]`): Instances of each pair, on the host; 0 where the phrase is absent.
        exhaustive (`list[bool]`): For each pair, on the host; `False` where other instances may be unlabelled.
        masks (`torch.Tensor` of shape `(num_masks, H, W)` or `None`): Bool masks, each instance of the batch once.
        mask_index (`list[int]`): Row in `masks` of each target, -1 where it has a box but no mask.
        ignore (`list[torch.Tensor | None]`): Bool region `(H, W)` of each pair in which unmatched queries are not
            supervised.
        names (`list[str]`): Name of each pair in error messages.
    """

    boxes: torch.Tensor
    counts: list[int]
    exhaustive: list[bool]
    masks: torch.Tensor | None = None
    mask_index: list[int] | None = None
    ignore: list[torch.Tensor | None] | None = None
    names: list[str] | None = None

    def list_labelled(self) -> list[bool]:
        """
        Return for each pair whether its phrase is labelled as present or absent.

        Returns:
            `list[bool]`: `False` for a pair with crowd regions only, or with unlabelled instances.
        """
        ignore = self.ignore or [None] * len(self.counts)
        return [
            count > 0 or (exhaustive and region is None)
            for count, exhaustive, region in zip(self.counts, self.exhaustive, ignore, strict=True)
        ]

    def require_masks(self) -> tuple[torch.Tensor, list[int]]:
        """
        Return `masks` and `mask_index`, which a loss of masks needs.

        Raises:
            ValueError: If one of them is missing.
        """
        if self.masks is None or self.mask_index is None:
            raise ValueError("`masks` and `mask_index` of the targets are missing; set both, or train boxes only")
        return self.masks, self.mask_index

    def pair_of_target(self) -> list[int]:
        """Return the pair index of each target."""
        return [pair for pair, count in enumerate(self.counts) for _ in range(count)]


@dataclass
class Normalizers:
    """
    Divisors of the loss sums; values below 1 count as 1.

    Counted over the accumulation window and all processes, they make the loss independent of the split into
    micro-batches, chunks and ranks.

    Attributes:
        instances (`torch.Tensor` or `float`): Number of targets.
        pairs (`torch.Tensor` or `float`): Pairs that are labelled as present or absent.
        semantic_pairs (`torch.Tensor` or `float`): Pairs whose union of masks is not empty.
        distillation_pairs (`torch.Tensor` or `float`): Pairs with teacher predictions, default 1.
    """

    instances: torch.Tensor | float
    pairs: torch.Tensor | float
    semantic_pairs: torch.Tensor | float
    distillation_pairs: torch.Tensor | float = 1.0

    def __post_init__(self) -> None:
        """Clamp all divisors to at least 1."""
        for name in ("instances", "pairs", "semantic_pairs", "distillation_pairs"):
            value = getattr(self, name)
            setattr(self, name, value.clamp(min=1) if torch.is_tensor(value) else max(float(value), 1.0))
