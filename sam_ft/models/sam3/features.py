"""Intermediate features of SAM 3."""

from dataclasses import dataclass

import torch

from .detr import DecoderOutputs


@dataclass
class EncodedBatch:
    """
    Features of the images and phrases of a batch.

    Attributes:
        pyramid (`tuple[torch.Tensor, ...]`): Image features `(num_images, C, h_i, w_i)`, fine to coarse.
        text (`torch.Tensor` of shape `(num_phrases, num_tokens, C)`): Text features.
        text_mask (`torch.Tensor` of shape `(num_phrases, num_tokens)`, bool): `True` for valid tokens.
    """

    pyramid: tuple[torch.Tensor, ...]
    text: torch.Tensor
    text_mask: torch.Tensor


@dataclass
class EncodedPairs:
    """
    Features of the P (image, phrase) pairs of a batch.

    Attributes:
        images (`list[int]` of length P): Image index of each pair.
        pyramid (`tuple[torch.Tensor, ...]`): As in [`EncodedBatch`].
        prompt (`torch.Tensor` of shape `(P, num_tokens, C)`): Text and geometry tokens.
        prompt_mask (`torch.Tensor` of shape `(P, num_tokens)`, bool): `True` for valid tokens.
        prompt_bias (`torch.Tensor` of shape `(P, 1, 1, num_tokens)`): Bias of [`build_padding_bias`].
    """

    images: list[int]
    pyramid: tuple[torch.Tensor, ...]
    prompt: torch.Tensor
    prompt_mask: torch.Tensor
    prompt_bias: torch.Tensor


@dataclass
class DecodedPairs:
    """
    Features and outputs of the pairs of a chunk.

    Attributes:
        encoded (`EncodedPairs`): Features of these pairs.
        vision (`torch.Tensor` of shape `(num_pairs, h·w, C)`): Output of the fusion encoder.
        logits (`torch.Tensor` of shape `(num_layers, num_pairs, num_queries)`): Class logits of the queries.
        decoder (`DecoderOutputs`): Outputs of all decoder layers.
    """

    encoded: EncodedPairs
    vision: torch.Tensor
    logits: torch.Tensor
    decoder: DecoderOutputs
