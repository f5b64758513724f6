"""Precision of the encoders' weights: dtype, and 4-bit quantisation with bitsandbytes."""

from importlib.util import find_spec

import torch
from transformers import BitsAndBytesConfig

from .family_spec import FamilySpec


def cast_encoders(family: FamilySpec, model: torch.nn.Module, dtype: str) -> None:
    """
    Cast the weights of the encoders; buffers, such as rotary frequencies, stay in float32, as in `from_pretrained`.

    Args:
        family (`FamilySpec`): Family of the model.
        model (`torch.nn.Module`): Model without adapters; changed in place.
        dtype (`str`): `float32` or `bfloat16`.
    """
    for encoder in family.encoders:
        for parameter in model.get_submodule(encoder).parameters():
            if parameter.is_floating_point():  # 4-bit weights are integers
                parameter.data = parameter.data.to(getattr(torch, dtype))


def build_quantization_arguments(kind: str, family: FamilySpec) -> dict:
    """
    Build the arguments of `from_pretrained` for 4-bit linear layers in the encoders.

    Args:
        kind (`str`): `nf4`.
        family (`FamilySpec`): Family of the model.

    Returns:
        `dict`: `quantization_config` and `device_map`.

    Raises:
        `ValueError`: If `kind` is not `nf4`, or bitsandbytes is not installed.

    Source:
        NF4: Dettmers et al. 2023, section 3.
    """
    if kind != "nf4":
        raise ValueError(f"`quantization` must be nf4, got {kind!r}")
    if not find_spec("bitsandbytes"):
        raise ValueError(
            '`quantization: nf4` needs bitsandbytes, which is not installed. Run `pip install "sam-ft[quantization]"`'
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.accelerator.is_available() else torch.float32,
        bnb_4bit_use_double_quant=True,
        # The modules behind the encoders are small and trained, and box arithmetic needs float32.
        llm_int8_skip_modules=[*(family.model_class._keep_in_fp32_modules_strict or ()), "neck"],
    )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    return {"quantization_config": config, "device_map": {"": device}}


def disable_cpu_packing(model: torch.nn.Module) -> None:
    """
    Disable the repacking of 4-bit layers on CPUs with AVX-512.

    Bitsandbytes repacks them in the first evaluation and fails if a row is not a multiple of its blocks of 64 values.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
