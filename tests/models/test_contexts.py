"""Contexts of attention kernels."""

import contextlib

import torch

from sam_ft.models.contexts import without_cudnn_attention


def test_cudnn_attention_is_excluded_on_cuda_only():
    assert isinstance(without_cudnn_attention(torch.device("cpu")), contextlib.nullcontext)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with without_cudnn_attention(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
