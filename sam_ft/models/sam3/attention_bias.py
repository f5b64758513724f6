"""Additive biases of attention scores: padding of prompts, and the position bias of the decoder's queries."""

import math

import torch
import torch.nn.functional as F
from transformers.models.sam3.modeling_sam3 import Sam3DecoderMLP, Sam3DetrDecoder

from ...ops.boxes import box_cxcywh_to_xyxy
from ..contexts import full_precision, get_dtype


def build_padding_bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """
    Build the bias that excludes padding tokens from the keys.

    Transformers would build a mask from `mask` itself, and would read from the device in each stage whether there is
    padding. A mask of four dimensions is used as it is, by every attention implementation.

    Args:
        mask (`torch.Tensor` of shape `(num_pairs, num_tokens)`, bool): `True` for valid tokens.
        dtype (`torch.dtype`): Dtype of the bias.

    Returns:
        `torch.Tensor` of shape `(num_pairs, 1, 1, num_tokens)`: 0 for valid tokens, the lowest number otherwise.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)[
        :, None, None
    ]


class QueryPositions:
    """
    Position encoding and position bias of the decoder's queries.

    Args:
        decoder (`Sam3DetrDecoder`): Transformers' module; only its submodules are called.
        grid (`tuple[int, int]`): `(h, w)`.
        device (`torch.device`): Device of the queries.

    Source:
        `Sam3SinePositionEmbedding.encode_boxes` and `Sam3DetrDecoder._get_rpb_matrix` of Transformers; official
        `sam3/model/decoder.py`, whose bias MLPs run in bfloat16 under autocast.
    """

    def __init__(self, decoder: Sam3DetrDecoder, grid: tuple[int, int], device: torch.device):
        self._decoder, self._dtype = decoder, get_dtype(decoder)
        height, width = grid
        self._rows = torch.arange(0, height, device=device, dtype=torch.float32) / height
        self._columns = torch.arange(0, width, device=device, dtype=torch.float32) / width
        encoding = decoder.position_encoding
        steps = torch.arange(0, encoding.num_position_features, 2, device=device).float()
        self._periods = encoding.temperature ** (steps / encoding.num_position_features)

    def encode(self, boxes: torch.Tensor) -> torch.Tensor:
        """
        Encode reference boxes, in full precision.

        Args:
            boxes (`torch.Tensor` of shape `(num_pairs, num_queries, 4)`): Normalised `(cx, cy, w, h)`, float32.

        Returns:
            `torch.Tensor` of shape `(num_pairs, 1 + num_queries, C)`: 0 for the presence token, which is first.
        """
        with full_precision(boxes):
            x, y, w, h = boxes.unbind(-1)
            angles = torch.stack([y, x, w, h], dim=-1)[..., None] * self._decoder.position_encoding.scale
            angles = angles / self._periods  # (num_pairs, num_queries, 4, C / 4)
            encoded = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2)
            position = self._decoder.ref_point_head(encoded.to(self._dtype))
        return F.pad(position, (0, 0, 1, 0))

    def compute_bias(self, boxes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """
        Compute the bias of the attention to the image by the offsets of all rows and columns from a box's sides.

        The offsets are float32. Their MLPs run in autocast's dtype, and the sum over the grid is written once in the
        attention's layout.

        Args:
            boxes (`torch.Tensor` of shape `(num_pairs, num_queries, 4)`): As in [`encode`].
            dtype (`torch.dtype`): Dtype of the bias.

        Returns:
            `torch.Tensor` of shape `(num_pairs, heads, 1 + num_queries, h·w)`: 0 for the presence token.
        """
        with full_precision(boxes):
            left, top, right, bottom = box_cxcywh_to_xyxy(boxes)[..., None, :].unbind(-1)
            columns = torch.stack([self._columns - left, self._columns - right], dim=-1)
            rows = torch.stack([self._rows - top, self._rows - bottom], dim=-1)
            offsets = 8 * torch.cat([columns, rows], dim=2)  # (num_pairs, num_queries, w + h, 2)
            offsets = (offsets.sign() * (offsets.abs() + 1).log2() / math.log2(8)).to(self._dtype)
        columns, rows = offsets.split([len(self._columns), len(self._rows)], dim=2)
        columns = _run_bias_mlp(self._decoder.box_rpb_embed_x, columns, dtype)[..., None, :]
        rows = _run_bias_mlp(self._decoder.box_rpb_embed_y, rows, dtype)[..., None]
        return (rows + columns).flatten(3)


def _run_bias_mlp(mlp: Sam3DecoderMLP, offsets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Run an MLP on offsets `(num_pairs, num_queries, n, 2)`; return `(num_pairs, heads, 1 + num_queries, n)`."""
    per_head = mlp.layer2(F.relu(mlp.layer1(offsets))).to(dtype)
    return F.pad(per_head, (0, 0, 0, 0, 1, 0)).permute(0, 3, 1, 2).contiguous()
