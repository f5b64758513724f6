"""What a model card says, as values."""

import re
from dataclasses import dataclass, field

from .metric_table import Column


@dataclass
class DatasetFacts:
    """A data set: its name, on the Hub its id, and what is known of its licence."""

    name: str
    hub_id: str | None = None
    licence: str | None = None

    def linked(self) -> str:
        return f"[{self.name}](https://huggingface.co/datasets/{self.hub_id})" if self.hub_id else plain(self.name)


@dataclass
class CardFacts:
    """
    What a card is made of.

    Attributes:
        name (`str`): Hub id, or the folder. family (`str`): `sam3` or `sam2`. form (`str`): `full`, `adapter` or `merged`.
        base (`str`): what was tuned, in words. base_id, revision (`str`, *optional*): its Hub id, and the revision that was tuned.
        licence (`str`): of the weights: `apache-2.0`, or `other`: SAM 3's License, or what a local SAM 2 is under.
        datasets (`list[DatasetFacts]`): what was trained on; the first is what was evaluated on.
        phrases (`list[str]`): trained. columns (`list[Column]`): before, where it is known, and after; the last one's notes say what was kept.
        pictures (`list[tuple[str, str]]`): captions and files beside the card.
        thresholds (`Thresholds`, *optional*): saved with the weights. made (`dict[str, str]`): how, name -> value. command (`str`).
        has_report (`bool`): whether `report.html` lies beside the card. side (`int`, *optional*): of the model's canvas, px, where it is not
            the base's.
    """

    name: str
    family: str
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


def plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(str(text).split()))
