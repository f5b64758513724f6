"""Content of a model card as plain values."""

import re
from dataclasses import dataclass, field

from .metric_table import Column


@dataclass
class DatasetFacts:
    """
    Data set of a model card.

    Attributes:
        name (`str`): Name.
        hub_id (`str`, *optional*): Id on the Hub.
        licence (`str`, *optional*): Licence that the data set states.
    """

    name: str
    hub_id: str | None = None
    licence: str | None = None

    def linked(self) -> str:
        """Format the name as Markdown, with a link for a data set on the Hub."""
        return f"[{self.name}](https://huggingface.co/datasets/{self.hub_id})" if self.hub_id else plain(self.name)


@dataclass
class CardFacts:
    """
    Content of a model card.

    Attributes:
        name (`str`): Hub id or folder of the model.
        family (`FamilySpec`): Family of the model.
        form (`str`): `full`, `adapter`, `merged` or `concepts`.
        base (`str`): Description of the base.
        base_id (`str`, *optional*): Hub id of the base.
        revision (`str`, *optional*): Revision of the base.
        licence (`str`): Licence of the weights: `apache-2.0`, or `other` for the SAM License or that of a local SAM 2.
        datasets (`list[DatasetFacts]`): Training data sets; the first one is also evaluated on.
        phrases (`list[str]`): Trained phrases.
        columns (`list[Column]`): Metrics before training, if there are any, and after it, with notes on retention.
        pictures (`list[tuple[str, str]]`): Captions and files beside the card.
        thresholds (`Thresholds`, *optional*): Thresholds that are saved with the weights.
        made (`dict[str, str]`): Facts about the training run, by name.
        command (`str`): Command of the training run.
        has_report (`bool`): Whether `report.html` lies beside the card.
        side (`int`, *optional*): Side of the model's canvas, px, if it differs from the base's.
        concepts (`list[str]`): Phrases of the concepts, in the order of their file.
        is_on_hub (`bool`): Whether `name` is a Hub id.
    """

    name: str
    family: object
    form: str
    base: str
    base_id: str | None
    revision: str | None
    licence: str
    datasets: list[DatasetFacts]
    phrases: list[str]
    columns: list[Column]
    pictures: list[tuple[str, str]] = field(default_factory=list)
    thresholds: object | None = None
    made: dict[str, str] = field(default_factory=dict)
    command: str = ""
    has_report: bool = False
    side: int | None = None
    concepts: list[str] = field(default_factory=list)
    is_on_hub: bool = False


def plain(text: str) -> str:
    """Escape a text for Markdown."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(str(text).split()))
