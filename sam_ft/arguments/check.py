"""Keys of the data check."""

from dataclasses import dataclass

from .base import arg


@dataclass
class CheckArguments:
    """Gallery, report format and seed of the data check."""

    gallery_dir: str = arg("out/check", "Output folder of the gallery: contact sheets and index.html.")
    num_pictures: int = arg(24, "Number of training images in the gallery; 0 writes no gallery.")
    resolution: int = arg(
        1008,
        "Side of the model's input in px, at least 14; used for the gallery and to find instances that are too small "
        "at this size.",
    )
    seed: int = arg(42, "Random seed of the gallery's images and augmentation.")
    json: bool = arg(False, "Print one JSON object instead of text.")
    max_findings: int = arg(
        10, "Maximum number of printed lines per kind of defect, at least 1; `--json` prints all of them."
    )

    def __post_init__(self):
        for name, minimum in (("num_pictures", 0), ("resolution", 14), ("max_findings", 1)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be {minimum} or more")
