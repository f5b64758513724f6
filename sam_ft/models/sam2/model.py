"""Modules and encoders of SAM 2's image model, and the forward that runs a step on a batch."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Sam2Config, Sam2Model
from transformers.utils import ModelOutput

from ...ops.prompts import ObjectPrompts
from ..contexts import frozen_without_graph, full_precision, get_dtype
from ..offloading import OffloadingModel
from .batch import PromptBatch
from .rounds import Round
from .steps import PromptTrainingStep


IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as in SAM 2's processor
MASK_PROMPT = 10.0  # logit of a mask prompt's pixels (`sam2_base.py`, `_use_mask_as_output`)


class Sam2ForPromptSegmentation(OffloadingModel, Sam2Model):
    """
    SAM 2's image model with a forward for training, evaluation and prediction on prompted objects.

    Module names equal those of `Sam2Model`, so checkpoints load in both classes. Called with `Sam2Model`'s arguments,
    the outputs are those of `Sam2Model`. Called with a batch of the collator, `forward` runs a step, which holds the
    criterion of a run.

    Attributes:
        objects_per_chunk (`int`): Objects decoded at once. Set by [`configure`].

    Examples:
        >>> loss = model(**Sam2Collator()(samples)).loss  # with the default criterion
        >>> model(**batch, step=PromptPredictionStep(predictions.append))
    """

    saved_as = Sam2Model
    cached_from = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_embedding")
    offloaded_when_cached = ("vision_encoder", "mask_decoder.conv_s0", "mask_decoder.conv_s1")
    supports_gradient_checkpointing = True  # each block is a GradientCheckpointingLayer
    accepts_loss_kwargs = True
    # Positions are off by pixels in bfloat16, which also rounds away the small updates of these trained modules.
    _keep_in_fp32_modules_strict = ["prompt_encoder", "mask_decoder", "shared_image_embedding", "no_memory_embedding"]

    def __init__(self, config: Sam2Config) -> None:
        super().__init__(config)
        self.objects_per_chunk = 8
        self.prepare_offloading()

    def configure(self, *, objects_per_chunk: int | None = None) -> None:
        """
        Change settings of a run; a checkpoint does not contain them.

        Args:
            objects_per_chunk (`int`, *optional*): Objects decoded at once. Changes speed and memory, not results.
                `None` changes nothing.
        """
        self.objects_per_chunk = self.objects_per_chunk if objects_per_chunk is None else objects_per_chunk

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        prompts: ObjectPrompts | None = None,
        labels: list[dict] | None = None,
        step: Callable | None = None,
        **inputs: Any,
    ) -> ModelOutput:
        """
        Run a step on a batch, or `Sam2Model.forward` without `prompts`.

        Args:
            pixel_values (`torch.Tensor`, *optional*): As in [`PromptBatch`], or as in `Sam2Model.forward`.
            prompts (`ObjectPrompts`, *optional*): As in [`PromptBatch`].
            labels (`list[dict]`, *optional*): As in [`PromptBatch.from_inputs`].
            step (`Callable`, *optional*): `step(model, batch)`: [`PromptTrainingStep`], [`PromptEvaluationStep`] or
                [`PromptPredictionStep`]. Default: a training step with the default criterion.
            **inputs (`Any`): Further keys of [`PromptBatch.from_inputs`], or further arguments of `Sam2Model.forward`.

        Returns:
            `LossOutput`: Loss and its parts; without `prompts`, the output of `Sam2Model`.

        Raises:
            `TypeError`: If `inputs` has an unknown key.
            `ValueError`, `NonFiniteOutputError`: As the step raises them.
        """
        if prompts is None:
            return super().forward(pixel_values, **inputs)
        inputs |= {"pixel_values": pixel_values, "prompts": prompts, "labels": labels}
        return (step or PromptTrainingStep())(self, PromptBatch.from_inputs(inputs))

    def encode(self, batch: PromptBatch) -> tuple[torch.Tensor, ...]:
        """Compute the maps of [`compute_maps`]; precomputed features are used where the batch has them."""
        if batch.vision_features is not None:
            return self._split_features(batch.vision_features)
        return self.compute_maps(self.require_input("pixel_values", batch.pixel_values))

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Compute the three feature maps of images `(I, 3, R, R)`, flattened and concatenated to `(I, L)`."""
        return torch.cat([level.flatten(1) for level in self.compute_maps(pixel_values)], dim=1)

    def compute_maps(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute maps from fine to coarse: `(I, C/8, 4h, 4w)`, `(I, C/4, 2h, 2w)`, `(I, C, h, w)`."""
        self.refuse_if_offloaded("vision_encoder", "`vision_features`")
        if pixel_values.dtype == torch.uint8:
            mean, std = (torch.tensor(v, device=pixel_values.device)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
            pixel_values = (pixel_values.float() / 255 - mean) / std
        pixel_values = pixel_values.to(get_dtype(self.vision_encoder))
        with frozen_without_graph(self.vision_encoder):
            fine, middle, coarse = self.vision_encoder(pixel_values).fpn_hidden_states
        decoder = self.mask_decoder
        fine, middle, coarse = (level.to(get_dtype(decoder)) for level in (fine, middle, coarse))
        memory = self.no_memory_embedding.to(coarse.device)  # on the host while a feature cache is written
        with frozen_without_graph(decoder.conv_s0, decoder.conv_s1, inputs=[fine, middle, coarse, memory]):
            return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse + memory.view(1, -1, 1, 1)

    def _split_features(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Split features of [`encode_images`] into the three maps."""
        width, (side, _) = self.hidden_dim, self.prompt_encoder.image_embedding_size
        shapes = (width // 8, 4 * side), (width // 4, 2 * side), (width, side)
        parts = features.to(get_dtype(self.mask_decoder.transformer)).split([c * s * s for c, s in shapes], dim=1)
        return tuple(part.unflatten(1, (c, s, s)) for part, (c, s) in zip(parts, shapes, strict=True))

    def convert_masks(self, masks: torch.Tensor) -> torch.Tensor:
        """Convert bool masks `(n, h, w)` to logits `(n, 1, h', w')` at the resolution of the prompt encoder."""
        logits = torch.where(masks[:, None], MASK_PROMPT, -MASK_PROMPT)
        return F.interpolate(logits, self.prompt_encoder.mask_input_size, mode="bilinear", antialias=True)

    def decode(
        self,
        maps: list[torch.Tensor],
        points: torch.Tensor,
        labels: torch.Tensor,
        dense: torch.Tensor | None,
    ) -> Round:
        """
        Run prompt encoder and decoder; at most one point yields three masks (`sam2_base.py`, `_use_multimask`).

        Args:
            maps (`list[torch.Tensor]`): Maps of [`compute_maps`], indexed by object.
            points (`torch.Tensor` of shape `(n, k, 2)`): `(x, y)` in px of the canvas.
            labels (`torch.Tensor` of shape `(n, k)`): Labels of `points`; see [`ObjectPrompts`].
            dense (`torch.Tensor` of shape `(n, 1, h, w)` or `None`): Logits of a mask prompt.
        """
        fine, middle, coarse = maps
        dtype = get_dtype(self.prompt_encoder)
        with full_precision(coarse):
            sparse, embedded = self.prompt_encoder(
                points[:, None].to(dtype), labels[:, None], None, None if dense is None else dense.to(dtype)
            )
            positions = self.get_image_wide_positional_embeddings()
        low, ious, _, objects = self.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=positions.to(coarse.dtype).expand(len(coarse), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=embedded,
            multimask_output=points.shape[1] <= 1,
            high_resolution_features=[fine, middle],
        )
        low, ious, objects = low[:, 0].float(), ious[:, 0].float(), objects[:, 0, 0].float()
        return Round(low, ious.detach().argmax(1), ious, objects, points, labels)
