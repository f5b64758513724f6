"""Modules and encoders of SAM 3's image model, and the forward that runs a step on a batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Sam3Config, Sam3Model
from transformers.utils import ModelOutput

from ...ops.indices import to_index
from ...ops.prompts import PADDING_LABEL
from ..contexts import cast_output, frozen_without_graph, get_dtype
from ..offloading import OffloadingModel
from .attention_bias import build_padding_bias
from .batch import ConceptBatch
from .concepts import ConceptTokens
from .detr import embed_pixels, run_decoder, run_fusion_encoder
from .features import DecodedPairs, EncodedBatch, EncodedPairs
from .geometry import encode_geometry
from .pairs import Pairs
from .steps import ConceptTrainingStep
from .vit_layers import compile_layers, use_fast_layers


class Sam3ForConceptSegmentation(OffloadingModel, Sam3Model):
    """
    SAM 3's image model with a forward for training, evaluation and prediction on (image, phrase) pairs.

    Module names equal those of `Sam3Model`, so checkpoints load in both classes. Called with `Sam3Model`'s arguments,
    the outputs are those of `Sam3Model`. Called with a batch of the collator, `forward` runs a step, which holds the
    criterion and the teacher of a run.

    Attributes:
        pairs_per_chunk (`int`): (image, phrase) pairs decoded at once. Set by [`configure`], as the three below.
        with_masks (`bool`): Whether masks are trained and predicted.
        pair_checkpointing (`bool`): Gradient checkpointing of fusion encoder, decoder and pixel decoder.
        compile_vision (`bool` or `str`): Compilation of the ViT layers, see [`compile_layers`].
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

    def __init__(self, config: Sam3Config) -> None:
        super().__init__(config)
        use_fast_layers(self.vision_encoder.backbone)
        for layer in self.text_encoder.text_model.encoder.layers:
            cast_output(layer.layer_norm1)  # read by the projections of queries, keys and values
        self.detr_decoder.clamp_presence_logit_max_val = float("inf")  # the official clamp discards its result
        self.pairs_per_chunk, self.with_masks, self.pair_checkpointing = 4, True, False
        self.compile_vision: bool | str = False
        self.concepts: ConceptTokens | None = None
        self.prepare_offloading()

    def configure(
        self,
        *,
        pairs_per_chunk: int | None = None,
        with_masks: bool | None = None,
        pair_checkpointing: bool | None = None,
        compile_vision: bool | str | None = None,
    ) -> None:
        """
        Change settings of a run; a checkpoint does not contain them. Arguments that are `None` change nothing.

        Args:
            pairs_per_chunk (`int`, *optional*): (image, phrase) pairs decoded at once. Changes speed and memory, not
                results.
            with_masks (`bool`, *optional*): Train and predict masks.
            pair_checkpointing (`bool`, *optional*): Gradient checkpointing of fusion encoder, decoder and pixel
                decoder.
            compile_vision (`bool` or `str`, *optional*): Compile the ViT layers; "auto": where it is faster, see
                [`compile_layers`].
        """
        self.compile_vision = self.compile_vision if compile_vision is None else compile_vision
        self.pairs_per_chunk = self.pairs_per_chunk if pairs_per_chunk is None else pairs_per_chunk
        self.with_masks = self.with_masks if with_masks is None else with_masks
        self.pair_checkpointing = self.pair_checkpointing if pair_checkpointing is None else pair_checkpointing

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the ViT's patch embedding. Accelerate's FSDP2 calls this method, and `Sam3Model` raises an error."""
        return self.vision_encoder.get_input_embeddings()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        pair_image: list[int] | None = None,
        labels: list[dict] | None = None,
        step: Callable | None = None,
        **inputs: Any,
    ) -> ModelOutput:
        """
        Run a step on a batch, or `Sam3Model.forward` without `pair_image`.

        Args:
            pixel_values (`torch.Tensor`, *optional*): As in [`ConceptBatch`], or as in `Sam3Model.forward`.
            pair_image (`list[int]`, *optional*): Image index of each (image, phrase) pair of the batch.
            labels (`list[dict]`, *optional*): As in [`PairLabels`].
            step (`Callable`, *optional*): `step(model, batch)`: [`ConceptTrainingStep`], [`ConceptEvaluationStep`] or
                [`ConceptPredictionStep`]. Default: a training step with the default criterion.
            **inputs (`Any`): Further keys of [`ConceptBatch.from_inputs`], or arguments of `Sam3Model.forward`.

        Returns:
            `LossOutput`: Loss and its parts; without `pair_image`, the output of `Sam3Model`.

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
            vision_features = self.encode_images(self.require_input("pixel_values", batch.pixel_values))
        if text_features is None:
            input_ids = self.require_input("input_ids", batch.input_ids)
            text_features = self.encode_texts(input_ids, batch.attention_mask)
        text_mask = batch.attention_mask.bool()
        if batch.concept_index is not None and self.concepts is not None:
            text_features, text_mask = self.concepts.insert(text_features, text_mask, batch.concept_index)
        if batch.reference_tokens is not None and batch.reference_mask is not None:
            text_features = torch.cat([text_features, batch.reference_tokens], dim=1)
            text_mask = torch.cat([text_mask, batch.reference_mask], dim=1)
        pyramid = self.compute_pyramid(vision_features)
        torch.clear_autocast_cache()  # the casts of the encoders' weights are not read again
        return EncodedBatch(pyramid, text_features, text_mask)

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Compute the ViT features `(I, h, w, C)` of `pixel_values` as in `forward`."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = pixel_values.float() / 127.5 - 1  # mean and standard deviation 0.5, as in SAM 3's processor
        self.refuse_if_offloaded("vision_encoder.backbone", "`vision_features`")
        trunk = self.vision_encoder.backbone
        compile_layers(trunk, self.compile_vision, pixel_values)
        with frozen_without_graph(trunk):
            tokens = trunk(pixel_values).last_hidden_state  # (I, h·w, C)
        patch = trunk.config.patch_size
        return tokens.unflatten(1, tuple(side // patch for side in pixel_values.shape[-2:]))

    def encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """
        Compute the text features `(T, 32, C)` of T phrases, projected to the fusion encoder's width.

        Args:
            input_ids (`torch.Tensor` of shape `(T, 32)`): Tokens.
            attention_mask (`torch.Tensor` of shape `(T, 32)`): 1 for a token, 0 for the padding after the tokens.

        Returns:
            `torch.Tensor` of shape `(T, 32, C)`: Features, 0 for padding.
        """
        self.refuse_if_offloaded("text_encoder", "`text_features`")
        with frozen_without_graph(self.text_encoder, self.text_projection):
            # Attention is causal, so that no token attends to the padding after it.
            text = self.text_encoder(input_ids=input_ids).last_hidden_state
            text = self.text_projection(text.to(get_dtype(self.text_projection)))
            return text * attention_mask[..., None].to(text.dtype)

    def compute_pyramid(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the neck's levels `(I, C, h_i, w_i)`, fine to coarse, without the unused coarsest."""
        neck = self.vision_encoder.neck
        grid = features.to(get_dtype(neck)).permute(0, 3, 1, 2)
        with frozen_without_graph(neck, inputs=[features]):
            pyramid = tuple(level(grid) for level in neck.fpn_layers[:-1])
        if not torch.is_autocast_enabled(features.device.type):  # the parts behind the encoders are float32
            pyramid = tuple(level.to(get_dtype(self.detr_encoder)) for level in pyramid)
        return pyramid

    def encode_pairs(self, encoded: EncodedBatch, pairs: Pairs) -> EncodedPairs:
        """Build the prompts of all pairs of a batch: text tokens, followed by the tokens of the exemplar boxes."""
        phrase = to_index(pairs.phrase, encoded.text.device)
        coarse = encoded.pyramid[-1]
        inputs = coarse, self.encode_positions(coarse), pairs.boxes, pairs.box_labels, pairs.image
        with frozen_without_graph(self.geometry_encoder, inputs=[coarse]):
            geometry, geometry_mask = encode_geometry(self.geometry_encoder, *inputs)
        is_used = pairs.geometry_token | (pairs.box_labels != PADDING_LABEL).any(1)
        prompt = torch.cat([encoded.text.index_select(0, phrase), geometry], dim=1)
        mask = torch.cat([encoded.text_mask.index_select(0, phrase), geometry_mask & is_used[:, None]], dim=1)
        return EncodedPairs(pairs.image, encoded.pyramid, prompt, mask, build_padding_bias(mask, coarse.dtype))

    def encode_positions(self, coarse: torch.Tensor) -> torch.Tensor:
        """Compute the position encoding `(1, C, h, w)` of the coarsest level of the pyramid, in float32."""
        return self.vision_encoder.neck.position_encoding((1, *coarse.shape[1:]), coarse.device, torch.float32)

    def decode(self, encoded: EncodedPairs, chunk: list[int], *, with_one_to_many: bool) -> DecodedPairs:
        """
        Run fusion encoder, decoder and scoring for the pairs of a chunk.

        Args:
            encoded (`EncodedPairs`): Features of all pairs of the batch.
            chunk (`list[int]`): Indices of the pairs to decode.
            with_one_to_many (`bool`): Add a second set of queries for the one-to-many loss; see [`run_decoder`].
        """
        images = [encoded.images[pair] for pair in chunk]
        index = to_index([images, chunk], encoded.prompt.device)
        prompt, mask, bias = (
            tensor.index_select(0, index[1]) for tensor in (encoded.prompt, encoded.prompt_mask, encoded.prompt_bias)
        )
        coarse = encoded.pyramid[-1]
        position = self.encode_positions(coarse).to(coarse.dtype).flatten(2).transpose(1, 2)
        vision = coarse.flatten(2).transpose(1, 2).index_select(0, index[0])  # (p, h·w, C)
        vision = self._run_stage(run_fusion_encoder, self.detr_encoder, vision, position, prompt, bias)
        decoder = self._run_stage(
            run_decoder,
            self.detr_decoder,
            vision,
            position,
            prompt,
            bias,
            tuple(coarse.shape[-2:]),
            with_one_to_many=with_one_to_many,
        )
        logits = self.dot_product_scoring(decoder.hidden_states, prompt, mask)[..., 0]
        return DecodedPairs(EncodedPairs(images, encoded.pyramid, prompt, mask, bias), vision, logits, decoder)

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
        labels = torch.ones(boxes.shape[:2], dtype=torch.long) if labels is None else labels
        boxes, labels = boxes.to(coarse.device), labels.to(coarse.device)
        tokens, _ = encode_geometry(self.geometry_encoder, coarse, self.encode_positions(coarse), boxes, labels)
        return tokens[0]

    def embed_pixels(self, decoded: DecodedPairs, number: int | None = None) -> torch.Tensor:
        """
        Compute the pixel embeddings of the mask head.

        Args:
            decoded (`DecodedPairs`): Pairs of a chunk.
            number (`int`, *optional*): Number of pairs, from the first one. Default: all.

        Returns:
            `torch.Tensor` of shape `(number, C, h, w)`.
        """
        encoded, first = decoded.encoded, slice(number)
        return self._run_stage(
            embed_pixels,
            self.mask_decoder,
            list(encoded.pyramid),
            encoded.images[first],
            decoded.vision[first],
            encoded.prompt[first],
            encoded.prompt_bias[first],
        )

    def _run_stage(self, function: Callable, *args, **kwargs):
        """Call a stage; `pair_checkpointing` recomputes its activations in the backward pass."""
        if self.pair_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **kwargs)
        return function(*args, **kwargs)
