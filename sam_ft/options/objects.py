"""Options of the simulated prompts of objects."""

from dataclasses import dataclass

from .keys import check_values, key


@dataclass
class ClickOptions:
    """
    Options of the simulated prompts of objects.

    Type and number of prompts are drawn for each image. The official code draws them for each batch of all processes,
    so that they would depend on gradient accumulation and on the number of processes.

    Attributes:
        prompt_type (`str`): `point`, `box`, or `mixed`: a box with `box_probability`, else clicks.
        box_probability (`float`): Probability of a box for `mixed`.
        min_points (`int`): Minimum number of first clicks in the object.
        max_points (`int`): Maximum number of first clicks in the object.
        negative_points (`int`): Maximum number of first clicks outside the object.
        box_jitter (`float`): Maximum shift of each edge of a box, as a share of its side.
        box_jitter_px (`float`): Maximum shift of each edge of a box, in px of 1024.
        mask_prompt_probability (`float`): Probability of an additional mask prompt, the ground-truth mask stretched to
            the jittered box.
        n_rounds (`int`): Number of prompting rounds; each after the first adds one click in the error region.
        truth_click_probability (`float`): Probability that such a click lies anywhere in the object instead.
        max_objects_per_image (`int`): Maximum number of objects; a subset is drawn in each epoch.
    """

    prompt_type: str = key(
        "mixed",
        "First prompt of the objects of a training image. point: clicks; box: a box; mixed: a box with "
        "`box_probability`, else clicks.",
        choices=("point", "box", "mixed"),
    )
    box_probability: float = key(0.5, "Probability of a box prompt with `prompt_type: mixed`, 0 to 1.", low=0, high=1)
    min_points: int = key(
        1,
        "Minimum number of first clicks inside the object, 1 to 5. With more than one click the model predicts one "
        "mask instead of three.",
        low=1,
        high=5,
    )
    max_points: int = key(
        1, "Maximum number of first clicks inside the object, from `min_points` to 5.", low=1, high=5
    )
    negative_points: int = key(
        0,
        "Maximum number of first clicks outside the object and near it (negative clicks), 0 to 5.",
        low=0,
        high=5,
    )
    box_jitter: float = key(
        0.1,
        "Maximum shift of each edge of a box prompt as a fraction of the box's side, 0 to 1.",
        low=0,
        high=1,
    )
    box_jitter_px: float = key(
        20.0,
        "Maximum shift of each edge of a box prompt in px of an input of 1024 px, at least 0; it limits `box_jitter`.",
        low=0,
    )
    mask_prompt_probability: float = key(
        0.0,
        "Probability, 0 to 1, that the objects of an image also get a mask prompt: their own mask, stretched into the "
        "jittered box.",
        low=0,
        high=1,
    )
    n_rounds: int = key(
        3,
        "Number of prompt rounds per step, 1 to 20 (8 in the official training): the first prompt, then one click per "
        "round where the mask is wrong. Time and memory of the decoder grow with it; the image encoder runs once.",
        low=1,
        high=20,
    )
    truth_click_probability: float = key(
        0.1,
        "Probability, 0 to 1, that a click of a later round is drawn from the whole object instead.",
        low=0,
        high=1,
    )
    max_objects_per_image: int = key(
        16, "Maximum number of trained objects per image, at least 1, drawn anew in each epoch.", low=1
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.min_points > self.max_points:
            raise ValueError(
                f"`min_points` must be at most `max_points`, which is {self.max_points}, got {self.min_points}"
            )

    @property
    def has_mask_prompts(self) -> bool:
        """Return whether the decoder receives mask prompts; only then their encoder gets gradients."""
        return self.n_rounds > 1 or self.mask_prompt_probability > 0
