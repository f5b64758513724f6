"""Keys of the data of SAM 3: prompted phrases, augmentation and feature cache."""

import os
from dataclasses import dataclass

from ..data.loading import SYNTHETIC, DatasetOptions
from ..data.phrases.sampling import PhraseOptions
from ..data.samples.pipeline import PromptOptions
from .base import arg, take
from .dataset import SharedDataArguments


@dataclass
class DataArguments(SharedDataArguments):
    """Data set, retention probe, phrases, augmentation and feature cache of a SAM 3 run."""

    probe_phrases: list[str] = arg(
        [],
        "Untrained phrases that are predicted on validation images before and after training to measure retention. "
        "Default: sixteen common nouns.",
    )
    probe_images: int = arg(
        32, "Maximum number of validation images on which retention is measured with `probe_phrases`; 0 measures none."
    )
    probe_dataset: str | None = arg(
        None,
        "Folder or Hub id of a labelled data set whose validation split is evaluated before and after training to "
        "measure retention.",
    )

    negative_ratio: float = arg(
        0.2, "Fraction of negative phrases (absent from the image) among the prompted phrases, 0 to 0.99."
    )
    negatives_per_image: int | None = arg(
        None, "Fixed number of negative phrases per image, at least 0; replaces `negative_ratio`."
    )
    max_phrases_per_image: int = arg(
        32, "Maximum number of prompted phrases per image, at least 1; positive phrases are chosen first."
    )

    resize: str = arg(
        "official",
        "Resizing of training images. official: to a random side of 480 to 992 px (of 1008), placed at a random "
        "offset; plain: to the whole input of the model.",
        choices=["official", "plain"],
    )
    flip_probability: float = arg(
        0.5,
        "Probability of a horizontal flip, 0 to 1. Images whose phrases contain left or right are never flipped.",
    )
    color_jitter: float = arg(
        0.2, "Maximum relative change of brightness, contrast and saturation, 0 to 1; 0 changes no colours."
    )
    exemplar_probability: float = arg(
        0.0, "Probability, 0 to 1, that a positive phrase is prompted with the box of one of its instances as well."
    )
    geometry_token: str = arg(
        "mixed",
        "Geometry token of text-only prompts in training. always: added, as in the official package; never: left "
        "out, as in Transformers; mixed: drawn for each phrase, so that the model is right in both.",
        choices=["always", "never", "mixed"],
    )
    eval_geometry_token: str = arg(
        "never",
        "Geometry token of text-only prompts in evaluation. never: left out, as in Transformers; always: added, as in "
        "the official package.",
        choices=["always", "never"],
    )

    feature_cache: str | None = arg(
        None,
        "Folder of precomputed ViT features. The frozen ViT encodes each image once, every epoch reads the stored "
        "features (10.6 MB per image and view at 1008 px), and the ViT is offloaded. Needs `freeze: [vision_trunk]`.",
    )
    cache_text: bool = arg(
        False,
        "Encode each phrase once, hold the text features in memory and offload the text encoder. Needs `freeze: "
        "[text_encoder]`.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.probe_dataset and (self.feature_cache or self.cache_text):
            raise ValueError(
                f"`probe_dataset` is {self.probe_dataset!r}, but its images need the encoders, which `feature_cache` "
                "and `cache_text` offload. Leave out `probe_dataset`, or both of these"
            )
        if (self.probe_dataset or "").startswith(SYNTHETIC) and not os.path.isdir(self.probe_dataset):
            raise ValueError(f"`probe_dataset` is {self.probe_dataset!r}; name a folder or a data set of the Hub")

    def describe_prompts(self) -> str:
        """Describe the prompts of an evaluation for reports."""
        return f"text-only prompts {'with' if self.eval_geometry_token == 'always' else 'without'} the geometry token"

    def places(self) -> list[str]:
        """Return the files, folders and Hub ids that a run reads."""
        return [*super().places(), *([self.probe_dataset] if self.probe_dataset else [])]

    def probe_source(self) -> DatasetOptions | None:
        """Return the options that load `probe_dataset` unchanged; `None` without one."""
        return DatasetOptions(self.probe_dataset) if self.probe_dataset else None

    def phrases(self) -> PhraseOptions:
        """Return the options of phrase sampling."""
        return take(PhraseOptions, self)

    def prompts(self) -> PromptOptions:
        """Return the options of exemplars and geometry token."""
        return take(PromptOptions, self)
