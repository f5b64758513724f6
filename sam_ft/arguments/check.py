"""Keys of a check."""

from dataclasses import dataclass

from .base import arg


@dataclass
class CheckArguments:
    """What a check writes."""

    gallery_dir: str = arg("out/check", "Folder of the gallery: contact sheets and index.html.")
    num_pictures: int = arg(24, "Training images in the gallery; 0 writes none.")
    resolution: int = arg(1008, "Side of the model's canvas in px, for the gallery and for instances that vanish.")
    seed: int = arg(42, "Of the gallery's augmentation.")
    json: bool = arg(False, "Print one JSON object instead of text.")
    max_findings: int = arg(10, "Lines of each kind of defect; --json has all.")

    def __post_init__(self):
        for name, least in (("num_pictures", 0), ("resolution", 14), ("max_findings", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be {least} or more")
