"""`Sam3Model` with a loss: the training forward of SAM 3's image model."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Sam3Model

from ...losses.distillation import SoftAnswers, distillation_loss, held_queries
from ...losses.sam3 import Sam3Criterion
from ...losses.structures import ConceptOutputs, FactoredMasks, Normalizers, QueryOutputs
from ...ops.blocks import sum_over_blocks, sum_parts
from ..contexts import dtype_of, frozen_without_graph, full_precision
from ..features import DecodedPairs, EncodedBatch
from ..finite import check_output
from ..offloading import ParkingModel
from ..outputs import ConceptLossOutput, Keep, PairPrediction, select_queries
from .detr import boxes_to_xyxy, embed_pixels, run_decoder
from .pairs import PairLabels, Pairs
from .teacher import Teacher


# parameters outside these prefixes run pair by pair, inside a chunk
ENCODER_PREFIXES = ("vision_encoder.", "text_encoder.", "text_projection.")


class Sam3ForConceptSegmentation(ParkingModel, Sam3Model):
    """
    SAM 3's image model with every output that its loss needs. Module names are `Sam3Model`'s, so its checkpoints load in
    `Sam3Model` and the other way round; called with `Sam3Model`'s own arguments it is `Sam3Model`.

    Five settings are attributes, because they belong to a run and not to a checkpoint:

        criterion (`Callable`): `criterion(outputs, targets, normalizers) -> (loss, parts)`; see [`Sam3Criterion`].
        pairs_per_chunk (`int`): (image, phrase) pairs in memory at once. Changes speed and memory, no result.
        with_masks (`bool`): whether masks are trained and predicted.
        teacher ([`Teacher`], *optional*): says what soft pairs should be answered with.
        pair_checkpointing (`bool`): hold the activations of fusion encoder, decoder or pixel decoder, not of all three;
            each runs once more in a chunk's backward pass.
    """

    saved_as = Sam3Model
    cached_from, parked_when_cached = ("vision_encoder.backbone.",), ("vision_encoder.backbone",)
    supports_gradient_checkpointing = True  # every ViT and text layer is a GradientCheckpointingLayer already
    accepts_loss_kwargs = True
    # 33 M of 840 M parameters; box arithmetic in bf16 is off by pixels
    _keep_in_fp32_modules_strict = [
        "geometry_encoder",
        "detr_encoder",
        "detr_decoder",
        "mask_decoder",
        "dot_product_scoring",
        "text_projection",
    ]

    def __init__(self, config):
        super().__init__(config)
        self.detr_decoder.clamp_presence_logit_max_val = float("inf")  # the official clamp discards its result
        self.criterion = Sam3Criterion()
        self.pairs_per_chunk = 4
        self.with_masks = True
        self.pair_checkpointing = False
        self.teacher: Teacher | None = None
        self.prepare_parking()

    def get_input_embeddings(self):
        """The ViT's patch embedding; `Sam3Model` raises here, and accelerate's FSDP2 calls it."""
        return self.vision_encoder.get_input_embeddings()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pair_image: list[int] | None = None,
        pair_phrase: list[int] | None = None,
        input_boxes: torch.Tensor | None = None,
        input_boxes_labels: torch.Tensor | None = None,
        geometry_token: torch.Tensor | None = None,
        pair_instances: list[list[int]] | None = None,
        pair_ignore: list[list[int]] | None = None,
        pair_exhaustive: list[bool] | None = None,
        vision_features: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        soft_image: list[int] | None = None,
        soft_phrase: list[int] | None = None,
        soft_token: torch.Tensor | None = None,
        labels: list[dict] | None = None,
        normalizers: torch.Tensor | None = None,
        keep: Keep | None = None,
        collect: Callable[[PairPrediction], None] | None = None,
        **kwargs,
    ):
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(I, 3, H, W)`): uint8 in 0…255, or float already normalised.
            input_ids (`torch.Tensor` of shape `(T, 32)`), attention_mask (`(T, 32)`): the batch's distinct phrases.
            pair_image, pair_phrase (`list[int]` of length P): which image and which phrase each pair is.
            input_boxes (`torch.Tensor` of shape `(P, K, 4)`): exemplar boxes `(cx, cy, w, h)` in `[0, 1]`, K ≥ 1.
            input_boxes_labels (`torch.Tensor` of shape `(P, K)`): 1 positive, 0 negative, -10 padding.
            geometry_token (`torch.Tensor` of shape `(P,)`, *optional*): bool; whether a pair without boxes sees the
                geometry encoder's CLS token. The official model always shows it, `Sam3Model` never does. Default: always.
            pair_instances, pair_ignore (`list[list[int]]` of length P): indices into the image's `masks` and `ignore`.
            pair_exhaustive (`list[bool]` of length P): `False` where other instances may be unlabelled.
            vision_features (`torch.Tensor` of shape `(I, h, w, C)`, *optional*): what the ViT says of the images, instead of
                `pixel_values`; see [`encode_images`].
            text_features (`torch.Tensor` of shape `(T, 32, C)`, *optional*): what the text tower says of the phrases, which is
                then not run; see [`encode_texts`].
            soft_image, soft_phrase (`list[int]` of length S), soft_token (`torch.Tensor` of shape `(S,)`, bool, *optional*): pairs without
                labels, held to what the `teacher` says of them; as `pair_image`, `pair_phrase` and `geometry_token`.
            labels (`list[dict]` of length I, *optional*): `boxes (N, 4)` normalised `(cx, cy, w, h)`, `masks (N, H, W)`
                bool or `None`, `has_mask` (N bools), `ignore (R, H, W)` bool or `None`, `example_id`, `phrases`.
            normalizers (`torch.Tensor` of shape `(3,)` or `(4,)`, *optional*): instances, pairs, pairs with a semantic map, and soft
                pairs that the loss is divided by; the batch's own where not given.
            keep (`Keep`, *optional*), collect (`Callable`, *optional*): evaluation; `collect` receives each pair's
                [`PairPrediction`] as soon as it exists, so that none has to be held.

        Returns:
            `ConceptLossOutput`; `Sam3Model`'s output where `pair_image` is not given.

        Raises:
            `ValueError`: where the matching cost is not finite; names example and phrase.
            `NonFiniteOutputError`: If a prediction that `collect` would receive contains NaN or infinity.
        """
        if pair_image is None:
            given = {"input_boxes": input_boxes, "input_boxes_labels": input_boxes_labels}
            return super().forward(pixel_values, input_ids=input_ids, attention_mask=attention_mask, **given, **kwargs)
        if geometry_token is None:
            geometry_token = torch.ones(len(pair_image), dtype=torch.bool, device=input_boxes.device)
        pairs = Pairs(pair_image, pair_phrase, input_boxes, input_boxes_labels, geometry_token)
        inputs = pixel_values, vision_features, input_ids, attention_mask, text_features
        encoded = self._encode(*inputs)
        if labels is None:
            for chunk in pairs.chunks(self.pairs_per_chunk, present=None):
                self._predict(self._decode(encoded, pairs, chunk, with_one_to_many=False), chunk, keep, collect)
            return ConceptLossOutput()

        truth = PairLabels(labels, pairs, pair_instances, pair_ignore, pair_exhaustive)
        normalizers = truth.normalizers(len(soft_image or ())) if normalizers is None else Normalizers(*normalizers)
        soft = taught = None
        if soft_image:
            soft = Pairs.of_text(soft_image, soft_phrase, soft_token)
            with self.teacher.model(encoded.text.device) as teacher:
                taught = teacher._encode(*inputs)

        def chunk_loss(block, *tensors):
            (is_soft, chunk), (*pyramid, text) = block, tensors
            here = EncodedBatch(tuple(pyramid), text, encoded.text_mask)
            if is_soft:
                return self._stray(here, taught, soft, chunk, normalizers)
            decoded = self._decode(here, pairs, chunk, with_one_to_many=True)
            targets = truth.targets(chunk, self.with_masks)
            masks = self.with_masks and targets.masks is not None and sum(targets.counts) > 0
            pixels = self._embed_pixels(decoded) if masks else None
            if collect is not None:
                self._predict(decoded, chunk, keep, collect, pixels)
            outputs = self._outputs(decoded, pixels)
            with full_precision(text):
                return self.criterion(outputs, targets, normalizers)

        blocks = [(False, chunk) for chunk in pairs.chunks(self.pairs_per_chunk, truth.present())]
        if soft is not None:
            blocks += [(True, chunk) for chunk in soft.chunks(self.pairs_per_chunk, present=None)]
        in_chunks = [p for n, p in self.named_parameters() if p.requires_grad and not n.startswith(ENCODER_PREFIXES)]
        loss, parts = sum_over_blocks(
            chunk_loss,
            blocks,
            (*encoded.pyramid, encoded.text),
            in_chunks,
        )
        return ConceptLossOutput(loss=loss, parts=sum_parts(parts))

    def _stray(
        self, encoded: EncodedBatch, taught: EncodedBatch, soft: Pairs, chunk: list[int], normalizers: Normalizers
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """How far the answers to a chunk of soft pairs are from the teacher's."""
        with self.teacher.model(encoded.text.device) as teacher:
            wanted = teacher._soft_answers(teacher._decode(taught, soft, chunk, with_one_to_many=False))
        said = self._soft_answers(self._decode(encoded, soft, chunk, with_one_to_many=False), wanted.rows)
        with full_precision(encoded.text):
            loss = self.teacher.weight * distillation_loss(said, wanted) / normalizers.soft_pairs
        return loss, {"loss_distill": loss.detach()}

    def _soft_answers(self, decoded: DecodedPairs, rows=None) -> SoftAnswers:
        """`rows`: pair and query of the masks; those of its own detections where not given."""
        queries = slice(self.detr_decoder.config.num_queries)
        presence, logits = decoded.decoder.presence_logits[-1], decoded.logits[-1][:, queries]
        rows = held_queries(presence, logits) if rows is None else rows
        masks = None
        if self.with_masks and len(rows[0]):
            pixels = self.mask_decoder.instance_projection(self._embed_pixels(decoded))
            embeddings = self.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1][rows])
            masks = torch.einsum("rc,rchw->rhw", embeddings, pixels[rows[0]])
        return SoftAnswers(presence, logits, decoded.decoder.boxes[-1][:, queries], rows, masks)

    def _encode(self, pixel_values, vision_features, input_ids, attention_mask, text_features) -> EncodedBatch:
        if vision_features is None:
            vision_features = self.encode_images(pixel_values)
        if text_features is None:
            text_features = self.encode_texts(input_ids, attention_mask)
        return EncodedBatch(self.pyramid(vision_features), text_features, attention_mask.bool())

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The ViT's answer `(I, h, w, C)` to images `(I, 3, H, W)`, before the neck; pixels as in `forward`."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = pixel_values.float() / 127.5 - 1  # mean and standard deviation 0.5, as SAM 3's processor
        self.refuse_if_parked("vision_encoder.backbone", "`vision_features`")
        trunk = self.vision_encoder.backbone
        with frozen_without_graph(trunk):
            tokens = trunk(pixel_values).last_hidden_state  # (I, h·w, C)
        patch = trunk.config.patch_size
        return tokens.unflatten(1, tuple(side // patch for side in pixel_values.shape[-2:]))

    def encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The text tower's answer `(T, 32, C)` to phrases `(T, 32)`, projected to the fusion encoder's width."""
        self.refuse_if_parked("text_encoder", "`text_features`")
        with frozen_without_graph(self.text_encoder, self.text_projection):
            text = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.text_projection(text.to(dtype_of(self.text_projection)))

    def pyramid(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The neck's levels, fine to coarse, each `(I, C, h_i, w_i)`, of the ViT's answer `(I, h, w, C)`. Its coarsest is never used: skipped."""
        neck = self.vision_encoder.neck
        grid = features.to(dtype_of(neck)).permute(0, 3, 1, 2)
        with frozen_without_graph(neck, inputs=[features]):
            pyramid = tuple(level(grid) for level in neck.fpn_layers[:-1])
        if not torch.is_autocast_enabled(features.device.type):  # half-precision encoders before float32 parts
            pyramid = tuple(level.to(dtype_of(self.detr_encoder)) for level in pyramid)
        return pyramid

    def _decode(
        self, encoded: EncodedBatch, pairs: Pairs, chunk: list[int], *, with_one_to_many: bool
    ) -> DecodedPairs:
        """Geometry encoder, fusion encoder, decoder and scores for the pairs of a chunk."""
        device = encoded.text.device
        images = [pairs.image[pair] for pair in chunk]
        image, phrase, pair = (
            torch.tensor(index).to(device, non_blocking=True)
            for index in (images, [pairs.phrase[p] for p in chunk], chunk)
        )
        coarse = encoded.pyramid[-1][image]  # (p, C, h, w)
        position = self.vision_encoder.neck.position_encoding((1, *coarse.shape[1:]), device, torch.float32)
        geometry, geometry_mask = self.encode_geometry(
            coarse, position, pairs.boxes[pair], pairs.box_labels[pair], pairs.geometry_token[pair]
        )
        prompt = torch.cat([encoded.text[phrase], geometry], dim=1)
        prompt_mask = torch.cat([encoded.text_mask[phrase], geometry_mask], dim=1)

        fused = self._stage(
            self.detr_encoder,
            vision_features=[coarse],
            text_features=prompt,
            vision_pos_embeds=[position.to(coarse.dtype).expand(len(chunk), -1, -1, -1)],
            text_mask=prompt_mask,
        ).last_hidden_state
        decoder = self._stage(
            run_decoder,
            self.detr_decoder,
            fused,
            position.to(coarse.dtype).flatten(2).transpose(1, 2),
            prompt,
            prompt_mask,
            tuple(coarse.shape[-2:]),
            with_one_to_many=with_one_to_many,
        )
        logits = self.dot_product_scoring(decoder.hidden_states, prompt, prompt_mask)[..., 0]
        return DecodedPairs(images, encoded.pyramid, fused, prompt, prompt_mask, logits, decoder)

    def encode_geometry(self, coarse, position, boxes, box_labels, shown):
        """
        Tokens `(p, K + 1, C)` and mask of exemplar boxes and the CLS token; masked whole where a pair shows none.

        Args:
            coarse, position: the coarsest level `(p, C, h, w)` and its position encoding `(1, C, h, w)`.
            boxes, box_labels, shown: of the pairs, as `input_boxes`, `input_boxes_labels` and `geometry_token` of `forward`.
        """
        valid, kind = box_labels != -10, dtype_of(self.geometry_encoder)
        with full_precision(coarse):
            encoded = self.geometry_encoder(
                box_embeddings=boxes.to(kind),
                box_mask=valid,
                box_labels=box_labels.clamp(min=0),
                img_feats=(coarse.to(kind),),
                img_pos_embeds=(position.to(kind).expand(coarse.shape[0], -1, -1, -1),),
            )
        shown = shown | valid.any(1)
        return encoded.last_hidden_state, encoded.attention_mask & shown[:, None]

    def _embed_pixels(self, decoded: DecodedPairs) -> torch.Tensor:
        return self._stage(
            embed_pixels,
            self.mask_decoder,
            list(decoded.pyramid),
            decoded.images,
            decoded.vision,
            decoded.prompt,
            decoded.prompt_mask,
        )

    def _stage(self, function: Callable, *args, **kwargs):
        """Runs a stage; with `pair_checkpointing` its activations are recomputed when its gradient is due."""
        if self.pair_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **kwargs)
        return function(*args, **kwargs)

    def _outputs(self, decoded: DecodedPairs, pixels: torch.Tensor | None) -> ConceptOutputs:
        """What the criterion sees; masks stay factored until it has chosen its rows."""
        num_queries = self.detr_decoder.config.num_queries
        masks, semantic = None, None
        if pixels is not None:
            embeddings = self.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1])
            masks = self.mask_decoder.instance_projection(pixels), embeddings
            semantic = self.mask_decoder.semantic_projection(pixels)[:, 0]

        def queries(part: slice):
            factored = None if masks is None else FactoredMasks(masks[1][:, part], masks[0])
            return QueryOutputs(decoded.logits[:, :, part], decoded.decoder.boxes[:, :, part], factored)

        return ConceptOutputs(
            queries(slice(0, num_queries)),
            queries(slice(num_queries, None)),
            decoded.decoder.presence_logits,
            semantic,
        )

    @torch.no_grad()
    def _predict(self, decoded: DecodedPairs, chunk: list[int], keep: Keep, collect: Callable, pixels=None):
        """Scores, boxes and masks of the kept queries; the mask head runs only where one is kept."""
        queries = slice(self.detr_decoder.config.num_queries)
        presence = decoded.decoder.presence_logits[-1].float().sigmoid()  # (p,)
        scores = decoded.logits[-1][:, queries].float().sigmoid() * presence[:, None]
        boxes = boxes_to_xyxy(decoded.decoder.boxes[-1][:, queries])
        values, order, counts = select_queries(presence, scores, boxes, keep, chunk)
        masks = None
        if self.with_masks and any(counts):
            pixels = self._embed_pixels(decoded) if pixels is None else pixels
            masks = self.mask_decoder.instance_projection(pixels)
        for i, (pair, count) in enumerate(zip(chunk, counts)):
            kept = order[i, :count]
            rows = None
            if masks is not None and count:
                embeddings = self.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1, i, kept])
                rows = torch.einsum("qc,chw->qhw", embeddings, masks[i])
                check_output(rows, "masks", pair)
            collect(PairPrediction(pair, presence[i], values[i, :count], boxes[i, kept], rows))
