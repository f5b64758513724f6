"""Models without the wrapper of their adapters."""

from typing import Any, cast

import torch
from transformers import PreTrainedModel


def unwrap_sam(model: torch.nn.Module) -> PreTrainedModel:
    """
    Return a model without PEFT's wrapper.

    Args:
        model (`torch.nn.Module`): A model, with or without adapters.

    Returns:
        `PreTrainedModel`: Its base.
    """
    wrapped: Any = model
    # The attribute is that of `peft.PeftModel`, whose import takes 1 s.
    return cast(PreTrainedModel, wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped)
