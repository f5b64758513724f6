"""Parsed keys of a training run, before the object of Transformers is built."""

from dataclasses import dataclass, field
from typing import Any

from ..options.keys import check_values
from ..options.training import SamTrainingKeys


@dataclass
class ParsedTraining:
    """
    Values of the keys of a training run; [`build_run`] makes Transformers' object from them.

    Attributes:
        keys (`SamTrainingKeys`): Values of the keys of this package.
        transformers (`dict[str, Any]`): Values of the other keys of Transformers that the user set.
        command_line_keys (`set[str]`): Keys that were set on the command line.
    """

    keys: SamTrainingKeys
    transformers: dict[str, Any] = field(default_factory=dict)
    command_line_keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        check_values(self.keys)
