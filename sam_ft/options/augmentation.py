"""Options of the training transforms."""

from dataclasses import dataclass

from .keys import check_values, key


RESIZES = ("official", "plain")


@dataclass
class TransformOptions:
    """
    Options of the training transforms.

    Attributes:
        resolution (`int`): Side of the square canvas in px.
        resize (`str`): `official`: a square of 480 to 992 px of 1008, padded at a random offset; `plain`: the whole
            canvas.
        flip_probability (`float`): Probability of a horizontal flip. Images whose phrases contain left or right are
            never flipped.
        color_jitter (`float`): Maximum relative change of brightness, contrast and saturation.
        crop_probability (`float`): Probability of a random crop.
        min_crop (`float`): Minimum share of each side that a crop keeps.
        min_visible (`float`): Visible share below which an instance counts as vanished.
        draft_decoding (`bool`): Decode JPEG files at reduced size if they have at least twice the pixels of the canvas
            along each side.
    """

    resolution: int = 1008
    resize: str = key(
        "official",
        "Resizing of training images. official: to a random side of 480 to 992 px (of 1008), placed at a random "
        "offset; plain: to the whole input of the model.",
        choices=RESIZES,
    )
    flip_probability: float = key(
        0.5,
        "Probability of a horizontal flip, 0 to 1. Images whose phrases contain left or right are never flipped.",
        low=0,
        high=1,
    )
    color_jitter: float = key(
        0.2,
        "Maximum relative change of brightness, contrast and saturation, 0 to 1; 0 changes no colours.",
        low=0,
        high=1,
    )
    crop_probability: float = key(0.0, "Probability of a random crop, 0 to 1.", low=0, high=1)
    min_crop: float = key(
        0.6, "Smallest side of a random crop as a fraction of the image's side, 0.05 to 1.", low=0.05, high=1
    )
    min_visible: float = key(
        0.1,
        "Smallest visible fraction of an instance after a crop, 0 to 1; an instance below it is removed and its "
        "phrase becomes non-exhaustive.",
        low=0,
        high=1,
    )
    draft_decoding: bool = key(
        False,
        "Decode training images in JPEG at half, a quarter or an eighth of their size if the input of the model needs "
        "no more pixels; several times as fast for photos of 12 megapixels, with slightly different pixels. "
        "Evaluations always decode the whole image.",
    )

    def __post_init__(self) -> None:
        check_values(self)
