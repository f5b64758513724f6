"""`Sam2Model` with a loss: rounds of prompts and corrective clicks, as SAM 2 is trained on images."""

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


IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as SAM 2's processor
MASK_PROMPT = 10.0  # logit of a mask prompt's pixels (`sam2_base.py`, `_use_mask_as_output`)
# round, masks (N, H, W) -> points (N, 2), labels (N,)
NextClicks = Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Round:
    """What N objects were shown in a round, and its outputs; `low (N, M, h, w)`: the decoder's own logits, `best (N,)`: the mask that is fed back."""

    low: torch.Tensor
    best: torch.Tensor
    ious: torch.Tensor
    object_logits: torch.Tensor
    points: torch.Tensor  # (N, k, 2)
    labels: torch.Tensor  # (N, k)
    full: torch.Tensor | None = None  # (N, M, H, W)

    def chosen(self, values: torch.Tensor) -> torch.Tensor:
        return values[torch.arange(len(values), device=values.device), self.best]


class Sam2ForPromptSegmentation(ParkingModel, Sam2Model):
    """
    SAM 2's image model with the rounds of clicks that its training simulates. Module names are `Sam2Model`'s, so its checkpoints load in
    `Sam2Model` and the other way round; called with `Sam2Model`'s own arguments it is `Sam2Model`.

    Settings that belong to a run and not to a checkpoint are attributes:

        criterion (`Callable`): `criterion(rounds, targets, num_objects) -> (loss, parts)`; see [`Sam2Criterion`].
        objects_per_chunk (`int`): objects in memory at once. Changes speed and memory, no result.
        gate_absent (`bool`): in training, silence the masks of objects that are said to be absent; see [`silence_absent`].
    """

    saved_as = Sam2Model
    cached_from = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_embedding")
    parked_when_cached = ("vision_encoder", "mask_decoder.conv_s0", "mask_decoder.conv_s1")
    supports_gradient_checkpointing = True  # every block is a GradientCheckpointingLayer already
    accepts_loss_kwargs = True
    # positions are off by pixels in bf16, and what is trained of a frozen encoder's company takes small steps
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
        Args:
            pixel_values (`torch.Tensor` of shape `(I, 3, R, R)`): uint8 in 0…255, or float already normalised.
            prompts (`ObjectPrompts`): the objects of all images, their first prompts, and the draws of corrective clicks.
            vision_features (`torch.Tensor` of shape `(I, L)`, *optional*): what [`encode_images`] says, instead of `pixel_values`.
            labels (`list[dict]` of length I, *optional*): `masks (N, R, R)` bool, the image's objects in the prompts' order, `example_id`.
            normalizers (`torch.Tensor` of shape `(1,)`, *optional*): objects that the loss is divided by; the batch's own where not given.
            collect (`Callable`, *optional*): receives each object's [`ObjectPrediction`] as soon as it exists.
            clicks (`int`): evaluation with labels: rounds in all, corrected by the click at the centre of the largest error; 0: training's rounds.
            box_prompts (`ObjectPrompts`, *optional*): evaluation: the same objects' boxes, which are answered too.

        Returns:
            `ConceptLossOutput`; `Sam2Model`'s output where `prompts` are not given.

        Raises:
            `NonFiniteOutputError`: If a prediction that `collect` would receive contains NaN or infinity.
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
        number = len(prompts) if normalizers is None else normalizers[0]

        def chunk_loss(chunk, *maps):
            at = torch.tensor(chunk, device=targets.device)
            truth = targets[at]
            if clicks:
                rounds = self._rounds(maps, prompts, chunk, clicks, _at_centers(truth), full=True)
            else:
                rounds = self._rounds(maps, prompts, chunk, prompts.rounds, _by_draws(truth, prompts, at), full=True)
            if collect is not None:
                boxed = None if box_prompts is None else self._rounds(maps, box_prompts, chunk, 1, None)[0]
                self._collect(chunk, rounds, collect, boxed)
            outputs = [RoundOutputs(one.full, one.ious, one.object_logits) for one in rounds]
            with full_precision(truth):
                return self.criterion(outputs, truth, number)

        in_chunks = [p for n, p in self.named_parameters() if p.requires_grad and not n.startswith(self.cached_from)]
        loss, parts = sum_over_blocks(chunk_loss, prompts.chunks(self.objects_per_chunk), maps, in_chunks)
        return ConceptLossOutput(loss=loss, parts=sum_parts(parts))

    # once an image

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The image encoder's three maps of images `(I, 3, R, R)`, one behind the other, `(I, L)`: what the decoder needs of them."""
        return torch.cat([level.flatten(1) for level in self._embed(pixel_values, None)], dim=1)

    def _embed(self, pixel_values, vision_features) -> tuple[torch.Tensor, ...]:
        """Maps from fine to coarse: `(I, C/8, 4h, 4w)`, `(I, C/4, 2h, 2w)`, `(I, C, h, w)`."""
        if vision_features is not None:
            return self._split(vision_features)
        self.refuse_if_parked("vision_encoder", "`vision_features`")
        if pixel_values.dtype == torch.uint8:
            mean, std = (torch.tensor(v, device=pixel_values.device)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
            pixel_values = (pixel_values.float() / 255 - mean) / std
        kind = dtype_of(self.vision_encoder)
        with frozen_without_graph(self.vision_encoder):
            fine, middle, coarse = self.vision_encoder(pixel_values.to(kind)).fpn_hidden_states
        decoder = self.mask_decoder
        fine, middle, coarse = (level.to(dtype_of(decoder)) for level in (fine, middle, coarse))
        memory = self.no_memory_embedding.to(coarse.device)  # still on the host where a cache is filled
        with frozen_without_graph(decoder.conv_s0, decoder.conv_s1, inputs=[fine, middle, coarse, memory]):
            return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse + memory.view(1, -1, 1, 1)

    def _split(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        width, (side, _) = self.hidden_dim, self.prompt_encoder.image_embedding_size
        shapes = (width // 8, 4 * side), (width // 4, 2 * side), (width, side)
        parts = features.to(dtype_of(self.mask_decoder.transformer)).split([c * s * s for c, s in shapes], dim=1)
        return tuple(part.unflatten(1, (c, s, s)) for part, (c, s) in zip(parts, shapes, strict=True))

    # once an object and round

    def _rounds(
        self, maps: tuple[torch.Tensor, ...], prompts: ObjectPrompts, chunk: list[int], number: int,
        next_clicks: NextClicks | None, *, full: bool = False,
    ) -> list[_Round]:  # fmt: skip
        """
        The rounds of a chunk of objects with prompts of one form (`training/model/sam2.py`, `_iter_correct_pt_sampling`). Every round sees all
        clicks so far and the best mask of the round before; its logits are neither detached nor clamped.

        Args:
            number (`int`): of rounds. next_clicks (`Callable`): of the rounds behind the first. full (`bool`): resize all logits to the canvas.
        """
        images, points, labels, masks = prompts.of(chunk)
        here = [level[images] for level in maps]
        dense = None if masks is None else self._mask_prompts(masks)
        rounds = []
        for step in range(number):
            if step:
                with torch.no_grad():
                    best = rounds[-1].chosen(rounds[-1].full) > 0
                    more, kinds = next_clicks(step, best)
                points = torch.cat([points, more[:, None].to(points.dtype)], dim=1)
                labels = torch.cat([labels, kinds[:, None].to(labels.dtype)], dim=1)
                dense = rounds[-1].chosen(rounds[-1].low)[:, None]
            rounds.append(self._decode(here, points, labels, dense))
            if full:
                low, side = rounds[-1].low, self.prompt_encoder.input_image_size
                rounds[-1].full = resize_logits(low.flatten(0, 1), side, side).unflatten(0, low.shape[:2])
        return rounds

    def _mask_prompts(self, masks: torch.Tensor) -> torch.Tensor:
        """Bool masks `(n, h, w)` as logits `(n, 1, h', w')` of the size that the prompt encoder reads."""
        logits = torch.where(masks[:, None], MASK_PROMPT, -MASK_PROMPT)
        return F.interpolate(logits, self.prompt_encoder.mask_input_size, mode="bilinear", antialias=True)

    def _decode(self, maps, points, labels, dense) -> _Round:
        """One pass of prompt encoder and decoder. Up to one point is ambiguous: three masks (`sam2_base.py`, `_use_multimask`)."""
        fine, middle, coarse = maps
        kind = dtype_of(self.prompt_encoder)
        with full_precision(coarse):
            sparse, embedded = self.prompt_encoder(
                points[:, None].to(kind), labels[:, None], None, None if dense is None else dense.to(kind)
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
        masks, ious = (torch.stack([one.chosen(getattr(one, name)) for one in rounds], 1) for name in ("low", "ious"))
        last = rounds[-1]
        tensors = {"candidates": rounds[0].low, "masks": masks, "ious": ious}
        if boxed is not None:
            tensors |= {"box_mask": boxed.low, "box_iou": boxed.ious}
        finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in tensors.values()]).tolist()
        for name, flags in zip(tensors, finite, strict=True):
            if not all(flags):
                raise NonFiniteOutputError(name, chunk[flags.index(False)])
        for row, number in enumerate(chunk):
            found = ObjectPrediction(
                number, masks[row], ious[row], rounds[0].low[row], last.points[row], last.labels[row]
            )
            if boxed is not None:
                found.box_mask, found.box_iou = boxed.chosen(boxed.low)[row], boxed.chosen(boxed.ious)[row]
            collect(found)


def _by_draws(truth: torch.Tensor, prompts: ObjectPrompts, at: torch.Tensor) -> NextClicks:
    """Training's clicks: uniform over what is wrong, or with `from_truth` inside the object."""
    draws, from_truth = prompts.click_draws[at], prompts.click_from_truth[at]
    return lambda step, masks: uniform_clicks(truth, masks, draws[:, step - 1], from_truth[:, step - 1])


def _at_centers(truth: torch.Tensor) -> NextClicks:
    """Evaluation's clicks, on the host."""
    wanted = truth.cpu().numpy()

    def clicks(step: int, masks: torch.Tensor):
        found = [center_click(*pair) for pair in zip(wanted, masks.cpu().numpy(), strict=True)]
        return tuple(torch.tensor(part, device=truth.device) for part in zip(*found, strict=True))

    return clicks
