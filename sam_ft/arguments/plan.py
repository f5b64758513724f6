"""Keys of the memory plan."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class PlanArguments(Keys):
    """Card and memory limit of the planned run, and images of a predicted step."""

    key_topic: ClassVar[str] = "Plan"

    card: str | None = key(
        None,
        "Card to predict memory and time for, without weights, data or a GPU: a size such as 24GB, or a name such as "
        "rtx4090, l4, t4, a100-80gb or h200 (any other text lists all names). Default: measure on this device.",
    )
    memory_gb: float | None = key(
        None,
        "Memory limit of the run in GB of 2³⁰ bytes, above 0. Default: the memory of the card or device.",
        above=0,
    )
    predicted_phrases: int | None = key(
        None,
        "Number of phrases per image in a prediction, at least 1; half of them have objects. Default: 8, or twice "
        "`pairs_per_chunk` if that is more, so that a chunk is full.",
        low=1,
    )
    predicted_objects: int | None = key(
        None, "Number of objects per image in a prediction, at least 1. Default: `predicted_phrases`.", low=1
    )
