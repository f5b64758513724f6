"""Training forward of SAM 2's image model: `Sam2Model` with rounds of corrective clicks and a loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import Sam2Model

from ...losses.functional import resize_logits
from ...losses.sam2 import RoundOutputs, Sam2Criterion, silence_absent
from ...ops.blocks import sum_over_blocks, sum_parts
from ...ops.clicks import center_click, uniform_clicks
from ...ops.prompts import ObjectPrompts
from ..contexts import dtype_of, frozen_without_graph, full_precision
from ..finite import NonFiniteOutputError
from ..offloading import ParkingModel
from ..outputs import ConceptLossOutput, ObjectPrediction


IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as in SAM 2's processor
MASK_PROMPT = 10.0  # logit of a mask prompt's pixels (`sam2_base.py`, `_use_mask_as_output`)
# (round, masks (N, H, W)) -> (points (N, 2), labels (N,))
NextClicks = Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Round:
    """Prompts and outputs of N objects in one round, with M mask candidates each."""

    low: torch.Tensor  # (N, M, h, w): mask logits at the decoder's resolution
    best: torch.Tensor  # (N,): candidate of the highest predicted IoU, the mask prompt of the next round
    ious: torch.Tensor  # (N, M): predicted IoUs
    object_logits: torch.Tensor  # (N,)
    points: torch.Tensor  # (N, k, 2)
    labels: torch.Tensor  # (N, k)
    full: torch.Tensor | None = None  # (N, M, H, W): mask logits at the input resolution

    def select_best(self, values: torch.Tensor) -> torch.Tensor:
        """Select from values `(N, M, …)` the best candidate of each object."""
        return values[torch.arange(len(values), device=values.device), self.best]


class Sam2ForPromptSegmentation(ParkingModel, Sam2Model):
    """
    SAM 2's image model with a training forward over simulated rounds of clicks.

    Module names equal those of `Sam2Model`, so checkpoints load in both classes. Called with `Sam2Model`'s arguments,
    the outputs are those of `Sam2Model`. The attributes below are settings of a run; a checkpoint does not contain
    them.

    Attributes:
        criterion (`Callable`): `criterion(rounds, targets, num_objects) -> (loss, parts)`; see [`Sam2Criterion`].
        objects_per_chunk (`int`): Objects decoded at once. Changes speed and memory, not results.
        gate_absent (`bool`): Suppress the masks of objects predicted as absent in training; see [`silence_absent`].
    """

    saved_as = Sam2Model
    cached_from = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_embedding")
    parked_when_cached = ("vision_encoder", "mask_decoder.conv_s0", "mask_decoder.conv_s1")
    supports_gradient_checkpointing = True  # each block is a GradientCheckpointingLayer
    accepts_loss_kwargs = True
    # Positions are off by pixels in bfloat16, which also rounds away the small updates of these trained modules.
    _keep_in_fp32_modules_strict = ["prompt_encoder", "mask_decoder", "shared_image_embedding", "no_memory_embedding"]

    def __init__(self, config):
        super().__init__(config)
        self.criterion = Sam2Criterion()
        self.objects_per_chunk = 8
        self.gate_absent = False
        self.prepare_parking()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        prompts: ObjectPrompts | None = None,
        vision_features: torch.Tensor | None = None,
        labels: list[dict] | None = None,
        normalizers: torch.Tensor | None = None,
        collect: Callable[[ObjectPrediction], None] | None = None,
        clicks: int = 0,
        box_prompts: ObjectPrompts | None = None,
        **kwargs,
    ):
        """
        Compute the loss or the predictions of the objects of I images.

        Args:
            pixel_values (`torch.Tensor` of shape `(I, 3, R, R)`): uint8 in 0…255, or normalised floats.
            prompts (`ObjectPrompts`): Objects of all images, their first prompts, and the random draws of corrective
                clicks. Without it, `Sam2Model.forward` is called.
            vision_features (`torch.Tensor` of shape `(I, L)`, *optional*): Precomputed features, instead of
                `pixel_values`; see [`encode_images`].
            labels (`list[dict]` of length I, *optional*): `masks (N, R, R)`, bool, in the order of `prompts`;
                `example_id`.
            normalizers (`torch.Tensor` of shape `(1,)`, *optional*): Number of objects that divides the loss. Default:
                objects of this batch.
            collect (`Callable`, *optional*): Receives the [`ObjectPrediction`] of each object in turn.
            clicks (`int`): Evaluation with labels: number of rounds, with clicks at the centre of the largest error.
                0: the rounds of training.
            box_prompts (`ObjectPrompts`, *optional*): Evaluation: boxes of the same objects, for additional
                predictions.
            **kwargs: Further arguments of `Sam2Model.forward`.

        Returns:
            `ConceptLossOutput`, or the output of `Sam2Model` without `prompts`.

        Raises:
            `NonFiniteOutputError`: If a prediction for `collect` contains NaN or infinity.
        """
        if prompts is None:
            return super().forward(pixel_values, **kwargs)
        maps = self._embed(pixel_values, vision_features)
        if labels is None:
            for chunk in prompts.chunks(self.objects_per_chunk):
                rounds = self._rounds(maps, prompts, chunk, 1, None)
                self._collect(chunk, rounds, collect)
            return ConceptLossOutput()
        targets = torch.cat([label["masks"] for label in labels])
        num_objects = len(prompts) if normalizers is None else normalizers[0]

        def chunk_loss(chunk, *maps):
            index = torch.tensor(chunk, device=targets.device)
            truth = targets[index]
            next_clicks = _center_clicks(truth) if clicks else _random_clicks(truth, prompts, index)
            rounds = self._rounds(maps, prompts, chunk, clicks or prompts.rounds, next_clicks, full=True)
            if collect is not None:
                boxed = None if box_prompts is None else self._rounds(maps, box_prompts, chunk, 1, None)[0]
                self._collect(chunk, rounds, collect, boxed)
            outputs = [RoundOutputs(step.full, step.ious, step.object_logits) for step in rounds]
            with full_precision(truth):
                return self.criterion(outputs, truth, num_objects)

        in_chunks = [p for n, p in self.named_parameters() if p.requires_grad and not n.startswith(self.cached_from)]
        loss, parts = sum_over_blocks(chunk_loss, prompts.chunks(self.objects_per_chunk), maps, in_chunks)
        return ConceptLossOutput(loss=loss, parts=sum_parts(parts))

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Compute the three feature maps of images `(I, 3, R, R)`, flattened and concatenated to `(I, L)`."""
        return torch.cat([level.flatten(1) for level in self._embed(pixel_values, None)], dim=1)

    def _embed(self, pixel_values, vision_features) -> tuple[torch.Tensor, ...]:
        """Compute maps from fine to coarse: `(I, C/8, 4h, 4w)`, `(I, C/4, 2h, 2w)`, `(I, C, h, w)`."""
        if vision_features is not None:
            return self._split(vision_features)
        self.refuse_if_parked("vision_encoder", "`vision_features`")
        if pixel_values.dtype == torch.uint8:
            mean, std = (torch.tensor(v, device=pixel_values.device)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
            pixel_values = (pixel_values.float() / 255 - mean) / std
        pixel_values = pixel_values.to(dtype_of(self.vision_encoder))
        with frozen_without_graph(self.vision_encoder):
            fine, middle, coarse = self.vision_encoder(pixel_values).fpn_hidden_states
        decoder = self.mask_decoder
        fine, middle, coarse = (level.to(dtype_of(decoder)) for level in (fine, middle, coarse))
        memory = self.no_memory_embedding.to(coarse.device)  # on the host while a feature cache is written
        with frozen_without_graph(decoder.conv_s0, decoder.conv_s1, inputs=[fine, middle, coarse, memory]):
            return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse + memory.view(1, -1, 1, 1)

    def _split(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Split features of [`encode_images`] into the three maps."""
        width, (side, _) = self.hidden_dim, self.prompt_encoder.image_embedding_size
        shapes = (width // 8, 4 * side), (width // 4, 2 * side), (width, side)
        parts = features.to(dtype_of(self.mask_decoder.transformer)).split([c * s * s for c, s in shapes], dim=1)
        return tuple(part.unflatten(1, (c, s, s)) for part, (c, s) in zip(parts, shapes, strict=True))

    def _rounds(
        self, maps: tuple[torch.Tensor, ...], prompts: ObjectPrompts, chunk: list[int], num_rounds: int,
        next_clicks: NextClicks | None, *, full: bool = False,
    ) -> list[_Round]:  # fmt: skip
        """
        Run the rounds of a chunk of objects with the same kind of prompts.

        The prompts of a round are all clicks up to it and the best mask of the previous round, neither detached nor
        clamped.

        Args:
            maps (`tuple[torch.Tensor, ...]`): Maps of [`_embed`].
            prompts (`ObjectPrompts`): Prompts of the first round.
            chunk (`list[int]`): Indices of the objects.
            num_rounds (`int`): Number of rounds.
            next_clicks (`Callable`, *optional*): Computes the clicks of the rounds after the first.
            full (`bool`): Resize all logits to the input resolution.

        Source:
            Official `training/model/sam2.py`, `_iter_correct_pt_sampling`.
        """
        images, points, labels, masks = prompts.of(chunk)
        object_maps = [level[images] for level in maps]
        dense = None if masks is None else self._mask_prompts(masks)
        rounds = []
        for step in range(num_rounds):
            if step:
                with torch.no_grad():
                    best = rounds[-1].select_best(rounds[-1].full) > 0
                    new_points, new_labels = next_clicks(step, best)
                points = torch.cat([points, new_points[:, None].to(points.dtype)], dim=1)
                labels = torch.cat([labels, new_labels[:, None].to(labels.dtype)], dim=1)
                dense = rounds[-1].select_best(rounds[-1].low)[:, None]
            rounds.append(self._decode(object_maps, points, labels, dense))
            if full:
                low, side = rounds[-1].low, self.prompt_encoder.input_image_size
                rounds[-1].full = resize_logits(low.flatten(0, 1), side, side).unflatten(0, low.shape[:2])
        return rounds

    def _mask_prompts(self, masks: torch.Tensor) -> torch.Tensor:
        """Convert bool masks `(n, h, w)` to logits `(n, 1, h', w')` at the resolution of the prompt encoder."""
        logits = torch.where(masks[:, None], MASK_PROMPT, -MASK_PROMPT)
        return F.interpolate(logits, self.prompt_encoder.mask_input_size, mode="bilinear", antialias=True)

    def _decode(self, maps, points, labels, dense) -> _Round:
        """Run prompt encoder and decoder; at most one point yields three masks (`sam2_base.py`, `_use_multimask`)."""
        fine, middle, coarse = maps
        dtype = dtype_of(self.prompt_encoder)
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
        if self.gate_absent and self.training:
            low = silence_absent(low, objects)
        return _Round(low, ious.detach().argmax(1), ious, objects, points, labels)

    @torch.no_grad()
    def _collect(self, chunk: list[int], rounds: list[_Round], collect, boxed: _Round | None = None) -> None:
        """Pass the predictions of a chunk of objects to `collect`; `boxed` is a round with box prompts."""
        masks = torch.stack([step.select_best(step.low) for step in rounds], 1)
        ious = torch.stack([step.select_best(step.ious) for step in rounds], 1)
        last = rounds[-1]
        tensors = {"candidates": rounds[0].low, "masks": masks, "ious": ious}
        if boxed is not None:
            tensors |= {"box_mask": boxed.low, "box_iou": boxed.ious}
        finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in tensors.values()]).tolist()
        for name, flags in zip(tensors, finite, strict=True):
            if not all(flags):
                raise NonFiniteOutputError(name, chunk[flags.index(False)])
        for row, index in enumerate(chunk):
            prediction = ObjectPrediction(
                index, masks[row], ious[row], rounds[0].low[row], last.points[row], last.labels[row]
            )
            if boxed is not None:
                prediction.box_mask = boxed.select_best(boxed.low)[row]
                prediction.box_iou = boxed.select_best(boxed.ious)[row]
            collect(prediction)


def _random_clicks(truth: torch.Tensor, prompts: ObjectPrompts, index: torch.Tensor) -> NextClicks:
    """Return the click function of training: uniform over the error region, or with `from_truth` over the object."""
    draws, from_truth = prompts.click_draws[index], prompts.click_from_truth[index]
    return lambda step, masks: uniform_clicks(truth, masks, draws[:, step - 1], from_truth[:, step - 1])


def _center_clicks(truth: torch.Tensor) -> NextClicks:
    """Return the click function of evaluation: at the centre of the largest error, computed on the host."""
    targets = truth.cpu().numpy()

    def clicks(step: int, masks: torch.Tensor):
        points_and_labels = [center_click(*pair) for pair in zip(targets, masks.cpu().numpy(), strict=True)]
        return tuple(torch.tensor(part, device=truth.device) for part in zip(*points_and_labels, strict=True))

    return clicks
