"""Training forward of SAM 3's image model: `Sam3Model` with a loss."""

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


# Parameters outside these prefixes are applied to a chunk of pairs, not once a batch.
ENCODER_PREFIXES = ("vision_encoder.", "text_encoder.", "text_projection.")


class Sam3ForConceptSegmentation(ParkingModel, Sam3Model):
    """
    SAM 3's image model with a training forward.

    Module names equal those of `Sam3Model`, so checkpoints load in both classes. Called with `Sam3Model`'s arguments,
    the outputs are those of `Sam3Model`. The attributes below are settings of a run; a checkpoint does not contain
    them.

    Attributes:
        criterion (`Callable`): `criterion(outputs, targets, normalizers) -> (loss, parts)`; see [`Sam3Criterion`].
        pairs_per_chunk (`int`): (image, phrase) pairs decoded at once. Changes speed and memory, not results.
        with_masks (`bool`): Whether masks are trained and predicted.
        teacher ([`Teacher`], *optional*): Frozen model that predicts the targets of distillation pairs.
        pair_checkpointing (`bool`): Gradient checkpointing of fusion encoder, decoder and pixel decoder.
    """

    saved_as = Sam3Model
    cached_from, parked_when_cached = ("vision_encoder.backbone.",), ("vision_encoder.backbone",)
    supports_gradient_checkpointing = True  # each ViT and text layer is a GradientCheckpointingLayer
    accepts_loss_kwargs = True
    # Box arithmetic in bfloat16 is off by pixels, and these are only 33 M of 840 M parameters.
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
        """Return the ViT's patch embedding. Accelerate's FSDP2 calls this method, and `Sam3Model` raises an error."""
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
        Compute the loss or the predictions of a batch of I images, T phrases, P pairs and S distillation pairs.

        Args:
            pixel_values (`torch.Tensor` of shape `(I, 3, H, W)`): uint8 in 0…255, or normalised floats.
            input_ids (`torch.Tensor` of shape `(T, 32)`): Tokens of the distinct phrases of the batch.
            attention_mask (`torch.Tensor` of shape `(T, 32)`): 1 for a token, 0 for padding.
            pair_image (`list[int]` of length P): Image index of each pair. Without it, `Sam3Model.forward` is called.
            pair_phrase (`list[int]` of length P): Phrase index of each pair.
            input_boxes (`torch.Tensor` of shape `(P, K, 4)`): Exemplar boxes `(cx, cy, w, h)` in `[0, 1]`, K ≥ 1.
            input_boxes_labels (`torch.Tensor` of shape `(P, K)`): 1 positive, 0 negative, -10 padding.
            geometry_token (`torch.Tensor` of shape `(P,)`, bool, *optional*): Whether the prompt of a pair without
                boxes contains the geometry encoder's CLS token. Official model: always (default). `Sam3Model`: never.
            pair_instances (`list[list[int]]` of length P): Indices of each pair's instances in the image's `masks`.
            pair_ignore (`list[list[int]]` of length P): Indices of each pair's ignored regions in `ignore`.
            pair_exhaustive (`list[bool]` of length P): `False` if the image may contain unlabelled instances.
            vision_features (`torch.Tensor` of shape `(I, h, w, C)`, *optional*): ViT features of [`encode_images`].
            text_features (`torch.Tensor` of shape `(T, 32, C)`, *optional*): Text features of [`encode_texts`].
            soft_image (`list[int]` of length S, *optional*): Image index of each distillation pair.
            soft_phrase (`list[int]` of length S, *optional*): Phrase index of each distillation pair.
            soft_token (`torch.Tensor` of shape `(S,)`, bool, *optional*): `geometry_token` of the distillation pairs.
            labels (`list[dict]` of length I, *optional*): `boxes (N, 4)` normalised `(cx, cy, w, h)`,
                `masks (N, H, W)` bool or `None`, `has_mask` (N bools), `ignore (R, H, W)` bool or `None`,
                `example_id`, `phrases`.
            normalizers (`torch.Tensor` of shape `(3,)` or `(4,)`, *optional*): Numbers of instances, pairs, pairs with
                a semantic map, and distillation pairs that divide the loss terms. Default: counts of this batch.
            keep (`Keep`, *optional*): Evaluation: selection of queries.
            collect (`Callable`, *optional*): Evaluation: receives the [`PairPrediction`] of each pair in turn.
            **kwargs: Further arguments of `Sam3Model.forward`.

        Returns:
            `ConceptLossOutput`, or the output of `Sam3Model` without `pair_image`.

        Raises:
            `ValueError`: If the matching cost is not finite; names example and phrase.
            `NonFiniteOutputError`: If a prediction for `collect` contains NaN or infinity.
        """
        if pair_image is None:
            kwargs |= {"input_boxes": input_boxes, "input_boxes_labels": input_boxes_labels}
            return super().forward(pixel_values, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
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
        soft_pairs = teacher_features = None
        if soft_image:
            soft_pairs = Pairs.of_text(soft_image, soft_phrase, soft_token)
            with self.teacher.model(encoded.text.device) as teacher:
                teacher_features = teacher._encode(*inputs)

        def chunk_loss(block, *tensors):
            (is_soft, chunk), (*pyramid, text) = block, tensors
            features = EncodedBatch(tuple(pyramid), text, encoded.text_mask)
            if is_soft:
                return self._distillation_loss(features, teacher_features, soft_pairs, chunk, normalizers)
            decoded = self._decode(features, pairs, chunk, with_one_to_many=True)
            targets = truth.targets(chunk, self.with_masks)
            masks = self.with_masks and targets.masks is not None and sum(targets.counts) > 0
            pixels = self._embed_pixels(decoded) if masks else None
            if collect is not None:
                self._predict(decoded, chunk, keep, collect, pixels)
            outputs = self._outputs(decoded, pixels)
            with full_precision(text):
                return self.criterion(outputs, targets, normalizers)

        blocks = [(False, chunk) for chunk in pairs.chunks(self.pairs_per_chunk, truth.present())]
        if soft_pairs is not None:
            blocks += [(True, chunk) for chunk in soft_pairs.chunks(self.pairs_per_chunk, present=None)]
        in_chunks = [p for n, p in self.named_parameters() if p.requires_grad and not n.startswith(ENCODER_PREFIXES)]
        loss, parts = sum_over_blocks(chunk_loss, blocks, (*encoded.pyramid, encoded.text), in_chunks)
        return ConceptLossOutput(loss=loss, parts=sum_parts(parts))

    def _distillation_loss(
        self,
        encoded: EncodedBatch,
        teacher_features: EncodedBatch,
        soft_pairs: Pairs,
        chunk: list[int],
        normalizers: Normalizers,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the distillation loss of a chunk of distillation pairs."""
        with self.teacher.model(encoded.text.device) as teacher:
            targets = teacher._soft_predictions(
                teacher._decode(teacher_features, soft_pairs, chunk, with_one_to_many=False)
            )
        predictions = self._soft_predictions(
            self._decode(encoded, soft_pairs, chunk, with_one_to_many=False), targets.rows
        )
        with full_precision(encoded.text):
            loss = self.teacher.weight * distillation_loss(predictions, targets) / normalizers.soft_pairs
        return loss, {"loss_distill": loss.detach()}

    def _soft_predictions(self, decoded: DecodedPairs, rows=None) -> SoftAnswers:
        """Collect predictions; masks only of the (pair, query) `rows`, by default of the detections."""
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
        """Compute the ViT features `(I, h, w, C)` of `pixel_values` as in `forward`."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = pixel_values.float() / 127.5 - 1  # mean and standard deviation 0.5, as in SAM 3's processor
        self.refuse_if_parked("vision_encoder.backbone", "`vision_features`")
        trunk = self.vision_encoder.backbone
        with frozen_without_graph(trunk):
            tokens = trunk(pixel_values).last_hidden_state  # (I, h·w, C)
        patch = trunk.config.patch_size
        return tokens.unflatten(1, tuple(side // patch for side in pixel_values.shape[-2:]))

    def encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the text features `(T, 32, C)` of T phrases, projected to the fusion encoder's width."""
        self.refuse_if_parked("text_encoder", "`text_features`")
        with frozen_without_graph(self.text_encoder, self.text_projection):
            text = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.text_projection(text.to(dtype_of(self.text_projection)))

    def pyramid(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the neck's levels `(I, C, h_i, w_i)`, fine to coarse, without the unused coarsest."""
        neck = self.vision_encoder.neck
        grid = features.to(dtype_of(neck)).permute(0, 3, 1, 2)
        with frozen_without_graph(neck, inputs=[features]):
            pyramid = tuple(level(grid) for level in neck.fpn_layers[:-1])
        if not torch.is_autocast_enabled(features.device.type):  # the parts behind the encoders are float32
            pyramid = tuple(level.to(dtype_of(self.detr_encoder)) for level in pyramid)
        return pyramid

    def _decode(
        self, encoded: EncodedBatch, pairs: Pairs, chunk: list[int], *, with_one_to_many: bool
    ) -> DecodedPairs:
        """Run geometry encoder, fusion encoder, decoder and scoring for the pairs of a chunk."""
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
        Encode the exemplar boxes of p pairs.

        Args:
            coarse (`torch.Tensor` of shape `(p, C, h, w)`): Coarsest level of the pyramid.
            position (`torch.Tensor` of shape `(1, C, h, w)`): Position encoding of `coarse`.
            boxes (`torch.Tensor` of shape `(p, K, 4)`): As `input_boxes` of `forward`.
            box_labels (`torch.Tensor` of shape `(p, K)`): As `input_boxes_labels` of `forward`.
            shown (`torch.Tensor` of shape `(p,)`, bool): As `geometry_token` of `forward`.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Tokens of the boxes and the CLS token, `(p, K + 1, C)`; attention
                mask,
            `False` for all tokens of a pair without boxes and `shown`.
        """
        valid, dtype = box_labels != -10, dtype_of(self.geometry_encoder)
        with full_precision(coarse):
            encoded = self.geometry_encoder(
                box_embeddings=boxes.to(dtype),
                box_mask=valid,
                box_labels=box_labels.clamp(min=0),
                img_feats=(coarse.to(dtype),),
                img_pos_embeds=(position.to(dtype).expand(coarse.shape[0], -1, -1, -1),),
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
        """Call a stage; `pair_checkpointing` recomputes its activations in the backward pass."""
        if self.pair_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **kwargs)
        return function(*args, **kwargs)

    def _outputs(self, decoded: DecodedPairs, pixels: torch.Tensor | None) -> ConceptOutputs:
        """Collect the criterion's inputs; masks stay factored until the criterion selects queries."""
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
        """Pass scores, boxes and masks of the selected queries to `collect`."""
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
            selected = order[i, :count]
            rows = None
            if masks is not None and count:
                embeddings = self.mask_decoder.mask_embedder(decoded.decoder.hidden_states[-1, i, selected])
                rows = torch.einsum("qc,chw->qhw", embeddings, masks[i])
                check_output(rows, "masks", pair)
            collect(PairPrediction(pair, presence[i], values[i, :count], boxes[i, selected], rows))
