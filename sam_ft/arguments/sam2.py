"""Keys of SAM 2's data, loss and training run."""

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
    """What is read, and how each object is prompted. Phrases are not used; they name the objects in reports."""

    prompt_type: str = arg(
        "mixed",
        "First prompt of an image's objects: point (clicks), box, mixed (a box with `box_probability`, else clicks).",
        choices=["point", "box", "mixed"],
    )
    box_probability: float = arg(0.5, "`mixed`: chance of a box.")
    min_points: int = arg(
        1, "First clicks inside the object, at least; more than one is no longer ambiguous: one mask instead of three."
    )
    max_points: int = arg(1, "First clicks inside the object, at most 5.")
    negative_points: int = arg(0, "First clicks outside the object, near it, at most.")
    box_jitter: float = arg(0.1, "Each edge of a box moves by up to this share of its side …")
    box_jitter_px: float = arg(20.0, "… and by at most so many px of a canvas of 1024.")
    mask_prompt_probability: float = arg(
        0.0,
        "Chance that an image's objects are also prompted with a mask: their own, stretched into the jittered box.",
    )
    n_rounds: int = arg(
        3,
        "Rounds a step: the first prompt, then each time one click where the mask is wrong. 8 officially. Time and memory of the decoder grow with it, "
        "the image encoder runs once.",
    )
    truth_click_probability: float = arg(0.1, "Chance that such a click lies anywhere in the object instead.")
    max_objects_per_image: int = arg(16, "Objects trained of an image at most, drawn anew each epoch.")
    eval_prompt: str | None = arg(
        None,
        "First prompt of an evaluation, by which `object_IoU`, pictures and results are: box, or point (one click at the centre). Default: box with "
        "`prompt_type: box`, else point.",
        choices=["point", "box"],
    )
    eval_clicks: int = arg(5, "Evaluation: IoU after 1 to so many clicks, each at the centre of what is wrong.")

    resize: str = arg(
        "plain",
        "plain: the whole canvas, as SAM 2 does; official: SAM 3's square of 480 to 992 px (of 1008) at a random place.",
        choices=["official", "plain"],
    )
    flip_probability: float = arg(0.5, "Horizontal flip.")
    color_jitter: float = arg(0.1, "Brightness, contrast and saturation change by up to this share.")

    feature_cache: str | None = arg(
        None,
        "Folder: what the frozen image encoder says of each image is computed once, stored there and read in every epoch (8.4 MB an image and view at "
        "1024 px); the encoder leaves the device. Needs `freeze: [vision_encoder]`.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.min_points > self.max_points:
            raise ValueError(f"`min_points` is {self.min_points}, more than `max_points`, {self.max_points}")

    def asked(self) -> str:
        """What an evaluation asks, in words."""
        first = "its tight box" if self.first_prompt() == "box" else "a click at its centre"
        return f"each labelled object prompted with {first}, answered as Transformers does (an unstable single mask gives way to the best of three)"

    def clicks(self) -> ClickOptions:
        return take(ClickOptions, self)

    def first_prompt(self) -> str:
        """Of an evaluation: `point` or `box`."""
        return self.eval_prompt or ("box" if self.prompt_type == "box" else "point")


@dataclass
class Sam2LossArguments:
    """Weights of SAM 2's loss; the defaults are the official ones."""

    loss_mask: float = arg(20.0, "Focal loss of the best of the masks.")
    loss_dice: float = arg(1.0, "Dice of that mask.")
    loss_iou: float = arg(1.0, "Predicted IoU, L1, of all masks.")
    loss_object: float = arg(1.0, "Object score: is the object there at all.")
    loss_bce: float = arg(0.0, "Plain cross-entropy of that mask; the official loss has none, 5 sharpens edges.")
    loss_mask_alpha: float = arg(0.25, "Weight of the target's pixels in the focal loss.")
    iou_l1: bool = arg(True, "L1 of the predicted IoU; squared where false.")
    all_ious: bool = arg(True, "Teach the predicted IoU of all three masks; of the best alone where false.")
    gate_absent: bool = arg(
        False,
        "Silence masks of objects that the model says are absent (logits -1024), as the official training does: such masks get no gradient. "
        "Transformers and the official image predictor answer without it.",
    )

    def __post_init__(self):
        check_ranges(self)

    def criterion(self) -> Sam2Criterion:
        names = [field.name for field in dataclasses.fields(PromptLossWeights)]
        weights = PromptLossWeights(**{name: getattr(self, f"loss_{name}") for name in names})
        return take(Sam2Criterion, self, weights=weights, mask_alpha=self.loss_mask_alpha)


@dataclass
class Sam2TrainingArguments(SamTrainingArguments):
    """[`SamTrainingArguments`] for SAM 2: batch size 2, 50 epochs, one rate, cosine to a tenth of it without warm-up."""

    output_dir: str = arg("out/sam2", "Checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = arg(50.0, "Passes over the training images.")
    per_device_train_batch_size: int = arg(2, "Images a step and device.")
    gradient_accumulation_steps: int = arg(1, "Batches an optimizer step; exact: losses are divided by all objects.")
    learning_rate: float = arg(1e-4, "Rate of everything but the image encoder.")
    vision_learning_rate: float | None = arg(
        None, "Rate of the image encoder's trunk and neck. Default: `learning_rate`."
    )
    lr_scheduler_type: str = arg("cosine_with_min_lr", "Schedule of Transformers.")
    lr_scheduler_kwargs: dict | str | None = arg(
        None, "Its numbers. Default: {min_lr_rate: 0.1} for cosine_with_min_lr."
    )
    warmup_steps: float = arg(0, "Steps of rising rates; below 1, a share of all steps.")
    metric_for_best_model: str | None = arg(
        "eval_object_IoU", "What best means: eval_object_IoU, eval_IoU@5, eval_IoU@box, eval_loss, …"
    )

    def __post_init__(self):
        if self.lr_scheduler_kwargs is None and self.lr_scheduler_type == "cosine_with_min_lr":
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()

    def rates(self) -> Rates:
        vision = self.learning_rate if self.vision_learning_rate is None else self.vision_learning_rate
        return Rates(self.learning_rate, vision, None, self.vision_layer_decay, self.weight_decay)
