"""Intermediate features of SAM 3's forward."""

from dataclasses import dataclass

import torch

from .sam3.detr import DecoderOutputs


@dataclass
class EncodedBatch:
    """Features of the images and phrases of a batch."""

    pyramid: tuple[torch.Tensor, ...]  # fine to coarse, each (num_images, C, h_i, w_i)
    text: torch.Tensor  # (num_phrases, num_tokens, C)
    text_mask: torch.Tensor  # (num_phrases, num_tokens), bool


@dataclass
class DecodedPairs:
    """Features and outputs of the pairs of a chunk."""

    images: list[int]
    pyramid: tuple[torch.Tensor, ...]
    vision: torch.Tensor  # (num_pairs, h·w, C): output of the fusion encoder
    prompt: torch.Tensor  # (num_pairs, num_tokens, C)
    prompt_mask: torch.Tensor  # (num_pairs, num_tokens), bool
    logits: torch.Tensor  # (num_layers, num_pairs, num_queries)
    decoder: DecoderOutputs
