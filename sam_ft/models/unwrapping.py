"""Models without the wrapper of their adapters."""

from typing import cast

import torch
from transformers import PreTrainedModel


def unwrap_sam(model: torch.nn.Module) -> PreTrainedModel:
    """Return the model without PEFT's wrapper."""
    # The attribute is that of `peft.PeftModel`, whose import takes 1 s.
    return cast(PreTrainedModel, model.get_base_model() if hasattr(model, "get_base_model") else model)
