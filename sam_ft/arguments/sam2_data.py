"""Keys of the data of SAM 2: simulated prompts, augmentation and feature cache."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.augmentation import TransformOptions
from ..options.keys import build_options, key, key_of
from ..options.objects import ClickOptions
from .base import Keys, with_keys_of
from .dataset import SharedDataArguments


@with_keys_of(ClickOptions)
class ClickArguments(Keys):
    """Simulated prompts of the objects of a training image."""

    key_topic: ClassVar[str] = "Prompts and augmentation"


@dataclass
class ObjectEvaluationArguments(Keys):
    """Prompts of the evaluation."""

    key_topic: ClassVar[str] = "Evaluation"

    eval_prompt: str | None = key(
        None,
        "First prompt in evaluation, for `object_IoU`, pictures and results: box, or point (one click at the centre). "
        "Default: box with `prompt_type: box`, else point.",
        choices=("point", "box"),
    )
    eval_clicks: int = key(
        5,
        "Number of clicks per object in evaluation, 1 to 20: the IoU is measured after each click, and each is placed "
        "at the centre of the region where the mask is wrong.",
        low=1,
        high=20,
    )


@dataclass
class Sam2DataArguments(ObjectEvaluationArguments, ClickArguments, SharedDataArguments):
    """Data set, prompts, augmentation and feature cache of a SAM 2 run; phrases only name the objects in reports."""

    key_topic: ClassVar[str] = "Data"

    resize: str = key_of(
        TransformOptions,
        "resize",
        "plain",
        "Resizing of training images. plain: to the whole input of the model, as in SAM 2; official: to a random side "
        "of 480 to 992 px (of 1008), placed at a random offset, as in SAM 3.",
    )
    flip_probability: float = key_of(
        TransformOptions, "flip_probability", help="Probability of a horizontal flip, 0 to 1."
    )
    color_jitter: float = key_of(TransformOptions, "color_jitter", 0.1)
    feature_cache: str | None = key(
        None,
        "Folder of precomputed image features. The frozen image encoder encodes each image once, every epoch reads "
        "the stored features (8.4 MB per image and view at 1024 px), and the encoder is offloaded. Needs `freeze: "
        "[vision_encoder]`.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        build_options(ClickOptions, self)

    def describe_prompts(self) -> str:
        """Describe the prompts of an evaluation for reports."""
        first = "its tight box" if self.get_first_prompt() == "box" else "a click at its centre"
        return (
            f"each labelled object prompted with {first}, predicted as in Transformers (an unstable single mask is "
            "replaced by the best of three)"
        )

    def get_first_prompt(self) -> str:
        """Return the first prompt of an evaluation: `point` or `box`."""
        return self.eval_prompt or ("box" if self.prompt_type == "box" else "point")
