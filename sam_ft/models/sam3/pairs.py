"""(Image, phrase) pairs of a batch, their labels, and their division into chunks."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...losses.sam3 import semantic_pairs
from ...losses.structures import Normalizers, PairTargets
from ...ops.indices import to_index
from ...ops.packed_masks import unpack_masks
from ...ops.prompts import padding_exemplars


@dataclass
class Pairs:
    """
    The P (image, phrase) pairs of a batch. Indices are lists on the host, so that grouping needs no synchronisation.

    Attributes:
        image (`list[int]` of length P): Image index of each pair.
        phrase (`list[int]` of length P): Phrase index of each pair.
        boxes (`torch.Tensor` of shape `(P, K, 4)`): Exemplar boxes `(cx, cy, w, h)` in `[0, 1]`, K ≥ 1.
        box_labels (`torch.Tensor` of shape `(P, K)`): 1 positive, 0 negative, -10 padding.
        geometry_token (`torch.Tensor` of shape `(P,)`, bool): Whether the prompt of a pair without boxes contains the
            geometry encoder's CLS token. Official model: always. `Sam3Model`: never.
    """

    image: list[int]
    phrase: list[int]
    boxes: torch.Tensor
    box_labels: torch.Tensor
    geometry_token: torch.Tensor

    @classmethod
    def of_text(cls, image: list[int], phrase: list[int], geometry_token: torch.Tensor) -> "Pairs":
        """Build pairs without exemplar boxes."""
        boxes, labels = padding_exemplars(len(image), device=geometry_token.device)
        return cls(image, phrase, boxes, labels, geometry_token)

    def chunks(self, size: int, present: list[bool] | None) -> Iterator[list[int]]:
        """
        Divide the pairs into chunks in which pairs of one image are adjacent.

        Args:
            size (`int`): Maximum number of pairs in a chunk.
            present (`list[bool]` or `None`): Whether each pair has instances. Present pairs then come first, in all
                chunks and in a chunk that contains both, so that the mask head runs for the first pairs of a chunk.

        Returns:
            `Iterator[list[int]]`: Indices of the pairs of each chunk.
        """
        order = list(range(len(self.image)))
        order.sort(key=lambda pair: (present is not None and not present[pair], self.image[pair]))
        yield from (order[i : i + size] for i in range(0, len(order), size))


@dataclass
class PairLabels:
    """
    Ground truth of the P pairs of I images; a label dictionary without a required field causes a `KeyError`.

    Attributes:
        labels (`list[dict]` of length I): `boxes (N, 4)`, normalised `(cx, cy, w, h)`; `masks (N, H, W)`, bool or as
            in [`pack_masks`], or `None`; `has_mask`, N bools; `ignore`, crowd regions like `masks`; `example_id`;
            `phrases`.
        pairs (`Pairs`): The pairs.
        instances (`list[list[int]]` of length P): Indices of each pair's instances in the image's `boxes`.
        ignore (`list[list[int]]` of length P, *optional*): Indices of each pair's ignored regions in `ignore`.
        exhaustive (`list[bool]` of length P): `False` if the image may contain unlabelled instances.
    """

    labels: list[dict]
    pairs: Pairs
    instances: list[list[int]]
    ignore: list[list[int]] | None
    exhaustive: list[bool]

    def __post_init__(self):
        """Unpack the masks."""
        self.labels = [
            {**label, "masks": unpack_masks(label["masks"]), "ignore": unpack_masks(label.get("ignore"))}
            for label in self.labels
        ]

    def list_present(self) -> list[bool]:
        """Return whether each pair has instances."""
        return [len(instances) > 0 for instances in self.instances]

    def build_targets(self, chunk: list[int], with_masks: bool) -> PairTargets:
        """Build the packed targets of the pairs in `chunk`; masks are stored once an instance, not once a pair."""
        box_rows, mask_index, rows = [], [], []
        images = dict.fromkeys(self.pairs.image[pair] for pair in chunk)
        with_masks = with_masks and all(self.labels[image]["masks"] is not None for image in images)
        for image in images:  # the value is the offset of the image's boxes and masks in their concatenation
            images[image] = len(rows)
            rows += [image] * len(self.labels[image]["boxes"])
        for pair in chunk:
            image = self.pairs.image[pair]
            label = self.labels[image]
            box_rows += [images[image] + i for i in self.instances[pair]]
            mask_index += [images[image] + i if label["has_mask"][i] else -1 for i in self.instances[pair]]
        boxes = torch.cat([self.labels[image]["boxes"] for image in images]).float()
        return PairTargets(
            boxes=boxes.index_select(0, to_index(box_rows, boxes.device)),
            counts=[len(self.instances[pair]) for pair in chunk],
            exhaustive=[self.exhaustive[pair] for pair in chunk],
            masks=self._masks(list(images)) if with_masks else None,
            mask_index=mask_index,
            ignore=[self._ignored(pair) for pair in chunk],
            names=[self.name(pair) for pair in chunk],
        )

    def count_normalizers(self, distillation_pairs: int = 0) -> Normalizers:
        """Count the normalisers of this batch; `distillation_pairs` is the number of distillation pairs."""
        counts = count_pairs(self.labels, self.pairs.image, self.instances, self.ignore, self.exhaustive)
        return Normalizers(*counts, distillation_pairs)

    def name(self, pair: int) -> str:
        """Return example and phrase of a pair, for error messages."""
        label = self.labels[self.pairs.image[pair]]
        phrases = label.get("phrases")
        phrase = f", phrase {phrases[self.pairs.phrase[pair]]!r}" if phrases else ""
        return f"example {label.get('example_id', self.pairs.image[pair])!r}{phrase}"

    def _masks(self, images: list[int]) -> torch.Tensor:
        masks = [self.labels[image]["masks"] for image in images]
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _ignored(self, pair: int) -> torch.Tensor | None:
        regions = self.labels[self.pairs.image[pair]]["ignore"]
        if regions is None or self.ignore is None or not self.ignore[pair]:
            return None
        return regions.index_select(0, to_index(self.ignore[pair], regions.device)).any(0)


def count_pairs(
    labels: list[dict],
    pair_image: list[int],
    pair_instances: list[list[int]],
    pair_ignore: list[list[int]] | None,
    pair_exhaustive: list[bool],
) -> tuple[int, int, int]:
    """
    Count the normalisers of a batch.

    Args:
        labels (`list[dict]`): As in [`PairLabels`].
        pair_image (`list[int]` of length P): Image index of each pair.
        pair_instances (`list[list[int]]` of length P): As `instances` of [`PairLabels`].
        pair_ignore (`list[list[int]]` of length P, *optional*): As `ignore` of [`PairLabels`].
        pair_exhaustive (`list[bool]` of length P): As `exhaustive` of [`PairLabels`].

    Returns:
        `tuple[int, int, int]`: Numbers of instances, of pairs with known presence, and of pairs whose semantic map is
        supervised.
    """
    targets = PairTargets(
        boxes=torch.zeros(0, 4),
        counts=[len(instances) for instances in pair_instances],
        exhaustive=pair_exhaustive,
        mask_index=[
            0 if labels[image]["has_mask"][i] else -1 for image, ids in zip(pair_image, pair_instances) for i in ids
        ],
        ignore=[regions or None for regions in pair_ignore or [[]] * len(pair_image)],
    )
    return sum(targets.counts), sum(targets.list_labelled()), len(semantic_pairs(targets))
