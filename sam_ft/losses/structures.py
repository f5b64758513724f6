"""What the model tells the criterion, and what the criterion compares it with."""

from dataclasses import dataclass

import torch


@dataclass
class QueryOutputs:
    """
    What the queries say, for every decoder layer.

    Attributes:
        logits (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries)`).
        boxes (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries, 4)`): normalised `(cx, cy, w, h)`.
        masks (`DenseMasks | FactoredMasks | None`): masks of the last layer; `None` trains boxes alone.
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    masks: "DenseMasks | FactoredMasks | None" = None


@dataclass
class ConceptOutputs:
    """
    Everything that a criterion may look at, for P (image, phrase) pairs.

    Attributes:
        one_to_one (`QueryOutputs`): the queries that inference uses.
        one_to_many (`QueryOutputs | None`): the second set of queries that shares all weights and skips self-attention
            (DAC); training only.
        presence_logits (`torch.Tensor` of shape `(num_layers, num_pairs)`): is the phrase in the image at all.
        semantic_logits (`torch.Tensor` of shape `(num_pairs, h, w)` or `None`): the union of all instances.
    """

    one_to_one: QueryOutputs
    one_to_many: QueryOutputs | None
    presence_logits: torch.Tensor
    semantic_logits: torch.Tensor | None = None


@dataclass
class DenseMasks:
    """Mask logits of all queries: `logits` of shape `(num_pairs, num_queries, h, w)`."""

    logits: torch.Tensor

    def select(self, pair: torch.Tensor, query: torch.Tensor, pairs: list[int]):
        """Returns tensors and `rows(start, stop, *tensors)` that gives mask logits `(stop - start, h, w)`."""
        return (self.logits[pair, query],), lambda start, stop, logits: logits[start:stop]


@dataclass
class FactoredMasks:
    """
    Mask logits as the mask head makes them, a product that is never formed for queries nobody asks for.

    Attributes:
        embeddings (`torch.Tensor` of shape `(num_pairs, num_queries, C)`): the mask head's query embeddings.
        pixels (`torch.Tensor` of shape `(num_pairs, C, h, w)`): its pixel embeddings.
    """

    embeddings: torch.Tensor
    pixels: torch.Tensor

    def select(self, pair: torch.Tensor, query: torch.Tensor, pairs: list[int]):
        """Returns tensors and `rows(start, stop, *tensors)` that gives mask logits `(stop - start, h, w)`."""

        def rows(start, stop, embeddings, *pixels):
            # the rows of one pair at a time: its pixels are read, not copied, and no other pair's receive a gradient
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
    The truth of P pairs, packed: all instances of pair 0, then those of pair 1, and so on.

    Attributes:
        boxes (`torch.Tensor` of shape `(num_targets, 4)`): normalised `(cx, cy, w, h)`, float32.
        counts (`list[int]`): instances of each pair, on the host; 0 where the phrase is absent.
        exhaustive (`list[bool]`): for each pair, on the host; `False` where other instances may be unlabelled.
        masks (`torch.Tensor` of shape `(num_masks, H, W)` or `None`): bool, each instance of the batch once.
        mask_index (`list[int]`): for each target its row in `masks`, -1 where it has a box but no mask.
        ignore (`list[torch.Tensor | None]`): for each pair a bool region `(H, W)` whose queries are left alone.
        names (`list[str]`): what an error calls each pair.
    """

    boxes: torch.Tensor
    counts: list[int]
    exhaustive: list[bool]
    masks: torch.Tensor | None = None
    mask_index: list[int] | None = None
    ignore: list[torch.Tensor | None] | None = None
    names: list[str] | None = None

    def known(self) -> list[bool]:
        """For each pair whether it is known to be present or absent; crowds alone, or unlabelled instances, leave it open."""
        ignore = self.ignore or [None] * len(self.counts)
        return [
            count > 0 or (exhaustive and region is None)
            for count, exhaustive, region in zip(self.counts, self.exhaustive, ignore, strict=True)
        ]

    def pair_of_target(self) -> list[int]:
        """For each target the pair it belongs to."""
        return [pair for pair, count in enumerate(self.counts) for _ in range(count)]


@dataclass
class Normalizers:
    """
    What sums are divided by. Counted over the accumulation window and all processes, they make the loss independent of
    how a batch is cut into micro-batches, chunks and ranks.

    Attributes:
        instances, pairs, semantic_pairs (`torch.Tensor` or `float`): targets, pairs known to be present or absent, and
            pairs whose union of masks is not empty. soft_pairs: pairs that a teacher answers. Values below 1 count as 1.
    """

    instances: torch.Tensor | float
    pairs: torch.Tensor | float
    semantic_pairs: torch.Tensor | float
    soft_pairs: torch.Tensor | float = 1.0

    def __post_init__(self):
        for name in ("instances", "pairs", "semantic_pairs", "soft_pairs"):
            value = getattr(self, name)
            setattr(self, name, value.clamp(min=1) if torch.is_tensor(value) else max(float(value), 1.0))
