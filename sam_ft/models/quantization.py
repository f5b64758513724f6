"""Frozen encoders in four bits, by bitsandbytes."""

from importlib.util import find_spec

import torch
from transformers import BitsAndBytesConfig

from .sam3.model import Sam3ForConceptSegmentation


# the parts behind the encoders are small, trained, and full of box arithmetic
_WHOLE = [*Sam3ForConceptSegmentation._keep_in_fp32_modules_strict, "neck"]


def quantized(kind: str) -> dict:
    """
    What `from_pretrained` needs so that the encoders' linear layers are held as NF4 (Dettmers et al. 2023, section 3).

    Raises:
        `ValueError`: on another kind, or where bitsandbytes is missing.
    """
    if kind != "nf4":
        raise ValueError(f"`quantization` is {kind!r}; the only kind is nf4")
    if not find_spec("bitsandbytes"):
        raise ValueError(
            "`quantization: nf4` needs bitsandbytes, which is not installed: `pip install sam-ft[quantization]`"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.accelerator.is_available() else torch.float32,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=_WHOLE,
    )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    return {"quantization_config": config, "device_map": {"": device}}


def without_cpu_packing(model: torch.nn.Module) -> None:
    """
    Keeps 4-bit layers in one layout. On a CPU with AVX-512 bitsandbytes packs them anew in their first evaluation, and fails
    where a row is no multiple of its 64-value blocks.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
