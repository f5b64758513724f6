"""The pair side of a batch: which image, which phrase, which truth; cut into chunks that share an image."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...losses.sam3 import semantic_pairs
from ...losses.structures import Normalizers, PairTargets


PADDING = -10  # label of a box that is none


@dataclass
class Pairs:
    """
    The P (image, phrase) pairs of a batch. Lists live on the host, so that grouping needs no synchronisation.

    Attributes:
        image, phrase (`list[int]` of length P): which image and which phrase.
        boxes (`torch.Tensor` of shape `(P, K, 4)`): exemplar boxes, normalised `(cx, cy, w, h)`, K ≥ 1.
        box_labels (`torch.Tensor` of shape `(P, K)`): 1 positive, 0 negative, -10 padding.
        geometry_token (`torch.Tensor` of shape `(P,)`): bool; does a pair without boxes see the geometry token.
    """

    image: list[int]
    phrase: list[int]
    boxes: torch.Tensor
    box_labels: torch.Tensor
    geometry_token: torch.Tensor

    @classmethod
    def of_text(cls, image: list[int], phrase: list[int], geometry_token: torch.Tensor) -> "Pairs":
        """Pairs without exemplar boxes."""
        boxes = torch.full((len(image), 1, 4), 0.5, device=geometry_token.device)
        return cls(image, phrase, boxes, torch.full_like(boxes[..., 0], PADDING, dtype=torch.long), geometry_token)

    def chunks(self, size: int, present: list[bool] | None) -> Iterator[list[int]]:
        """
        Cuts the pairs into chunks of at most `size`, pairs of one image side by side. With `present`, present and absent
        pairs never share a chunk, so that a chunk of absent pairs can skip the mask head.
        """
        for kind in (True, False) if present is not None else (None,):
            members = [p for p in range(len(self.image)) if kind is None or present[p] == kind]
            members.sort(key=self.image.__getitem__)
            yield from (members[i : i + size] for i in range(0, len(members), size))


@dataclass
class PairLabels:
    """
    The truth of a batch's pairs; arguments as in [`Sam3ForConceptSegmentation.forward`].

    Raises:
        `KeyError`: where a label dictionary lacks a field.
    """

    labels: list[dict]
    pairs: Pairs
    instances: list[list[int]]
    ignore: list[list[int]] | None
    exhaustive: list[bool]

    def present(self) -> list[bool]:
        return [len(instances) > 0 for instances in self.instances]

    def targets(self, chunk: list[int], with_masks: bool) -> PairTargets:
        """The packed targets of the pairs in `chunk`, masks once an instance and not once a pair."""
        boxes, mask_index, rows = [], [], []
        images = dict.fromkeys(self.pairs.image[pair] for pair in chunk)
        with_masks = with_masks and all(self.labels[image]["masks"] is not None for image in images)
        for image in images:  # where each image's masks start in the concatenation
            images[image] = len(rows)
            rows += [image] * len(self.labels[image]["boxes"])
        for pair in chunk:
            image = self.pairs.image[pair]
            label = self.labels[image]
            boxes.append(label["boxes"][self.instances[pair]].float())
            mask_index += [images[image] + i if label["has_mask"][i] else -1 for i in self.instances[pair]]
        return PairTargets(
            boxes=torch.cat(boxes),
            counts=[len(self.instances[pair]) for pair in chunk],
            exhaustive=[self.exhaustive[pair] for pair in chunk],
            masks=self._masks(list(images)) if with_masks else None,
            mask_index=mask_index,
            ignore=[self._ignored(pair) for pair in chunk],
            names=[self.name(pair) for pair in chunk],
        )

    def normalizers(self, soft_pairs: int = 0) -> Normalizers:
        """This batch's own counts: instances, pairs, pairs with a semantic map; soft pairs, which have no labels."""
        counts = count_pairs(self.labels, self.pairs.image, self.instances, self.ignore, self.exhaustive)
        return Normalizers(*counts, soft_pairs)

    def name(self, pair: int) -> str:
        label = self.labels[self.pairs.image[pair]]
        phrases = label.get("phrases")
        phrase = f", phrase {phrases[self.pairs.phrase[pair]]!r}" if phrases else ""
        return f"example {label.get('example_id', self.pairs.image[pair])!r}{phrase}"

    def _masks(self, images: list[int]) -> torch.Tensor:
        masks = [self.labels[image]["masks"] for image in images]
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _ignored(self, pair: int) -> torch.Tensor | None:
        regions = self.labels[self.pairs.image[pair]].get("ignore")
        if regions is None or self.ignore is None or not self.ignore[pair]:
            return None
        return regions[self.ignore[pair]].any(0)


def count_pairs(
    labels: list[dict],
    pair_image: list[int],
    pair_instances: list[list[int]],
    pair_ignore: list[list[int]] | None,
    pair_exhaustive: list[bool],
) -> tuple[int, int, int]:
    """
    What a batch adds to the three normalisers: instances, pairs that are known to be present or absent, and pairs whose
    semantic map is supervised.

    Arguments as in [`Sam3ForConceptSegmentation.forward`].
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
    return sum(targets.counts), sum(targets.known()), len(semantic_pairs(targets))
