"""Options of the optimizer."""

from dataclasses import dataclass

from .keys import check_values, key


@dataclass
class LearningRates:
    """
    Learning rates by model part; defaults are the paper's times 0.1, as in the official fine-tuning.

    Attributes:
        transformer (`float`): Learning rate of all parameters outside the two encoders.
        vision (`float`): Learning rate of the vision encoder.
        text (`float`, *optional*): Learning rate of the text encoder; not set for SAM 2.
        vision_layer_decay (`float`): Layer-wise learning-rate decay of the vision trunk.
        weight_decay (`float`): Weight decay of all parameters except biases and LayerNorm weights.

    Source:
        Carion et al. 2025.
    """

    transformer: float = 8e-5
    vision: float = 2.5e-5
    text: float | None = 5e-6
    vision_layer_decay: float = key(
        0.9,
        "Layer-wise learning-rate decay of the ViT, 0 to 1: the learning rate of a layer is this factor times that of "
        "the layer behind it.",
        low=0,
        high=1,
    )
    weight_decay: float = key(
        0.1, "Weight decay of AdamW, at least 0; biases and normalization layers have none.", low=0
    )

    def __post_init__(self) -> None:
        check_values(self)
