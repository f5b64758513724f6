"""Keys of the memory plan."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class PlanArguments(Keys):
    """Memory limit of the planned run."""

    key_topic: ClassVar[str] = "Plan"

    memory_gb: float | None = key(
        None, "Memory limit of the run in GB of 2³⁰ bytes, above 0. Default: the memory of this device.", above=0
    )
