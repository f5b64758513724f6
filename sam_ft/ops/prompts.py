"""Prompts as padded tensors: exemplar boxes of (image, phrase) pairs, and points and masks of objects."""

from dataclasses import dataclass, replace
from typing import Any

import torch


PADDING_LABEL = -10  # label of padding points and padding boxes, as in Transformers


def padding_exemplars(num_pairs: int, length: int = 1, device=None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Build the exemplars of (image, phrase) pairs without any: padding boxes and their labels.

    Args:
        num_pairs (`int`): Number P of pairs.
        length (`int`): Number K of boxes of each pair, 1 by default.
        device (`torch.device`, *optional*): Device of the tensors, the CPU by default.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Boxes `(cx, cy, w, h)` of shape `(P, K, 4)`, and labels of shape
            `(P, K)`, which are `PADDING_LABEL`.
    """
    boxes = torch.full((num_pairs, length, 4), 0.5, device=device)
    return boxes, torch.full((num_pairs, length), PADDING_LABEL, device=device)


@dataclass
class ObjectPrompts:
    """
    Prompts of all O objects of a batch; objects of the same image are adjacent.

    Attributes:
        image (`list[int]` of length O): Image index of each object.
        points (`torch.Tensor` of shape `(O, K, 2)`): `(x, y)` in px of the canvas.
        labels (`torch.Tensor` of shape `(O, K)`): 1 inside, 0 outside, 2 and 3 first and last corner of a box, -10
            padding after the object's points.
        number (`list[int]` of length O): Points of each object. Padding is not passed to the model, which would attend
            to it.
        masks (`torch.Tensor` of shape `(O, R/4, R/4)`, *optional*): Bool mask prompts.
        has_mask (`list[bool]`, *optional*): Whether each object has a mask prompt.
        click_draws (`torch.Tensor` of shape `(O, rounds - 1)`, *optional*): Uniform number in `[0, 1)` that selects
            the pixel of each corrective click.
        click_from_truth (`torch.Tensor` of shape `(O, rounds - 1)`, *optional*): Whether each corrective click lies in
            the object, independent of the prediction.
    """

    image: list[int]
    points: torch.Tensor
    labels: torch.Tensor
    number: list[int]
    masks: torch.Tensor | None = None
    has_mask: list[bool] | None = None
    click_draws: torch.Tensor | None = None
    click_from_truth: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.image)

    @property
    def rounds(self) -> int:
        """Number of rounds: the first prompt and all corrective clicks."""
        return 1 if self.click_draws is None else 1 + self.click_draws.shape[1]

    def to(self, device: torch.device | str, **kwargs: Any) -> "ObjectPrompts":
        """Move all tensors to a device."""
        tensors: dict[str, Any] = {
            name: value.to(device, **kwargs) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)

    def pin_memory(self) -> "ObjectPrompts":
        """Copy all tensors to pinned memory."""
        tensors: dict[str, Any] = {
            name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)

    def chunks(self, size: int) -> list[list[int]]:
        """Split objects into groups of at most `size` with equally many points, all with or all without a mask."""
        forms: dict[tuple, list[int]] = {}
        for i, number in enumerate(self.number):
            forms.setdefault((number, bool(self.has_mask and self.has_mask[i])), []).append(i)
        return [group[k : k + size] for group in forms.values() for k in range(0, len(group), size)]

    def of(self, chunk: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return images `(n,)`, points `(n, k, 2)`, labels `(n, k)` and mask prompts of one group of [`chunks`]."""
        device, number = self.points.device, self.number[chunk[0]]
        at = torch.tensor(chunk, device=device)
        images = torch.tensor([self.image[i] for i in chunk], device=device)
        masks = self.masks[at] if self.masks is not None and self.has_mask and self.has_mask[chunk[0]] else None
        return images, self.points[at, :number], self.labels[at, :number], masks
