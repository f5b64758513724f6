"""Options of the label review."""

from dataclasses import dataclass

from .keys import check_values, key


# Kinds of findings; `sam_ft/metrics/label_review.py` computes their scores.
FINDING_KINDS = (
    "missing_object",
    "spurious_object",
    "wrong_phrase",
    "bad_boundary",
    "merged_or_split",
    "near_duplicate",
)
PROPOSALS = ("coco", "label_studio", "cvat")


@dataclass
class ReviewOptions:
    """
    Options of the label review.

    Attributes:
        review_dir (`str`): Output folder.
        review_splits (`list[str]`): Splits to review, all if empty.
        num_folds (`int`): Number of models; each image is predicted by the one that was not trained on it.
        group_by (`str`, *optional*): `folder`, or a regular expression whose first group names an image's group.
        untrained (`bool`): Predict all images with the model as it is.
        check_crops (`bool`): Predict labels of a probably wrong phrase again in a crop that enlarges them.
        finding_kinds (`list[str]`): Kinds that are reported, of `FINDING_KINDS`.
        min_finding_score (`float`): Minimum score of a reported finding.
        max_findings (`int`): Maximum number of findings on the page.
        proposals (`list[str]`): Formats of the proposals, of `PROPOSALS`.
        min_proposal_score (`float`): Minimum score of a finding whose correction is applied in the proposals.
        unlabelled (`list[str]`): Sources of unlabelled images, which are ranked for labelling.
        num_next (`int`): Number of unlabelled images that are selected.
    """

    review_dir: str = key("out/review", "Output folder of the review: page, findings, proposals and fold models.")
    review_splits: list[str] = key([], "Splits whose labels are reviewed, such as train. Default: all.")
    num_folds: int = key(
        5,
        "Number of folds, at least 2. For each, one model is trained on the other folds and predicts the images of "
        "this one.",
        low=2,
    )
    group_by: str | None = key(
        None,
        "Groups of images that share a fold, such as the frames of a video. folder: images of one folder; otherwise a "
        "regular expression that is searched in the path of the image, whose first group is the name of the group. "
        "Default: copies of an image alone share a fold.",
    )
    untrained: bool = key(
        False,
        "Predict all images with the model as it is, without training: minutes instead of hours, for phrases that the "
        "model finds already.",
    )
    check_crops: bool = key(
        True,
        "Predict labels whose phrase is probably wrong again in a crop that enlarges the object, and take the mean of "
        "both predictions; false leaves it out.",
    )
    finding_kinds: list[str] = key(
        list(FINDING_KINDS), f"Kinds of findings: {', '.join(FINDING_KINDS)}. Default: all.", choices=FINDING_KINDS
    )
    min_finding_score: float = key(
        0.2, "Minimum score of the findings in findings.json, page and proposals, 0 to 1.", low=0, high=1
    )
    max_findings: int = key(
        200, "Maximum number of findings on the page, highest scores first; 0 writes no page.", low=0
    )
    proposals: list[str] = key(
        ["coco"],
        "Formats of the proposals, one or several: coco, label_studio, cvat.",
        choices=PROPOSALS,
    )
    min_proposal_score: float = key(
        0.5, "Minimum score of the findings whose correction is applied in the proposals, 0 to 1.", low=0, high=1
    )
    unlabelled: list[str] = key(
        [],
        "Unlabelled images to rank for labelling: files, folders, globs, text files with one path per line, tar or "
        "parquet files. Default: none.",
    )
    num_next: int = key(
        20, "Number of images of `unlabelled` that are selected to be labelled next, at least 1.", name="next", low=1
    )

    def __post_init__(self) -> None:
        check_values(self)
