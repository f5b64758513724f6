"""Keys of the data, loss and training run of SAM 2."""

import dataclasses
from dataclasses import dataclass

from ..data.samples.object_prompts import ClickOptions
from ..losses.sam2 import PromptLossWeights, Sam2Criterion
from ..optim.parameter_groups import Rates
from .base import arg, check_ranges, take
from .dataset import SharedDataArguments
from .training import SamTrainingArguments


@dataclass
class Sam2DataArguments(SharedDataArguments):
    """Data set, prompts, augmentation and feature cache of a SAM 2 run; phrases only name the objects in reports."""

    prompt_type: str = arg(
        "mixed",
        "First prompt of the objects of a training image. point: clicks; box: a box; mixed: a box with "
        "`box_probability`, else clicks.",
        choices=["point", "box", "mixed"],
    )
    box_probability: float = arg(0.5, "Probability of a box prompt with `prompt_type: mixed`, 0 to 1.")
    min_points: int = arg(
        1,
        "Minimum number of first clicks inside the object, 1 to 5. With more than one click the model predicts one "
        "mask instead of three.",
    )
    max_points: int = arg(1, "Maximum number of first clicks inside the object, from `min_points` to 5.")
    negative_points: int = arg(
        0, "Maximum number of first clicks outside the object and near it (negative clicks), 0 to 5."
    )
    box_jitter: float = arg(0.1, "Maximum shift of each edge of a box prompt as a fraction of the box's side, 0 to 1.")
    box_jitter_px: float = arg(
        20.0,
        "Maximum shift of each edge of a box prompt in px of an input of 1024 px, at least 0; it limits `box_jitter`.",
    )
    mask_prompt_probability: float = arg(
        0.0,
        "Probability, 0 to 1, that the objects of an image also get a mask prompt: their own mask, stretched into the "
        "jittered box.",
    )
    n_rounds: int = arg(
        3,
        "Number of prompt rounds per step, 1 to 20 (8 in the official training): the first prompt, then one click per "
        "round where the mask is wrong. Time and memory of the decoder grow with it; the image encoder runs once.",
    )
    truth_click_probability: float = arg(
        0.1, "Probability, 0 to 1, that a click of a later round is drawn from the whole object instead."
    )
    max_objects_per_image: int = arg(
        16, "Maximum number of trained objects per image, at least 1, drawn anew in each epoch."
    )
    eval_prompt: str | None = arg(
        None,
        "First prompt in evaluation, for `object_IoU`, pictures and results: box, or point (one click at the centre). "
        "Default: box with `prompt_type: box`, else point.",
        choices=["point", "box"],
    )
    eval_clicks: int = arg(
        5,
        "Number of clicks per object in evaluation, 1 to 20: the IoU is measured after each click, and each is placed "
        "at the centre of the region where the mask is wrong.",
    )

    resize: str = arg(
        "plain",
        "Resizing of training images. plain: to the whole input of the model, as in SAM 2; official: to a random side "
        "of 480 to 992 px (of 1008), placed at a random offset, as in SAM 3.",
        choices=["official", "plain"],
    )
    flip_probability: float = arg(0.5, "Probability of a horizontal flip, 0 to 1.")
    color_jitter: float = arg(
        0.1, "Maximum relative change of brightness, contrast and saturation, 0 to 1; 0 changes no colours."
    )

    feature_cache: str | None = arg(
        None,
        "Folder of precomputed image features. The frozen image encoder encodes each image once, every epoch reads "
        "the stored features (8.4 MB per image and view at 1024 px), and the encoder is offloaded. Needs `freeze: "
        "[vision_encoder]`.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.min_points > self.max_points:
            raise ValueError(f"`min_points` is {self.min_points}, more than `max_points`, {self.max_points}")

    def describe_prompts(self) -> str:
        """Describe the prompts of an evaluation for reports."""
        first = "its tight box" if self.first_prompt() == "box" else "a click at its centre"
        return (
            f"each labelled object prompted with {first}, predicted as in Transformers (an unstable single mask is "
            "replaced by the best of three)"
        )

    def clicks(self) -> ClickOptions:
        """Return the options of the training prompts."""
        return take(ClickOptions, self)

    def first_prompt(self) -> str:
        """Return the first prompt of an evaluation: `point` or `box`."""
        return self.eval_prompt or ("box" if self.prompt_type == "box" else "point")


@dataclass
class Sam2LossArguments:
    """Weights and constants of the SAM 2 loss; the defaults are the official ones."""

    loss_mask: float = arg(20.0, "Weight of the focal loss of the best mask, at least 0.")
    loss_dice: float = arg(1.0, "Weight of the dice loss of the best mask, at least 0.")
    loss_iou: float = arg(1.0, "Weight of the loss of the predicted IoU, at least 0.")
    loss_object: float = arg(
        1.0, "Weight of the loss of the object score (whether the object is in the image), at least 0."
    )
    loss_bce: float = arg(
        0.0,
        "Weight of an additional cross-entropy loss of the best mask, at least 0; the official loss has none, 5 gives "
        "sharper edges.",
    )
    loss_mask_alpha: float = arg(0.25, "Weight of the target's pixels in the focal loss of masks, 0 to 1.")
    iou_l1: bool = arg(True, "Use the L1 loss of the predicted IoU; if false, the squared error.")
    all_ious: bool = arg(True, "Supervise the predicted IoU of all three masks; if false, of the best one only.")
    gate_absent: bool = arg(
        False,
        "Set the mask logits of objects that the model predicts as absent to -1024, as in the official training; such "
        "masks get no gradient. Transformers and the official image predictor do not do this.",
    )

    def __post_init__(self):
        check_ranges(self)

    def criterion(self) -> Sam2Criterion:
        """Build the SAM 2 criterion."""
        names = [field.name for field in dataclasses.fields(PromptLossWeights)]
        weights = PromptLossWeights(**{name: getattr(self, f"loss_{name}") for name in names})
        return take(Sam2Criterion, self, weights=weights, mask_alpha=self.loss_mask_alpha)


@dataclass
class Sam2TrainingArguments(SamTrainingArguments):
    """[`SamTrainingArguments`] for SAM 2: batch size 2, 50 epochs, one rate, cosine to a tenth without warm-up."""

    output_dir: str = arg("out/sam2", "Output folder of checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = arg(50.0, "Number of training epochs, at least 0.01.")
    per_device_train_batch_size: int = arg(2, "Number of training images per step and device, at least 1.")
    gradient_accumulation_steps: int = arg(
        1,
        "Number of batches per optimizer step, at least 1. Losses are divided by the objects of all of them, so that "
        "the step equals one large batch.",
    )
    learning_rate: float = arg(1e-4, "Learning rate of all parts but the image encoder, at least 0.")
    vision_learning_rate: float | None = arg(
        None, "Learning rate of the image encoder's trunk and neck, at least 0. Default: `learning_rate`."
    )
    lr_scheduler_type: str = arg(
        "cosine_with_min_lr", "Learning rate schedule, a scheduler type of Transformers such as linear or cosine."
    )
    lr_scheduler_kwargs: dict | str | None = arg(
        None,
        "Arguments of `lr_scheduler_type`. Default: {min_lr_rate: 0.1} for cosine_with_min_lr, none for the others.",
    )
    warmup_steps: float = arg(0, "Number of warm-up steps; a value below 1 is a fraction of all steps.")
    metric_for_best_model: str | None = arg(
        "eval_object_IoU",
        "Metric that selects the best checkpoint: eval_object_IoU, eval_IoU@5, eval_IoU@box, eval_loss, or another "
        "metric of the evaluation.",
    )

    def __post_init__(self):
        if self.lr_scheduler_kwargs is None and self.lr_scheduler_type == "cosine_with_min_lr":
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()

    def rates(self) -> Rates:
        """Return the learning rates by part."""
        vision = self.learning_rate if self.vision_learning_rate is None else self.vision_learning_rate
        return Rates(self.learning_rate, vision, None, self.vision_layer_decay, self.weight_decay)
