"""Keys of the data check."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class CheckArguments(Keys):
    """Page, report format and seed of the data check."""

    key_topic: ClassVar[str] = "Check"

    gallery_dir: str = key("out/check", "Output folder of the page with pictures and charts, index.html.")
    num_pictures: int = key(
        24, "Number of training images on the page beside those of findings; 0 writes no page.", low=0
    )
    resolution: int = key(
        1008,
        "Side of the model's input in px, at least 14; used for the page and to find instances that are too small "
        "at this size.",
        low=14,
    )
    seed: int = key(42, "Random seed of the page's augmentation.", low=0)
    json: bool = key(False, "Print one JSON object instead of text.")
    num_proc: int | None = key(
        None,
        "Number of processes, at least 1, which does not change the result. Default: one for each usable core.",
        low=1,
    )
    max_findings: int = key(
        10, "Maximum number of printed lines per kind of defect, at least 1; `--json` prints all of them.", low=1
    )
