"""Keys of the memory plan."""

from dataclasses import dataclass

from .base import arg


@dataclass
class PlanArguments:
    """Memory limit of the planned run."""

    memory_gb: float | None = arg(
        None, "Memory limit of the run in GB of 2³⁰ bytes, above 0. Default: the memory of this device."
    )

    def __post_init__(self):
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ValueError(f"`memory_gb` is {self.memory_gb}; it must be above 0")
