"""Keys of a plan."""

from dataclasses import dataclass

from .base import arg


@dataclass
class PlanArguments:
    """What a run may take."""

    memory_gb: float | None = arg(None, "Memory that the run may take, in GB of 2³⁰ bytes. Default: this device's.")

    def __post_init__(self):
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ValueError(f"`memory_gb` is {self.memory_gb}; it must be above 0")
