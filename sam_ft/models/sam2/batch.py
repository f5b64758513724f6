"""Batch of SAM 2: images, prompts of objects, and their masks."""

from dataclasses import dataclass

import torch

from ...ops.packed_masks import unpack_masks
from ...ops.prompts import ObjectPrompts


_KEYS = {"pixel_values", "vision_features", "prompts", "box_prompts", "labels", "normalizers"}


@dataclass
class PromptBatch:
    """
    Batch of O objects in I images.

    Attributes:
        pixel_values (`torch.Tensor` of shape `(I, 3, R, R)`, *optional*): uint8 in 0…255, or normalised floats.
        vision_features (`torch.Tensor` of shape `(I, L)`, *optional*): Precomputed features of
            [`Sam2ForPromptSegmentation.encode_images`], instead of `pixel_values`.
        prompts (`ObjectPrompts`): Objects of all images, their first prompts, and the random draws of corrective
            clicks.
        box_prompts (`ObjectPrompts`, *optional*): Boxes of the same objects, for additional predictions of an
            evaluation.
        masks (`torch.Tensor` of shape `(O, R, R)`, bool, *optional*): Ground truth of the objects.
        num_objects (`torch.Tensor` or `int`): Divisor of the loss.
    """

    pixel_values: torch.Tensor | None
    vision_features: torch.Tensor | None
    prompts: ObjectPrompts
    box_prompts: ObjectPrompts | None = None
    masks: torch.Tensor | None = None
    num_objects: torch.Tensor | int = 1

    def require_masks(self) -> torch.Tensor:
        """
        Return the masks of a loss.

        Raises:
            ValueError: If the batch has no labels.
        """
        if self.masks is None:
            raise ValueError(
                "`labels` is missing, so there is no loss. Pass the labels, or `step=PromptPredictionStep(collect)`"
            )
        return self.masks

    @classmethod
    def from_inputs(cls, inputs: dict) -> "PromptBatch":
        """
        Build a batch from the dictionary of [`Sam2Collator`].

        Args:
            inputs (`dict`): Fields of this class by name, and:

                - `labels` (`list[dict]` of length I, *optional*): `masks (N, R, R)`, bool or as in [`pack_masks`], in
                  the order of `prompts`.
                - `normalizers` (`torch.Tensor` of shape `(1,)`, *optional*): Number of objects that divides the loss.
                  Default: objects of this batch.

        Raises:
            `KeyError`: If a required key is missing.
            `TypeError`: If there is another key.
        """
        unknown = inputs.keys() - _KEYS
        if unknown:
            raise TypeError(f"a batch of SAM 2 has no {sorted(unknown)[0]!r}; its keys are {', '.join(sorted(_KEYS))}")
        prompts, labels, counts = inputs["prompts"], inputs.get("labels"), inputs.get("normalizers")
        return cls(
            inputs.get("pixel_values"),
            inputs.get("vision_features"),
            prompts,
            inputs.get("box_prompts"),
            None if labels is None else torch.cat([unpack_masks(label["masks"]) for label in labels]),
            len(prompts) if counts is None else counts[0],
        )
