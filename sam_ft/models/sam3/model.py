"""Modules and encoders of SAM 3's image model, and the forward that runs a step on a batch."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Sam3Model

from ...ops.prompts import PADDING_LABEL
from ..contexts import frozen_without_graph, full_precision, get_dtype
from ..offloading import OffloadingModel
from .batch import ConceptBatch
from .concepts import ConceptTokens
from .detr import embed_pixels, run_decoder
from .features import DecodedPairs, EncodedBatch
from .pairs import Pairs
from .steps import ConceptTrainingStep


class Sam3ForConceptSegmentation(OffloadingModel, Sam3Model):
    """
    SAM 3's image model with a forward for training, evaluation and prediction on (image, phrase) pairs.

    Module names equal those of `Sam3Model`, so checkpoints load in both classes. Called with `Sam3Model`'s arguments,
    the outputs are those of `Sam3Model`. Called with a batch of the collator, `forward` runs a step, which holds the
    criterion and the teacher of a run.

    Attributes:
        pairs_per_chunk (`int`): (image, phrase) pairs decoded at once. Set by [`configure`], as the two below.
        with_masks (`bool`): Whether masks are trained and predicted.
        pair_checkpointing (`bool`): Gradient checkpointing of fusion encoder, decoder and pixel decoder.
        concepts (`ConceptTokens`, *optional*): Learned prompt tokens of phrases; saved in files of their own.

    Examples:
        >>> loss = model(**Sam3Collator(processor.tokenizer)(samples)).loss  # with the default criterion
        >>> model(**batch, step=ConceptPredictionStep(DetectionLimits(score_threshold=0.5), predictions.append))
    """

    saved_as = Sam3Model
    cached_from, offloaded_when_cached = ("vision_encoder.backbone.",), ("vision_encoder.backbone",)
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
        self.pairs_per_chunk, self.with_masks, self.pair_checkpointing = 4, True, False
        self.concepts: ConceptTokens | None = None
        self.prepare_offloading()

    def configure(
        self,
        *,
        pairs_per_chunk: int | None = None,
        with_masks: bool | None = None,
        pair_checkpointing: bool | None = None,
    ) -> None:
        """
        Change settings of a run; a checkpoint does not contain them. Arguments that are `None` change nothing.

        Args:
            pairs_per_chunk (`int`, *optional*): (image, phrase) pairs decoded at once. Changes speed and memory, not
                results.
            with_masks (`bool`, *optional*): Train and predict masks.
            pair_checkpointing (`bool`, *optional*): Gradient checkpointing of fusion encoder, decoder and pixel
                decoder.
        """
        self.pairs_per_chunk = self.pairs_per_chunk if pairs_per_chunk is None else pairs_per_chunk
        self.with_masks = self.with_masks if with_masks is None else with_masks
        self.pair_checkpointing = self.pair_checkpointing if pair_checkpointing is None else pair_checkpointing

    def get_input_embeddings(self):
        """Return the ViT's patch embedding. Accelerate's FSDP2 calls this method, and `Sam3Model` raises an error."""
        return self.vision_encoder.get_input_embeddings()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        pair_image: list[int] | None = None,
        labels: list[dict] | None = None,
        step: Callable | None = None,
        **inputs,
    ):
        """
        Run a step on a batch, or `Sam3Model.forward` without `pair_image`.

        Args:
            pixel_values (`torch.Tensor`, *optional*): As in [`ConceptBatch`], or as in `Sam3Model.forward`.
            pair_image (`list[int]`, *optional*): Image index of each (image, phrase) pair of the batch.
            labels (`list[dict]`, *optional*): As in [`PairLabels`].
            step (`Callable`, *optional*): `step(model, batch)`: [`ConceptTrainingStep`], [`ConceptEvaluationStep`] or
                [`ConceptPredictionStep`]. Default: a training step with the default criterion.
            **inputs: Further keys of [`ConceptBatch.from_inputs`], or further arguments of `Sam3Model.forward`.

        Returns:
            `LossOutput`, or the output of `Sam3Model` without `pair_image`.

        Raises:
            `TypeError`: If `inputs` has an unknown key.
            `ValueError`, `NonFiniteOutputError`: As the step raises them.
        """
        if pair_image is None:
            return super().forward(pixel_values, **inputs)
        inputs |= {"pixel_values": pixel_values, "pair_image": pair_image, "labels": labels}
        return (step or ConceptTrainingStep())(self, ConceptBatch.from_inputs(inputs))

    def encode(self, batch: ConceptBatch) -> EncodedBatch:
        """
        Encode images and phrases of a batch; precomputed features are used where the batch has them.

        Phrases with a concept get its tokens in place of their text features. Tokens of exemplars in other images
        follow them.
        """
        vision_features, text_features = batch.vision_features, batch.text_features
        if vision_features is None:
            vision_features = self.encode_images(batch.pixel_values)
        if text_features is None:
            text_features = self.encode_texts(batch.input_ids, batch.attention_mask)
        text_mask = batch.attention_mask.bool()
        if batch.concept_index is not None and self.concepts is not None:
            text_features, text_mask = self.concepts.insert(text_features, text_mask, batch.concept_index)
        if batch.reference_tokens is not None:
            text_features = torch.cat([text_features, batch.reference_tokens], dim=1)
            text_mask = torch.cat([text_mask, batch.reference_mask], dim=1)
        return EncodedBatch(self.compute_pyramid(vision_features), text_features, text_mask)

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Compute the ViT features `(I, h, w, C)` of `pixel_values` as in `forward`."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = pixel_values.float() / 127.5 - 1  # mean and standard deviation 0.5, as in SAM 3's processor
        self.refuse_if_offloaded("vision_encoder.backbone", "`vision_features`")
        trunk = self.vision_encoder.backbone
        with frozen_without_graph(trunk):
            tokens = trunk(pixel_values).last_hidden_state  # (I, h·w, C)
        patch = trunk.config.patch_size
        return tokens.unflatten(1, tuple(side // patch for side in pixel_values.shape[-2:]))

    def encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the text features `(T, 32, C)` of T phrases, projected to the fusion encoder's width."""
        self.refuse_if_offloaded("text_encoder", "`text_features`")
        with frozen_without_graph(self.text_encoder, self.text_projection):
            text = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.text_projection(text.to(get_dtype(self.text_projection)))

    def compute_pyramid(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the neck's levels `(I, C, h_i, w_i)`, fine to coarse, without the unused coarsest."""
        neck = self.vision_encoder.neck
        grid = features.to(get_dtype(neck)).permute(0, 3, 1, 2)
        with frozen_without_graph(neck, inputs=[features]):
            pyramid = tuple(level(grid) for level in neck.fpn_layers[:-1])
        if not torch.is_autocast_enabled(features.device.type):  # the parts behind the encoders are float32
            pyramid = tuple(level.to(get_dtype(self.detr_encoder)) for level in pyramid)
        return pyramid

    def decode(self, encoded: EncodedBatch, pairs: Pairs, chunk: list[int], *, with_one_to_many: bool) -> DecodedPairs:
        """
        Run geometry encoder, fusion encoder, decoder and scoring for the pairs of a chunk.

        Args:
            encoded (`EncodedBatch`): Features of the images and phrases.
            pairs (`Pairs`): All pairs of the batch.
            chunk (`list[int]`): Indices of the pairs to decode.
            with_one_to_many (`bool`): Add a second set of queries for the one-to-many loss; see [`run_decoder`].
        """
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

        fused = self._run_stage(
            self.detr_encoder,
            vision_features=[coarse],
            text_features=prompt,
            vision_pos_embeds=[position.to(coarse.dtype).expand(len(chunk), -1, -1, -1)],
            text_mask=prompt_mask,
        ).last_hidden_state
        decoder = self._run_stage(
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

    def encode_geometry(self, coarse, position, boxes, box_labels, with_token):
        """
        Encode the exemplar boxes of p pairs.

        Args:
            coarse (`torch.Tensor` of shape `(p, C, h, w)`): Coarsest level of the pyramid.
            position (`torch.Tensor` of shape `(1, C, h, w)`): Position encoding of `coarse`.
            boxes (`torch.Tensor` of shape `(p, K, 4)`): As `boxes` of [`Pairs`].
            box_labels (`torch.Tensor` of shape `(p, K)`): As `box_labels` of [`Pairs`].
            with_token (`torch.Tensor` of shape `(p,)`, bool): As `geometry_token` of [`Pairs`].

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Tokens of the boxes and the CLS token, `(p, K + 1, C)`; attention
                mask, `False` for all tokens of a pair without boxes and without `with_token`.
        """
        valid, dtype = box_labels != PADDING_LABEL, get_dtype(self.geometry_encoder)
        with full_precision(coarse):
            encoded = self.geometry_encoder(
                box_embeddings=boxes.to(dtype),
                box_mask=valid,
                box_labels=box_labels.clamp(min=0),
                img_feats=(coarse.to(dtype),),
                img_pos_embeds=(position.to(dtype).expand(coarse.shape[0], -1, -1, -1),),
            )
        is_used = with_token | valid.any(1)
        return encoded.last_hidden_state, encoded.attention_mask & is_used[:, None]

    def encode_exemplars(
        self, pixel_values: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Encode exemplar boxes of one image, as a prompt for other images or the initial tokens of a concept.

        Args:
            pixel_values (`torch.Tensor` of shape `(1, 3, H, W)`): The image, as in [`encode_images`].
            boxes (`torch.Tensor` of shape `(1, K, 4)`): Boxes `(cx, cy, w, h)`, normalised.
            labels (`torch.Tensor` of shape `(1, K)`, *optional*): 1 for a positive exemplar, 0 for a negative one; all
                are positive by default.

        Returns:
            `torch.Tensor` of shape `(K + 1, C)`: Tokens of the boxes, then the CLS token.
        """
        coarse = self.compute_pyramid(self.encode_images(pixel_values))[-1]
        position = self.vision_encoder.neck.position_encoding((1, *coarse.shape[1:]), coarse.device, torch.float32)
        labels = torch.ones(boxes.shape[:2], dtype=torch.long) if labels is None else labels
        used = torch.ones(1, dtype=torch.bool, device=coarse.device)
        tokens, _ = self.encode_geometry(coarse, position, boxes.to(coarse.device), labels.to(coarse.device), used)
        return tokens[0]

    def embed_pixels(self, decoded: DecodedPairs) -> torch.Tensor:
        """Compute the pixel embeddings `(num_pairs, C, h, w)` of the mask head for the pairs of a chunk."""
        return self._run_stage(
            embed_pixels,
            self.mask_decoder,
            list(decoded.pyramid),
            decoded.images,
            decoded.vision,
            decoded.prompt,
            decoded.prompt_mask,
        )

    def _run_stage(self, function: Callable, *args, **kwargs):
        """Call a stage; `pair_checkpointing` recomputes its activations in the backward pass."""
        if self.pair_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **kwargs)
        return function(*args, **kwargs)
