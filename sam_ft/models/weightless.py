"""Models without weights, built from a config on fake tensors: shapes and dtypes for a prediction of memory."""

import torch
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.quantizers_utils import should_convert_module

from ..options.model import ModelOptions
from .family_spec import FamilySpec
from .offloading import OffloadingModel
from .quantization import build_quantization_arguments, cast_encoders


_BLOCK = 64  # values of a 4-bit weight that share a scale, which is quantized to 8 bits


def has_values(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has values; a fake one has a shape alone."""
    return not isinstance(tensor, FakeTensor) and tensor.device.type != "meta"


def build_without_weights(family: FamilySpec, config: PreTrainedConfig, options: ModelOptions) -> OffloadingModel:
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
    """Replace the linear layers of the encoders that Transformers would load in 4 bits."""
    config = build_quantization_arguments(kind, family)["quantization_config"]
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and should_convert_module(name, config.llm_int8_skip_modules):
            model.set_submodule(name, _FourBitLinear(module))


class _FourBitLinear(torch.nn.Linear):
    """
    Shapes, memory and kernels of bitsandbytes' `Linear4bit`, which cannot be built on fake tensors.

    Args:
        linear (`torch.nn.Linear`): Layer to replace.
    """

    def __init__(self, linear: torch.nn.Linear):
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        size = linear.weight.numel()
        self.weight = torch.nn.Parameter(torch.zeros(size // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.register_buffer("scales", torch.zeros(size // _BLOCK, dtype=torch.uint8), persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the product with the dequantized weight in bf16, as on a GPU."""
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        return _FourBitProduct.apply(input.to(torch.bfloat16), bias, (self.out_features, self.in_features))


class _FourBitProduct(torch.autograd.Function):
    """Product with a weight that forward and backward pass dequantize."""

    @staticmethod
    def forward(ctx, input, bias, shape):
        ctx.shape = shape
        return torch.nn.functional.linear(input, torch.zeros(shape, dtype=input.dtype), bias)

    @staticmethod
    def backward(ctx, grad):
        return grad @ torch.zeros(ctx.shape, dtype=grad.dtype), None, None
