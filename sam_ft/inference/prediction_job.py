"""Images, prompts and outputs of one batch prediction."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..options.keys import check_choice
from ..options.prediction import OUTPUTS
from .exemplars import Exemplars
from .image_list import ImageList
from .label_studio_input import check_label_studio_input
from .phrases import VISUAL, check_phrases
from .prompt_files import ObjectPrompt
from .prompted_views import PreparedReferences
from .weights_fingerprint import format_model_version


@dataclass
class PredictionJob:
    """
    Images, prompts and outputs of one batch prediction.

    Attributes:
        images (`ImageList`): The images; see [`find_images`].
        phrases (`list[str]`): Phrases that every image is prompted with; may be empty where `prompts` are given.
        folder (`Path`): Output folder.
        outputs (`list[str]`): Output formats, from `OUTPUTS`.
        prompts (`dict[str, Exemplars | list[ObjectPrompt]]`): Exemplar boxes (SAM 3) or object prompts (SAM 2) by
            image name.
        workers (`int`): Number of processes that load images, 0 by default.
        skip_bad (`bool`): Skip images that cannot be read and report them at the end, `False` by default.
        image_channels (`list[int]`): Three channels of the images, from 1; see [`read_channels`].
        settings (`dict`): Settings of the model; a folder contains the predictions of one model only.
        references (`PreparedReferences`, *optional*): References in other images.
    """

    images: ImageList
    phrases: list[str]
    folder: Path
    outputs: list[str]
    prompts: dict[str, Exemplars | list[ObjectPrompt]] = field(default_factory=dict)
    workers: int = 0
    skip_bad: bool = False
    image_channels: list[int] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    references: PreparedReferences | None = None

    def __post_init__(self) -> None:
        self.phrases = check_phrases(self.phrases)
        check_choice("outputs", self.outputs, OUTPUTS)
        if self.prompts:
            unmatched = set(self.prompts) - {image.name for image in self.images}
            if unmatched:
                raise ValueError(
                    f"the prompts name the image {min(unmatched)!r}, which is not among `images` "
                    f"({', '.join(image.name for image in islice(self.images, 3))}, …). Add it to `images`, or remove "
                    "its prompts"
                )
        if not self.phrases and not self.prompts:
            raise ValueError("there is no prompt; give phrases (SAM 3), or boxes and clicks")
        if not self.phrases:  # images without a prompt have no prediction, so they are not opened
            self.images = ImageList(image for image in self.images if image.name in self.prompts)
        if "label_studio" in self.outputs:
            check_label_studio_input(self.images, self.classes)

    @property
    def classes(self) -> list[str]:
        """Class names of the detections, in one order for all images: the phrases, or the labels of the prompts."""
        if self.phrases:
            return list(self.phrases)
        labels = [prompt.label for prompts in self.prompts.values() if isinstance(prompts, list) for prompt in prompts]
        return list(dict.fromkeys(labels)) or [VISUAL]

    @property
    def model_version(self) -> str:
        """Name of the model and the first characters of the fingerprint of its weights."""
        return format_model_version(self.settings.get("model", "sam-ft"), self.settings.get("weights", ""))

    def describe(self, options) -> dict:
        """
        Return the settings that all predictions of a folder have in common.

        Args:
            options: Options of the predictor.
        """
        return {
            "phrases": self.phrases,
            "outputs": sorted(self.outputs),
            "image_channels": self.image_channels,
            "prompts": f"{len(self.prompts)} images, digest {self._compute_prompt_digest()}" if self.prompts else None,
            **dataclasses.asdict(options),
            **self.settings,
        }

    def _compute_prompt_digest(self) -> str:
        """Compute a digest of all prompts, which may be too many for the record of the settings."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.prompts):
            digest.update(json.dumps([name, _to_plain(self.prompts[name])]).encode())
        return digest.hexdigest()


def _to_plain(prompts: Exemplars | list[ObjectPrompt]):
    if isinstance(prompts, list):
        return [dataclasses.asdict(prompt) for prompt in prompts]
    return dataclasses.asdict(prompts)
