"""
Every key of a run. The `help` texts are the reference; functions below `training/` take the plain options that the
methods here make of them.
"""

import dataclasses
import inspect
import logging
import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from .data.load import SYNTHETIC, DatasetOptions
from .data.phrases import PhraseOptions
from .data.pipeline import PromptOptions
from .data.readers.coco import CocoOptions
from .data.scenes import COLORS, FILLS, LIGHT_GROUNDS, SHAPES, SIZES, SceneOptions
from .data.synthetic import SceneFiles
from .data.transforms import TransformOptions
from .data.vocabulary import PhraseMap, read_phrase_map
from .losses.matcher import HungarianMatcher, OneToManyMatcher
from .losses.sam3 import LossWeights, Sam3Criterion
from .models.load import TINY, ModelOptions
from .models.sam3 import Keep
from .training.optim import Rates


logger = logging.getLogger(__name__)


def _arg(default, help: str, **metadata):
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


_ANY = float("inf")
# smallest and largest value that mean something; anything else would quietly train on nothing or on nonsense
RANGES = {
    **dict.fromkeys(
        ["resolution", "pairs_per_chunk", "masks_per_block", "mask_points", "one_to_many_topk"], (1, _ANY)
    ),
    **dict.fromkeys(["max_train_samples", "max_eval_samples", "max_phrases_per_image"], (1, _ANY)),
    **dict.fromkeys(["keep_max_detections", "gradient_accumulation_steps", "timescale_steps"], (1, _ANY)),
    **dict.fromkeys(["per_device_train_batch_size", "per_device_eval_batch_size"], (1, _ANY)),
    **dict.fromkeys(["scene_train_images", "scene_eval_images", "scene_min_shapes", "scene_max_shapes"], (1, _ANY)),
    **dict.fromkeys(["scene_width", "scene_height"], (16, _ANY)),
    **dict.fromkeys(["scene_clutter", "scene_ramp", "scene_seed"], (0, _ANY)),
    **dict.fromkeys(
        ["negatives_per_image", "num_pictures", "cooldown_steps", "warmup_steps", "max_grad_norm"], (0, _ANY)
    ),
    **dict.fromkeys(
        ["learning_rate", "vision_learning_rate", "text_learning_rate", "lr_scale", "weight_decay"], (0, _ANY)
    ),
    **dict.fromkeys(
        ["loss_box", "loss_giou", "loss_classification", "loss_presence", "loss_mask", "loss_dice"], (0, _ANY)
    ),
    **dict.fromkeys(["loss_semantic", "loss_semantic_dice", "loss_one_to_many", "loss_positive"], (0, _ANY)),
    **dict.fromkeys(["match_class", "match_box", "match_giou"], (0, _ANY)),
    **dict.fromkeys(["loss_presence_alpha", "loss_score_alpha", "loss_mask_alpha", "loss_semantic_alpha"], (0, 1)),
    **dict.fromkeys(["one_to_many_threshold", "one_to_many_alpha", "ignore_overlap", "keep_score_threshold"], (0, 1)),
    **dict.fromkeys(
        [
            "flip_probability",
            "crop_probability",
            "exemplar_probability",
            "color_jitter",
            "scene_cut_off",
            "scene_shape_alone",
            "dropout",
        ],
        (0, 1),
    ),
    **dict.fromkeys(["min_visible", "vision_layer_decay"], (0, 1)),
    "num_train_epochs": (0.01, _ANY),
    "min_crop": (0.05, 1),
    "validation_fraction": (0, 0.9),
    "negative_ratio": (0, 0.99),
    "seed": (0, 2**32 - 1),
}


def _check_ranges(arguments) -> None:
    """Raises `ValueError` for a number outside `RANGES`; names key, value and range."""
    for key, (low, high) in RANGES.items():
        value = getattr(arguments, key, None)
        if isinstance(value, int | float) and not (low <= value <= high and value < _ANY):
            allowed = f"{low:g} or more" if high == _ANY else f"between {low:g} and {high:g}"
            raise ValueError(f"`{key}` is {value}; it must be {allowed}")


def _take(options: type, source, **given):
    """Options from the fields of the same name."""
    names = inspect.signature(options).parameters.keys() - given.keys()
    return options(**{n: getattr(source, n) for n in names if hasattr(source, n)}, **given)


@dataclass
class ModelArguments:
    """Which model, how it is held in memory, and what of it is trained."""

    model_name_or_path: str = _arg(
        TINY,
        "Hub id (facebook/sam3), folder of a saved model or of a run, or what this package carries: sam-ft/tiny, 1.8 M "
        "parameters that know coloured shapes, and sam-ft/random-tiny, the same untrained.",
    )
    model_revision: str | None = _arg(None, "Branch, tag or commit on the Hub.")
    dtype: str = _arg(
        "float32", "Weights of the two encoders; the small parts stay in float32.", choices=["float32", "bfloat16"]
    )
    attn_implementation: str | None = _arg(None, "Attention kernel: sdpa, eager, flash_attention_2.")
    resolution: int | None = _arg(
        None, "Side of the model's canvas in px, a multiple of its patch (14 in SAM 3). Default: the checkpoint's."
    )
    vision_text_checkpointing: bool = _arg(
        False, "Recompute ViT and text layers in the backward pass: a third more time, a fraction of the memory."
    )
    dropout: float | None = _arg(None, "Dropout behind the encoders. Default: the checkpoint's, 0.1 in SAM 3.")
    official_dropout: bool = _arg(
        False, "Drop-path and dropouts of the official training that Transformers leaves out."
    )
    train_masks: bool = _arg(True, "Train and predict masks; boxes alone where false.")
    pairs_per_chunk: int = _arg(4, "(image, phrase) pairs in memory at once. Changes speed and memory, no result.")
    freeze: list[str] = _arg(
        [],
        "Parts that are not trained: vision_encoder, text_encoder, geometry_encoder, detr_encoder, detr_decoder, scoring, "
        "mask_decoder.",
    )

    def __post_init__(self):
        _check_ranges(self)

    def options(self, seed: int) -> ModelOptions:
        return _take(
            ModelOptions,
            self,
            revision=self.model_revision,
            activation_checkpointing=self.vision_text_checkpointing,
            with_masks=self.train_masks,
            seed=seed,
        )


@dataclass
class DataArguments:
    """What is read, what is asked of each image, and how it is drawn."""

    dataset_name: str | None = _arg(
        SYNTHETIC,
        "Folder of a data set (README, Your own data); `synthetic`: scenes of coloured shapes, written to data/test_shapes; "
        "`synthetic-stream`: such scenes drawn when asked for, with phrases of attributes.",
    )
    annotation_file: str | None = _arg(None, "One COCO file, instead of a tree.")
    image_folder: str | None = _arg(None, "Images of `annotation_file`. Default: the file's own folder.")
    eval_annotation_file: str | None = _arg(None, "COCO file for evaluation, beside `annotation_file`.")
    eval_image_folder: str | None = _arg(None, "Images of `eval_annotation_file`. Default: `image_folder`.")
    train_split: str = _arg("train", "Split to train on.")
    eval_split: str = _arg("validation", "Split to evaluate on: validation or test.")
    validation_fraction: float = _arg(0.1, "Share of the training images held out where there is no validation split.")
    max_train_samples: int | None = _arg(None, "Use the first so many training images.")
    max_eval_samples: int | None = _arg(None, "Use the first so many evaluation images.")
    on_bad_rows: str = _arg(
        "error", "A row that cannot be used: stop, or leave it out and list it at the end.", choices=["error", "skip"]
    )
    verify_images: bool = _arg(True, "Decode every image once before training, to find damaged files.")

    phrase_source: str = _arg("category", "Where phrases come from.", choices=["category", "noun_phrase", "both"])
    noun_phrases: str = _arg(
        "exhaustive",
        "What annotations' noun_phrase promises: open (others may be unlabelled), exhaustive (all instances in the image "
        "are labelled), closed (images without it do not show it).",
        choices=["open", "exhaustive", "closed"],
    )
    phrase_map: str | None = _arg(
        None, "YAML file `class: phrase`, `class: [phrase, synonym, …]` or `class: null` to drop a class."
    )
    negative_ratio: float = _arg(0.2, "Share of absent phrases among those asked.")
    negatives_per_image: int | None = _arg(None, "A fixed number of absent phrases an image, instead of the ratio.")
    max_phrases_per_image: int = _arg(32, "Phrases asked of an image at most; positives are kept first.")

    resize: str = _arg(
        "official",
        "official: a square of 480 to 992 px (of 1008) at a random place; plain: the whole canvas.",
        choices=["official", "plain"],
    )
    flip_probability: float = _arg(0.5, "Horizontal flip; never of images whose phrases say left or right.")
    color_jitter: float = _arg(0.2, "Brightness, contrast and saturation change by up to this share.")
    crop_probability: float = _arg(0.0, "Random crop.")
    min_crop: float = _arg(0.6, "Smallest crop, as a share of each side.")
    min_visible: float = _arg(0.1, "An instance with less of it left counts as gone, its phrase as not exhaustive.")
    exemplar_probability: float = _arg(0.0, "A present phrase also gets one of its instances as a box prompt.")
    geometry_token: str = _arg(
        "mixed",
        "Whether text-only prompts see the geometry encoder's token: always (official package), never (Transformers), "
        "mixed (right in both).",
        choices=["always", "never", "mixed"],
    )
    eval_geometry_token: str = _arg(
        "never", "The same for evaluation: never scores what Transformers will predict.", choices=["always", "never"]
    )

    scene_train_images: int = _arg(20, "Synthetic scenes: training images.")
    scene_eval_images: int = _arg(5, "Synthetic scenes: validation images.")
    scene_width: int = _arg(160, "Synthetic scenes: width in px.")
    scene_height: int = _arg(160, "Synthetic scenes: height in px.")
    scene_min_shapes: int = _arg(2, "Synthetic scenes: fewest shapes an image.")
    scene_max_shapes: int = _arg(5, "Synthetic scenes: most shapes an image.")
    scene_shapes: list[str] = _arg(
        list(SHAPES),
        "Synthetic scenes: shapes that are drawn. Others that the embedded model knows: oval, diamond, pentagon, trapezoid, dome, "
        "corner, hammer, drop, bolt, hut. New to it: star, heart, cross.",
    )
    scene_colors: list[str] = _arg(list(COLORS), "Synthetic scenes: colours.")
    scene_fills: list[str] = _arg(list(FILLS), "Synthetic scenes: solid, outlined, striped, dotted.")
    scene_sizes: list[str] = _arg(list(SIZES), "Synthetic scenes: tiny, small, medium, large.")
    scene_grounds: list[str] = _arg(
        list(LIGHT_GROUNDS), "Synthetic scenes: plain, gradient, checkered, ruled, speckled, night."
    )
    scene_clutter: float = _arg(2.0, "Synthetic scenes: mean number of scribbles that no phrase names.")
    scene_cut_off: float = _arg(0.15, "Synthetic scenes: share of things that may reach over the edge.")
    scene_train_labels: list[str] | None = _arg(
        None, "`synthetic`: shapes that the training split labels. Default: all that are drawn."
    )
    scene_ramp: int = _arg(
        0, "`synthetic-stream`: over so many training scenes the share of plain ones falls from all to none."
    )
    scene_shape_alone: float | None = _arg(
        None, "`synthetic-stream`: share of phrases that name the shape alone, the hardest. Default: a third."
    )
    scene_seed: int = _arg(0, "Synthetic scenes: another number draws other scenes.")

    def __post_init__(self):
        _check_ranges(self)

    def dataset(self) -> DatasetOptions:
        drawn = {f.name: getattr(self, f"scene_{f.name}") for f in dataclasses.fields(SceneOptions)}
        scenes = SceneFiles(
            SceneOptions(**drawn), self.scene_train_images, self.scene_eval_images, self.scene_train_labels
        )
        return _take(DatasetOptions, self, scenes=scenes)

    def coco(self) -> CocoOptions:
        return _take(CocoOptions, self, phrase_map=self._phrase_map())

    def phrases(self) -> PhraseOptions:
        return _take(PhraseOptions, self, synonyms=self._phrase_map().synonyms)

    def transforms(self, resolution: int) -> TransformOptions:
        return _take(TransformOptions, self, resolution=resolution)

    def prompts(self) -> PromptOptions:
        return _take(PromptOptions, self)

    def _phrase_map(self) -> PhraseMap:
        return read_phrase_map(self.phrase_map) if self.phrase_map else PhraseMap()


@dataclass
class LossArguments:
    """Weights of the loss; the defaults are the official ones. See the README for what each part does."""

    loss_box: float = _arg(5.0, "L1 distance of matched boxes.")
    loss_giou: float = _arg(2.0, "Generalised IoU of matched boxes.")
    loss_classification: float = _arg(20.0, "Scores of queries.")
    loss_presence: float = _arg(20.0, "Is the phrase in the image at all.")
    loss_mask: float = _arg(200.0, "Focal loss of matched masks.")
    loss_dice: float = _arg(10.0, "Dice of matched masks.")
    loss_semantic: float = _arg(20.0, "Focal loss of the union of all instances.")
    loss_semantic_dice: float = _arg(30.0, "Dice of that union.")
    loss_one_to_many: float = _arg(2.0, "The second set of queries, against the first.")
    loss_positive: float = _arg(10.0, "Matched queries against unmatched ones within the score loss.")
    loss_presence_alpha: float = _arg(0.5, "Factor of the presence loss in the official focal form.")
    loss_score_alpha: float = _arg(0.25, "Exponent of the score in the soft target score^a · IoU^(1−a).")
    loss_mask_alpha: float = _arg(0.25, "Weight of the target's pixels in the mask focal loss.")
    loss_semantic_alpha: float = _arg(0.6, "Weight of the target's pixels in the semantic focal loss.")
    match_class: float = _arg(2.0, "Matching cost of the score.")
    match_box: float = _arg(5.0, "Matching cost of the L1 distance.")
    match_giou: float = _arg(2.0, "Matching cost of the generalised IoU.")
    one_to_many_topk: int = _arg(4, "Queries an instance may have among the second set.")
    one_to_many_threshold: float = _arg(0.4, "Lowest matching score of those.")
    one_to_many_alpha: float = _arg(0.3, "Share of the query's score in that matching score; the rest is IoU.")
    masks_per_block: int = _arg(8, "Full-size mask rows in memory at once. Changes speed and memory, no result.")
    mask_points: int | None = _arg(None, "Points sampled a mask (PointRend) instead of all pixels.")
    ignore_overlap: float = _arg(0.5, "A query that lies in a crowd region with this share of its box is left alone.")
    scale_by_sqrt_pairs: bool = _arg(False, "Multiply the loss by the root of a batch's pairs, as the official code.")

    def __post_init__(self):
        _check_ranges(self)

    def criterion(self) -> Sam3Criterion:
        names = [f.name for f in dataclasses.fields(LossWeights)]
        return _take(
            Sam3Criterion,
            self,
            weights=LossWeights(**{name: getattr(self, f"loss_{name}") for name in names}),
            hungarian=HungarianMatcher(self.match_class, self.match_box, self.match_giou),
            one_to_many=OneToManyMatcher(self.one_to_many_alpha, self.one_to_many_threshold, self.one_to_many_topk),
        )


@dataclass
class Sam3TrainingArguments(TrainingArguments):
    """
    Transformers' `TrainingArguments` and what SAM 3 adds.

    Defaults that differ from `TrainingArguments`: `remove_unused_columns`, `label_names`, `accelerator_config` and
    `logging_nan_inf_filter`, without which Trainer strips, cuts, mixes or hides what the loss needs; batch size 1,
    accumulation 4, 20 epochs, clipping at 0.1, workers, an evaluation and a checkpoint an epoch, the best one kept.
    """

    output_dir: str = _arg("out/sam3", "Checkpoints, logs, pictures and the final model.")
    num_train_epochs: float = _arg(20.0, "Passes over the training images.")
    per_device_train_batch_size: int = _arg(1, "Images a step and device.")
    per_device_eval_batch_size: int = _arg(1, "Images a step and device in evaluation.")
    gradient_accumulation_steps: int = _arg(
        4, "Batches an optimizer step; exact: losses are divided by all instances."
    )
    learning_rate: float = _arg(8e-4, "Rate of everything but the encoders, before `lr_scale`.")
    vision_learning_rate: float = _arg(2.5e-4, "Rate of the vision encoder, before `lr_scale`.")
    text_learning_rate: float = _arg(5e-5, "Rate of the text encoder, before `lr_scale`.")
    lr_scale: float = _arg(0.1, "Factor of all three: 1 is the paper's pre-training, 0.1 its fine-tuning.")
    vision_layer_decay: float = _arg(0.9, "Each ViT layer's rate is the next one's times this.")
    weight_decay: float = _arg(0.1, "AdamW's decay of all but biases and norms.")
    max_grad_norm: float = _arg(0.1, "Gradient clipping.")
    lr_schedule: str = _arg(
        "sam3",
        "sam3: inverse square root with warm-up and cool-down; transformers: `lr_scheduler_type`.",
        choices=["sam3", "transformers"],
    )
    warmup_steps: float = _arg(20, "Steps of rising rates; below 1, a share of all steps.")
    timescale_steps: int = _arg(20, "sam3 schedule: steps after which the rate falls.")
    cooldown_steps: int = _arg(20, "sam3 schedule: steps of falling to 0 at the end.")
    normalizer: str = _arg(
        "window",
        "window: losses are divided by the counts of the accumulation window and all processes; batch: by each batch's "
        "own, as the official code.",
        choices=["window", "batch"],
    )
    eval_strategy: str = _arg("epoch", 'When to evaluate: "no", steps, epoch.')
    save_strategy: str = _arg("epoch", 'When to save: "no", steps, epoch, best.')
    save_total_limit: int | None = _arg(2, "Checkpoints kept.")
    load_best_model_at_end: bool = _arg(True, "End with the best checkpoint's weights.")
    metric_for_best_model: str | None = _arg("eval_mask_AP", "What best means: eval_mask_AP, eval_box_AP, eval_loss.")
    early_stopping_patience: int | None = _arg(10, "Stop after so many evaluations without improvement; null: never.")
    restore_callback_states_from_checkpoint: bool = _arg(True, "Early stopping goes on counting after a resume.")
    logging_steps: float = _arg(5, "Steps between logs.")
    logging_first_step: bool = _arg(True, "Log the first step too.")
    logging_nan_inf_filter: bool = _arg(False, "Trainer hides NaN losses by default.")
    report_to: None | str | list[str] = _arg("tensorboard", "Loggers: tensorboard, wandb, trackio, none.")
    dataloader_num_workers: int = _arg(2, "Processes that load images.")
    remove_unused_columns: bool = _arg(False, "Trainer would drop the collator's input.")
    label_names: list[str] | None = _arg(["labels"], "Trainer would take box prompts for labels.")
    accelerator_config: dict | str | None = field(
        default_factory=lambda: {"dispatch_batches": False},  # dispatching cuts and mixes targets of unequal size
        metadata={"help": "Accelerate's data loading."},
    )
    ddp_find_unused_parameters: bool | None = _arg(False, "Every trained parameter gets a gradient in every step.")
    seed: int = _arg(42, "Of every draw.")
    keep_score_threshold: float = _arg(0.05, "Evaluation keeps detections with at least this score.")
    keep_max_detections: int = _arg(100, "Evaluation keeps at most this many a phrase.")
    num_pictures: int = _arg(4, "Evaluation images drawn with truth and prediction.")
    eval_before: bool = _arg(True, "Evaluate once before training, so that there is something to compare with.")
    dry_run: bool = _arg(False, "Go through every stage with one step, then stop and leave nothing behind.")

    def __post_init__(self):
        _check_ranges(self)
        if self.bf16 and not torch.accelerator.is_available():
            logger.warning("`bf16: true`, but there is no accelerator here: ignored")
            self.bf16 = False
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        if "no" in (self.eval_strategy, self.save_strategy):
            # there will be no score to choose by, or no checkpoint to choose
            self.load_best_model_at_end, self.early_stopping_patience = False, None
        super().__post_init__()

    def make_dry(self, folder: str) -> None:
        """One optimizer step, no checkpoint, no logger, everything in `folder`."""
        self.output_dir, self.report_to, self.max_steps, self.gradient_accumulation_steps = folder, [], 1, 1
        self.eval_strategy, self.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
        self.load_best_model_at_end, self.early_stopping_patience = False, None
        self.eval_before, self.num_pictures, self.resume_from_checkpoint = False, 1, None

    def summary(self, model: str, dataset: str | None) -> str:
        """One line that says what this run assumes."""
        window = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # what the accelerate config asked for
        precision = "bf16" if self.bf16 or launched == "bf16" else "float32"
        length = f"{self.max_steps} steps" if self.max_steps > 0 else f"{self.num_train_epochs:g} epochs"
        return (
            f"{model} on {dataset}: {length}, {window} images a step ({self.per_device_train_batch_size} × "
            f"{self.gradient_accumulation_steps} accumulated × {self.world_size} processes), rates "
            f"{self.learning_rate * self.lr_scale:g} / vision {self.vision_learning_rate * self.lr_scale:g} / text "
            f"{self.text_learning_rate * self.lr_scale:g}, {precision} on {self.device}, seed "
            f"{self.seed}, output in {self.output_dir}"
        )

    def rates(self) -> Rates:
        return Rates(
            self.learning_rate * self.lr_scale,
            self.vision_learning_rate * self.lr_scale,
            self.text_learning_rate * self.lr_scale,
            self.vision_layer_decay,
            self.weight_decay,
        )

    def keep(self) -> Keep:
        return Keep(self.keep_score_threshold, self.keep_max_detections)


SAM3_ARGUMENTS = (ModelArguments, DataArguments, LossArguments, Sam3TrainingArguments)
