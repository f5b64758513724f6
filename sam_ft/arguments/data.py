"""Keys of the data of SAM 3: prompted phrases, augmentation, retention probe and feature cache."""

import os
from dataclasses import dataclass
from typing import ClassVar

from ..options.data import SYNTHETIC
from ..options.keys import key, key_of
from ..options.phrases import PhraseOptions, PromptOptions
from ..options.prediction import PredictOptions
from .base import Keys, with_keys_of
from .dataset import SharedDataArguments


@with_keys_of(PhraseOptions, PromptOptions, leave_out=("distill_per_image",))
class PhraseArguments(Keys):
    """Prompted phrases of a training image."""

    key_topic: ClassVar[str] = "Prompts and augmentation"


@dataclass
class RetentionArguments(Keys):
    """Prompts of the evaluation, and phrases and data on which retention is measured."""

    key_topic: ClassVar[str] = "Evaluation"

    eval_geometry_token: str = key_of(
        PredictOptions,
        "eval_geometry_token",
        help="Geometry token of text-only prompts in evaluation. never: left out, as in Transformers; always: added, "
        "as in the official package.",
    )
    probe_phrases: list[str] = key(
        [],
        "Untrained phrases that are predicted on validation images before and after training to measure retention. "
        "Default: sixteen common nouns.",
    )
    probe_images: int = key(
        32,
        "Maximum number of validation images on which retention is measured with `probe_phrases`; 0 measures none.",
        low=0,
    )
    probe_dataset: str | None = key(
        None,
        "Folder or Hub id of a labelled data set whose validation split is evaluated before and after training to "
        "measure retention.",
    )


@dataclass
class DataArguments(RetentionArguments, PhraseArguments, SharedDataArguments):
    """Data set, retention probe, phrases, augmentation and feature cache of a SAM 3 run."""

    key_topic: ClassVar[str] = "Data"

    feature_cache: str | None = key(
        None,
        "Folder of precomputed ViT features. The frozen ViT encodes each image once, every epoch reads the stored "
        "features (10.6 MB per image and view at 1008 px), and the ViT is offloaded. Needs `freeze: [vision_trunk]`.",
    )
    cache_text: bool = key(
        False,
        "Encode each phrase once, hold the text features in memory and offload the text encoder. Needs `freeze: "
        "[text_encoder]`.",
    )

    def __post_init__(self) -> None:
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
