"""Models without weights, built from a config on fake tensors: shapes and dtypes for a prediction of memory."""

import torch
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..options.model import ModelOptions
from .family_spec import FamilySpec
from .quantization import build_quantization_arguments, cast_encoders, disable_cpu_packing


def has_values(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has values; a fake one has a shape alone."""
    return not isinstance(tensor, FakeTensor) and tensor.device.type != "meta"


def build_without_weights(family: FamilySpec, config: PreTrainedConfig, options: ModelOptions) -> PreTrainedModel:
    """
    Build a model as `from_pretrained` would, under `FakeTensorMode` and without reading weights.

    Args:
        family (`FamilySpec`): Family of the model.
        config (`PreTrainedConfig`): Config at the resolution of the run.
        options (`ModelOptions`): Attention kernel, dtype and quantization.
    """
    config._attn_implementation = options.attn_implementation or config._attn_implementation
    model = family.model_class(config)
    if options.quantization:
        _quantize(model, options.quantization, family)
    cast_encoders(family, model, options.dtype)
    return model


def _quantize(model: PreTrainedModel, kind: str, family: FamilySpec) -> None:
    """Replace the linear layers of the encoders by 4-bit ones, as Transformers does while it loads weights."""
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    config = build_quantization_arguments(kind, family)["quantization_config"]
    config.bnb_4bit_compute_dtype = torch.bfloat16  # as on a GPU
    shapes = {name: m.weight.shape for name, m in model.named_modules() if type(m) is torch.nn.Linear}
    replace_with_bnb_linear(model, config.llm_int8_skip_modules, config)
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            weight = torch.empty(shapes[name], dtype=torch.bfloat16)
            module.weight = Params4bit(
                weight, requires_grad=False, quant_type=kind, compress_statistics=config.bnb_4bit_use_double_quant
            ).to("cpu")
            if module.bias is not None:
                module.bias = torch.nn.Parameter(torch.empty(shapes[name][0]), requires_grad=False)
    disable_cpu_packing(model)
