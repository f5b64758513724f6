"""Weights and constants of the losses, and costs of the matchers."""

from dataclasses import dataclass, field

from .keys import check_values, key


@dataclass
class LossWeights:
    """
    Weights and constants of SAM 3's loss; defaults of the official fine-tuning configuration with masks.

    Attributes:
        box (`float`): Weight of the L1 loss of boxes.
        giou (`float`): Weight of the generalised IoU loss.
        classification (`float`): Weight of the classification loss.
        presence (`float`): Weight of the presence loss.
        mask (`float`): Weight of the focal loss of masks.
        dice (`float`): Weight of the dice loss of masks.
        semantic (`float`): Weight of the focal loss of the semantic mask.
        semantic_dice (`float`): Weight of the dice loss of the semantic mask.
        one_to_many (`float`): Weight of the one-to-many queries.
        positive (`float`): Weight of a matched query against an unmatched one; 5 in the official ODinW recipe.
        presence_alpha (`float`): Factor of both classes of the presence loss.
        score_alpha (`float`): Exponent a of the soft target score^a · IoU^(1−a).
        mask_alpha (`float`): Focal weight of the target's pixels.
        semantic_alpha (`float`): Focal weight of the target's pixels in the semantic mask.
    """

    box: float = key(5.0, "Weight of the L1 loss of matched boxes, at least 0.", name="loss_box", low=0)
    giou: float = key(2.0, "Weight of the generalised IoU loss of matched boxes, at least 0.", name="loss_giou", low=0)
    classification: float = key(
        20.0, "Weight of the classification loss of the query scores, at least 0.", name="loss_classification", low=0
    )
    presence: float = key(
        20.0,
        "Weight of the presence loss (whether the phrase occurs in the image), at least 0.",
        name="loss_presence",
        low=0,
    )
    mask: float = key(200.0, "Weight of the focal loss of matched masks, at least 0.", name="loss_mask", low=0)
    dice: float = key(10.0, "Weight of the dice loss of matched masks, at least 0.", name="loss_dice", low=0)
    semantic: float = key(
        20.0,
        "Weight of the focal loss of the semantic mask (the union of all instances), at least 0.",
        name="loss_semantic",
        low=0,
    )
    semantic_dice: float = key(
        30.0,
        "Weight of the dice loss of the semantic mask (the union of all instances), at least 0.",
        name="loss_semantic_dice",
        low=0,
    )
    one_to_many: float = key(
        2.0,
        "Weight of the losses of the one-to-many queries relative to the one-to-one queries, at least 0.",
        name="loss_one_to_many",
        low=0,
    )
    positive: float = key(
        10.0,
        "Weight of matched queries relative to unmatched ones in the classification loss, at least 0.",
        name="loss_positive",
        low=0,
    )
    presence_alpha: float = key(
        0.5,
        "Factor alpha of the presence loss, 0 to 1; it multiplies both classes, as in the official code.",
        name="loss_presence_alpha",
        low=0,
        high=1,
    )
    score_alpha: float = key(
        0.25,
        "Exponent a of the score in the classification target score^a · IoU^(1−a), 0 to 1.",
        name="loss_score_alpha",
        low=0,
        high=1,
    )
    mask_alpha: float = key(
        0.25,
        "Weight of the target's pixels in the focal loss of masks, 0 to 1.",
        name="loss_mask_alpha",
        low=0,
        high=1,
    )
    semantic_alpha: float = key(
        0.6,
        "Weight of the target's pixels in the focal loss of the semantic mask, 0 to 1.",
        name="loss_semantic_alpha",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class MatchingCosts:
    """
    Costs of the one-to-one matching.

    Attributes:
        cost_class (`float`): Weight of the focal classification cost, default 2.
        cost_box (`float`): Weight of the L1 distance of boxes, default 5.
        cost_giou (`float`): Weight of the generalised IoU, default 2.
    """

    cost_class: float = key(2.0, "Matching cost of the score, at least 0.", name="match_class", low=0)
    cost_box: float = key(5.0, "Matching cost of the L1 distance of boxes, at least 0.", name="match_box", low=0)
    cost_giou: float = key(2.0, "Matching cost of the generalised IoU of boxes, at least 0.", name="match_giou", low=0)

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class OneToManyScores:
    """
    Numbers of the one-to-many matching.

    Attributes:
        alpha (`float`): Weight of the score against the IoU, default 0.3.
        threshold (`float`): Lower bound of a match's score, default 0.4.
        topk (`int`): Candidates per target, default 4.
    """

    alpha: float = key(
        0.3,
        "Share of the query's score in the matching score of one-to-many queries, 0 to 1; the remainder is the share "
        "of the IoU.",
        name="one_to_many_alpha",
        low=0,
        high=1,
    )
    threshold: float = key(
        0.4, "Minimum matching score of a one-to-many query, 0 to 1.", name="one_to_many_threshold", low=0, high=1
    )
    topk: int = key(
        4,
        "Maximum number of one-to-many queries that are assigned to an instance, at least 1.",
        name="one_to_many_topk",
        low=1,
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class ConceptLossOptions:
    """
    Options of the loss of SAM 3.

    Attributes:
        weights (`LossWeights`): Weights of the terms.
        masks_per_block (`int`): Full-size mask rows in memory at once, default 8. Affects speed and memory only.
        mask_points (`int`, *optional*): Points sampled per mask (PointRend); all pixels where not set.
        scale_by_sqrt_pairs (`bool`): Multiply the loss by the square root of the batch's number of pairs, as the
            official code does. The loss then depends on the split of the accumulation window. Default false.
        ignore_overlap (`float`): Share of an unmatched query's box inside an ignored region from which on the query is
            not supervised as background, default 0.5.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    masks_per_block: int = key(
        8,
        "Number of full-size masks whose loss is computed at once, at least 1. It changes speed and memory, but no "
        "result.",
        low=1,
    )
    mask_points: int | None = key(
        None,
        "Number of sampled points per mask in the mask losses (PointRend), at least 1. Default: all pixels.",
        low=1,
    )
    ignore_overlap: float = key(
        0.5,
        "Minimum fraction of a query's box inside a crowd region, 0 to 1, from which on an unmatched query is ignored "
        "by the loss.",
        low=0,
        high=1,
    )
    scale_by_sqrt_pairs: bool = key(
        False, "Multiply the loss by the square root of the batch's (image, phrase) pairs, as in the official code."
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class PromptLossWeights:
    """
    Weights of the loss terms; the defaults are SAM 2.1's training (`sam2.1_hiera_b+_MOSE_finetune.yaml`).

    Attributes:
        mask (`float`): Weight of the focal loss of mask pixels, default 20.
        dice (`float`): Weight of the dice loss, default 1.
        iou (`float`): Weight of the predicted IoU's error, default 1.
        object (`float`): Weight of the object score's cross-entropy, default 1.
        bce (`float`): Weight of the plain cross-entropy of mask pixels, default 0 as in the official loss.
    """

    mask: float = key(20.0, "Weight of the focal loss of the best mask, at least 0.", name="loss_mask", low=0)
    dice: float = key(1.0, "Weight of the dice loss of the best mask, at least 0.", name="loss_dice", low=0)
    iou: float = key(1.0, "Weight of the loss of the predicted IoU, at least 0.", name="loss_iou", low=0)
    object: float = key(
        1.0,
        "Weight of the loss of the object score (whether the object is in the image), at least 0.",
        name="loss_object",
        low=0,
    )
    bce: float = key(
        0.0,
        "Weight of an additional cross-entropy loss of the best mask, at least 0; the official loss has none, 5 gives "
        "sharper edges.",
        name="loss_bce",
        low=0,
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class PromptLossOptions:
    """
    Options of the loss of SAM 2.

    Attributes:
        weights (`PromptLossWeights`): Weights of the terms.
        mask_alpha (`float`): Weight of the target's pixels in the focal loss, default 0.25.
        iou_l1 (`bool`): Use the absolute error of the predicted IoU, default; the squared error otherwise.
        all_ious (`bool`): Supervise the predicted IoU of all candidates, default; of the best one only otherwise.
    """

    weights: PromptLossWeights = field(default_factory=PromptLossWeights)
    mask_alpha: float = key(
        0.25,
        "Weight of the target's pixels in the focal loss of masks, 0 to 1.",
        name="loss_mask_alpha",
        low=0,
        high=1,
    )
    iou_l1: bool = key(True, "Use the L1 loss of the predicted IoU; if false, the squared error.")
    all_ious: bool = key(True, "Supervise the predicted IoU of all three masks; if false, of the best one only.")

    def __post_init__(self) -> None:
        check_values(self)
