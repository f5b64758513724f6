"""Options of the evaluation."""

from dataclasses import dataclass

from .keys import check_values, key


@dataclass
class DetectionLimits:
    """
    Selection of queries in an evaluation.

    Attributes:
        score_threshold (`float`): Minimum score.
        max_detections (`int`): Maximum number of queries for each pair.
    """

    score_threshold: float = key(
        0.05, "Minimum score of a detection in evaluation, 0 to 1.", name="eval_score_threshold", low=0, high=1
    )
    max_detections: int = key(
        100,
        "Maximum number of detections per phrase and image in evaluation, at least 1.",
        name="eval_max_detections",
        low=1,
    )

    def __post_init__(self) -> None:
        check_values(self)
