"""Keys of the data: what SAM 3 is asked of each image."""

import os
from dataclasses import dataclass

from ..data.loading import SYNTHETIC, DatasetOptions
from ..data.phrases.sampling import PhraseOptions
from ..data.samples.pipeline import PromptOptions
from .base import arg, take
from .dataset import SharedDataArguments


@dataclass
class DataArguments(SharedDataArguments):
    """What is read, what is asked of each image, and how it is drawn."""

    probe_phrases: list[str] = arg(
        [],
        "Phrases that a run does not train, asked of validation images before and after: what is forgotten. Default: sixteen common nouns.",
    )
    probe_images: int = arg(32, "Validation images that are asked those, at most; 0: none.")
    probe_dataset: str | None = arg(
        None, "Folder or Hub id of a labelled data set whose validation split is scored before and after, too."
    )

    negative_ratio: float = arg(0.2, "Share of absent phrases among those asked.")
    negatives_per_image: int | None = arg(None, "A fixed number of absent phrases an image, instead of the ratio.")
    max_phrases_per_image: int = arg(32, "Phrases asked of an image at most; positives are kept first.")

    resize: str = arg(
        "official",
        "official: a square of 480 to 992 px (of 1008) at a random place; plain: the whole canvas.",
        choices=["official", "plain"],
    )
    flip_probability: float = arg(0.5, "Horizontal flip; never of images whose phrases say left or right.")
    color_jitter: float = arg(0.2, "Brightness, contrast and saturation change by up to this share.")
    exemplar_probability: float = arg(0.0, "A present phrase also gets one of its instances as a box prompt.")
    geometry_token: str = arg(
        "mixed",
        "Whether text-only prompts see the geometry encoder's token: always (official package), never (Transformers), "
        "mixed (right in both).",
        choices=["always", "never", "mixed"],
    )
    eval_geometry_token: str = arg(
        "never", "The same for evaluation: never scores what Transformers will predict.", choices=["always", "never"]
    )

    feature_cache: str | None = arg(
        None,
        "Folder: what the frozen ViT says of each image is computed once, stored there and read in every epoch (10.6 MB an "
        "image and view at 1008 px); the ViT leaves the device. Needs `freeze: [vision_trunk]`.",
    )
    cache_text: bool = arg(
        False, "The same for phrases, in memory: the text tower leaves the device. Needs `freeze: [text_encoder]`."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.probe_dataset and (self.feature_cache or self.cache_text):
            raise ValueError(
                "`probe_dataset` needs the encoders, which `feature_cache` and `cache_text` take off the device; leave it or them out"
            )
        if (self.probe_dataset or "").startswith(SYNTHETIC) and not os.path.isdir(self.probe_dataset):
            raise ValueError(f"`probe_dataset` is {self.probe_dataset!r}; name a folder or a data set of the Hub")

    def asked(self) -> str:
        """What an evaluation asks, in words."""
        return f"text-only prompts {'with' if self.eval_geometry_token == 'always' else 'without'} the geometry token"

    def places(self) -> list[str]:
        """Files and folders that are read."""
        return [*super().places(), *([self.probe_dataset] if self.probe_dataset else [])]

    def probe_source(self) -> DatasetOptions | None:
        """The labelled probe set, read as it stands."""
        return DatasetOptions(self.probe_dataset) if self.probe_dataset else None

    def phrases(self) -> PhraseOptions:
        return take(PhraseOptions, self)

    def prompts(self) -> PromptOptions:
        return take(PromptOptions, self)
