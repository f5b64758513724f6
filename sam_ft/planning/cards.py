"""Cards for a prediction: memory, bf16 support, arithmetic and bandwidth from their data sheets."""

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """
    Card that a plan predicts for.

    Attributes:
        name (`str`): Name, or a size such as `24GB`.
        memory (`int`): Memory in bytes, as `nvidia-smi` shows it (with ECC where that is the default).
        bf16 (`float`, *optional*): Dense bf16 rate with float32 accumulation in TFLOP/s; `None` without bf16 units,
            and for a card that is only a size.
        tf32 (`float`, *optional*): Dense TF32 rate in TFLOP/s, that of float32 without TF32 units.
        fp32 (`float`, *optional*): float32 rate in TFLOP/s.
        bandwidth (`float`, *optional*): Memory bandwidth in GB/s.
        source (`str`): Document of the rates.
        with_bf16 (`bool`): Whether bf16 runs in hardware.
    """

    name: str
    memory: int
    bf16: float | None = None
    tf32: float | None = None
    fp32: float | None = None
    bandwidth: float | None = None
    source: str = ""
    with_bf16: bool = True


_TURING = "NVIDIA T4 data sheet"
_VOLTA = "NVIDIA V100 data sheet (PCIe)"
_GA102 = "NVIDIA Ampere GA102 architecture whitepaper"
_ADA = "NVIDIA Ada architecture whitepaper"
_BLACKWELL = "NVIDIA RTX Blackwell architecture whitepaper"
# name, MiB by nvidia-smi, dense bf16, TF32 and float32 in TFLOP/s, GB/s, source
_ROWS = (
    ("t4", 15360, None, 8.1, 8.1, 320, _TURING),
    ("v100-16gb", 16384, None, 14.0, 14.0, 900, _VOLTA),
    ("rtx3060", 12288, 25.4, 12.7, 12.7, 360, f"{_GA102}, scaled by float32 rate"),
    ("rtx3090", 24576, 71.0, 35.6, 35.6, 936, _GA102),
    ("rtx4060", 8188, 30.2, 15.1, 15.1, 272, f"{_ADA}, scaled by float32 rate"),
    ("rtx4090", 24564, 165.2, 82.6, 82.6, 1008, _ADA),
    ("rtx5090", 32607, 209.5, 104.8, 104.8, 1792, _BLACKWELL),
    ("a6000", 49140, 154.8, 77.4, 38.7, 768, _GA102),
    ("a10", 23028, 125.0, 62.5, 31.2, 600, "NVIDIA A10 data sheet"),
    ("l4", 23034, 121.0, 60.0, 30.3, 300, "NVIDIA L4 data sheet"),
    ("l40s", 46068, 362.0, 183.0, 91.6, 864, "NVIDIA L40S data sheet"),
    ("a100-40gb", 40960, 312.0, 156.0, 19.5, 1555, "NVIDIA A100 data sheet"),
    ("a100-80gb", 81920, 312.0, 156.0, 19.5, 2039, "NVIDIA A100 data sheet (SXM)"),
    ("h100", 81559, 989.0, 494.0, 67.0, 3350, "NVIDIA H100 data sheet (SXM)"),
    ("h200", 143771, 989.0, 494.0, 67.0, 4800, "NVIDIA H200 data sheet (SXM)"),
)
CARDS: dict[str, Card] = {
    name: Card(name, size * 2**20, bf16, tf32, fp32, bandwidth, source, with_bf16=bf16 is not None)
    for name, size, bf16, tf32, fp32, bandwidth, source in _ROWS
}


def find_card(name: str) -> Card:
    """
    Return a card by its name or the size of its memory.

    Args:
        name (`str`): A name of `CARDS`, in any spelling of case and hyphens, or a size such as `24GB` (of 2³⁰ bytes).

    Raises:
        `ValueError`: If the name is neither; lists the names.
    """
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:gb|gib)", name.strip(), re.IGNORECASE)
    if size and float(size[1]) > 0:
        return Card(f"a card of {size[1]} GB", int(float(size[1]) * 2**30))
    spellings = {_plain(card): card for card in CARDS}
    card = spellings.get(_plain(name))
    if card is None:
        close_matches = difflib.get_close_matches(_plain(name), spellings, 1)
        hint = f" Did you mean {spellings[close_matches[0]]}?" if close_matches else ""
        raise ValueError(f"`card` must be a size such as 24GB or one of {', '.join(CARDS)}, got {name!r}.{hint}")
    return CARDS[card]


def find_card_of_device(name: str, memory: int) -> Card:
    """
    Return the card of a device of this machine; its memory is that of the device.

    Args:
        name (`str`): Name of the device in the driver, such as `NVIDIA A100-SXM4-80GB`.
        memory (`int`): Its memory in bytes.
    """
    fitting = [
        card
        for card in CARDS.values()
        if re.search(rf"(?<![a-z0-9]){card.name.partition('-')[0]}(?![0-9])", _plain(name, keep_spaces=True))
        and abs(card.memory - memory) < 0.1 * memory
    ]
    if not fitting:
        return Card(name, memory)
    card = max(fitting, key=lambda card: len(card.name))
    return Card(name, memory, card.bf16, card.tf32, card.fp32, card.bandwidth, card.source, card.with_bf16)


def _plain(name: str, keep_spaces: bool = False) -> str:
    name = name.lower().replace("geforce", "").replace("nvidia", "").replace("tesla", "")
    name = re.sub(r"rtx\s+", "rtx", name)
    return name if keep_spaces else re.sub(r"[\s_-]", "", name)
