"""Prompts of the objects of a batch: ragged, so cut into groups of one form."""

from dataclasses import dataclass

import torch


PADDING = -10


@dataclass
class ObjectPrompts:
    """
    O objects of all images of a batch, those of an image side by side.

    Attributes:
        image (`list[int]` of length O): which image each is of.
        points (`torch.Tensor` of shape `(O, K, 2)`): `(x, y)` in px of the canvas; labels (`torch.Tensor` of shape `(O, K)`): 1 inside, 0
            outside, 2 and 3 a box's first and last corner, -10 behind the object's own points.
        number (`list[int]` of length O): points of each. Padding is never shown to the model, which would attend to it.
        masks (`torch.Tensor` of shape `(O, R/4, R/4)`, *optional*): bool, mask prompts; has_mask (`list[bool]`): of which objects.
        click_draws, click_from_truth (`torch.Tensor` of shape `(O, rounds - 1)`): for each corrective click a number in `[0, 1)` that says
            which pixel, and whether it lies in the object whatever was predicted.
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
        return len(self.image)

    @property
    def rounds(self) -> int:
        return 1 if self.click_draws is None else 1 + self.click_draws.shape[1]

    def to(self, device, **kwargs) -> "ObjectPrompts":
        moved = {n: v.to(device, **kwargs) if isinstance(v, torch.Tensor) else v for n, v in vars(self).items()}
        return ObjectPrompts(**moved)

    def pin_memory(self) -> "ObjectPrompts":
        return ObjectPrompts(
            **{n: v.pin_memory() if isinstance(v, torch.Tensor) else v for n, v in vars(self).items()}
        )

    def chunks(self, size: int) -> list[list[int]]:
        """Objects in groups of at most `size` whose prompts have one form: as many points, with a mask or without."""
        forms: dict[tuple, list[int]] = {}
        for i, number in enumerate(self.number):
            forms.setdefault((number, bool(self.has_mask and self.has_mask[i])), []).append(i)
        return [listed[k : k + size] for listed in forms.values() for k in range(0, len(listed), size)]

    def of(self, chunk: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Images `(n,)`, points `(n, k, 2)`, labels `(n, k)` and mask prompts of objects of one form."""
        device, number = self.points.device, self.number[chunk[0]]
        at = torch.tensor(chunk, device=device)
        images = torch.tensor([self.image[i] for i in chunk], device=device)
        masks = self.masks[at] if self.has_mask and self.has_mask[chunk[0]] else None
        return images, self.points[at, :number], self.labels[at, :number], masks
