"""Declaration of keys and their allowed ranges."""

import inspect
from dataclasses import MISSING, field, fields

from ..models.lora import MAX_RANK


def arg(default, help: str, **metadata):
    """
    Declare a key of a dataclass.

    Args:
        default: Default value; a list or dict is copied for each instance.
        help (`str`): Text of `--help`.
        metadata: Further metadata of the field, such as `choices`.
    """
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


_ANY = float("inf")
# Smallest and largest allowed value of each key, both included. Values outside would make a run meaningless.
RANGES = {
    **dict.fromkeys(
        [
            "resolution",
            "distill_per_image",
            "pairs_per_chunk",
            "masks_per_block",
            "mask_points",
            "one_to_many_topk",
        ],
        (1, _ANY),
    ),
    **dict.fromkeys(["max_train_samples", "max_eval_samples", "max_phrases_per_image"], (1, _ANY)),
    **dict.fromkeys(["keep_max_detections", "gradient_accumulation_steps", "timescale_steps"], (1, _ANY)),
    **dict.fromkeys(["per_device_train_batch_size", "per_device_eval_batch_size"], (1, _ANY)),
    **dict.fromkeys(["scene_train_images", "scene_eval_images", "scene_min_shapes", "scene_max_shapes"], (1, _ANY)),
    **dict.fromkeys(["scene_width", "scene_height"], (16, _ANY)),
    **dict.fromkeys(["scene_clutter", "scene_ramp", "scene_seed"], (0, _ANY)),
    **dict.fromkeys(
        [
            "negatives_per_image",
            "probe_images",
            "max_false_positives",
            "num_pictures",
            "cooldown_steps",
            "warmup_steps",
            "max_grad_norm",
        ],
        (0, _ANY),
    ),
    **dict.fromkeys(
        ["learning_rate", "vision_learning_rate", "text_learning_rate", "lr_scale", "weight_decay"], (0, _ANY)
    ),
    **dict.fromkeys(
        ["loss_box", "loss_giou", "loss_classification", "loss_presence", "loss_mask", "loss_dice"], (0, _ANY)
    ),
    **dict.fromkeys(["loss_semantic", "loss_semantic_dice", "loss_one_to_many", "loss_positive"], (0, _ANY)),
    **dict.fromkeys(["match_class", "match_box", "match_giou", "distill_weight"], (0, _ANY)),
    **dict.fromkeys(["loss_presence_alpha", "loss_score_alpha", "loss_mask_alpha", "loss_semantic_alpha"], (0, 1)),
    **dict.fromkeys(["one_to_many_threshold", "one_to_many_alpha", "ignore_overlap", "keep_score_threshold"], (0, 1)),
    **dict.fromkeys(
        [
            "replay_share",
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
    **dict.fromkeys(["box_probability", "mask_prompt_probability", "truth_click_probability", "box_jitter"], (0, 1)),
    **dict.fromkeys(["min_points", "max_points"], (1, 5)),
    **dict.fromkeys(["n_rounds", "eval_clicks"], (1, 20)),
    **dict.fromkeys(["max_objects_per_image", "objects_per_chunk"], (1, _ANY)),
    **dict.fromkeys(["box_jitter_px", "loss_iou", "loss_object", "loss_bce"], (0, _ANY)),
    "negative_points": (0, 5),
    "num_train_epochs": (0.01, _ANY),
    "cache_views": (1, _ANY),
    "eval_accumulation_steps": (1, _ANY),
    "lora_r": (1, MAX_RANK),
    "lora_alpha": (0, _ANY),
    "lora_dropout": (0, 0.99),
    "min_crop": (0.05, 1),
    "validation_fraction": (0, 0.9),
    "negative_ratio": (0, 0.99),
    "seed": (0, 2**32 - 1),
}


def check_ranges(arguments) -> None:
    """
    Check every number of a dataclass against `RANGES`.

    Args:
        arguments: Instance of a dataclass of keys; keys that it lacks are skipped.

    Raises:
        ValueError: If a number is outside its range. The message names key, value and range.
    """
    for key, (low, high) in RANGES.items():
        value = getattr(arguments, key, None)
        if isinstance(value, int | float) and not (low <= value <= high and value < _ANY):
            allowed = f"{low:g} or more" if high == _ANY else f"between {low:g} and {high:g}"
            raise ValueError(f"`{key}` is {value}; it must be {allowed}")


def default_of(arguments: type, key: str):
    """
    Return the default value of a key.

    Args:
        arguments (`type`): Dataclass of keys.
        key (`str`): Name of one of its fields.
    """
    field_of_key = next(f for f in fields(arguments) if f.name == key)
    return field_of_key.default if field_of_key.default is not MISSING else field_of_key.default_factory()


def take(options: type, source, **overrides):
    """
    Build an options object from the attributes of the same names.

    Args:
        options (`type`): Class to instantiate; its parameters are the names.
        source: Instance of a dataclass of keys. Parameters that it lacks keep their defaults.
        overrides: Parameters that are not read from `source`.
    """
    names = inspect.signature(options).parameters.keys() - overrides.keys()
    return options(**{name: getattr(source, name) for name in names if hasattr(source, name)}, **overrides)
