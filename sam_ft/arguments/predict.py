"""Keys of the prediction."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.data import ReadOptions, check_channels
from ..options.keys import key, key_of
from ..options.prediction import OUTPUTS, PREDICTIONS_DIR, PredictOptions, Sam2PredictOptions
from .base import Keys, with_keys_of


@dataclass
class SharedPredictArguments(Keys):
    """
    Input images, output formats and device: keys that SAM 3 and SAM 2 share.

    Attributes:
        options_class (`type`): Class of the predictor's options.
    """

    key_topic: ClassVar[str] = "Prediction"
    options_class: ClassVar[type]

    images: list[str] = key(
        [],
        "Image files, folders (searched recursively), globs such as 'photos/**/*.jpg', text files (.txt) with one "
        "path per line, tar or parquet files or their URLs, or Hub data sets such as owner/name.",
    )
    predictions_dir: str = key(
        PREDICTIONS_DIR, "Output folder. The same command with the same folder continues an interrupted prediction."
    )
    outputs: list[str] = key(
        ["coco", "overlays"],
        "Output formats, one or several. coco: coco.json and results.json; cvat, labelme, x_anylabeling, yolo: "
        "annotation files of these tools; label_studio: tasks with predictions and their labelling configuration; "
        "overlays: images with the predictions drawn; masks: one PNG per phrase or label; parquet: tables with one "
        "row per detection and per image.",
        choices=OUTPUTS,
    )
    image_channels: list[int] = key_of(
        ReadOptions,
        "image_channels",
        help="Three channels, numbered from 1, that are red, green and blue in images with more than three, such as "
        "multispectral TIFF files: 3 2 1. Set the value of the training.",
    )
    images_per_batch: int = key_of(PredictOptions, "images_per_batch")
    bf16: bool | None = key_of(PredictOptions, "bf16")
    workers: int = key(
        2,
        "Number of processes that load images for each process of the prediction, 0 to 1000; 0 uses no further ones.",
        low=0,
        high=1000,
    )
    on_bad_images: str = key(
        "error",
        "Handling of an image file that cannot be read. error: stop; skip: continue without it.",
        choices=("error", "skip"),
    )
    device: str | None = key(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )
    engine: str = key(
        "processes",
        "Engine of the prediction. processes: this one, or those of `accelerate launch`; ray: actors of a Ray "
        'cluster, which needs `pip install "sam-ft[ray]"`.',
        choices=("processes", "ray"),
    )
    ray_address: str | None = key(
        None,
        "HOST:PORT of the head of a Ray cluster, or auto for the one that runs on this machine. Default: the "
        "environment variable RAY_ADDRESS, or else a cluster of this machine for the time of the command.",
    )
    ray_actors: int | None = key(
        None,
        "Number of Ray actors, 1 to 10000; each holds the model on one GPU, or on up to 4 CPUs. Default: the number "
        "of GPUs of the cluster, or a quarter of its CPUs if it has no GPU.",
        low=1,
        high=10_000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_channels(self.image_channels)
        ray_keys = [name for name in ("ray_address", "ray_actors") if getattr(self, name) is not None]
        if ray_keys and self.engine != "ray":
            raise ValueError(f"`{ray_keys[0]}` is used with `engine: ray` only. Set `engine: ray`, or remove the key")


@with_keys_of(PredictOptions)
class PredictArguments(SharedPredictArguments):
    """Phrases, exemplars, thresholds and tiling of a prediction with SAM 3."""

    options_class: ClassVar[type] = PredictOptions

    phrases: list[str] = key([], "Noun phrases to segment. Default: the phrases on which the model was trained.")
    exemplar_file: str | None = key(
        None,
        'JSON file {"image": [[x, y, w, h], …]} of exemplar boxes in px; a fifth number 0 marks a negative exemplar. '
        "Used together with `phrases` or without them.",
    )
    exemplar_images: str | None = key(
        None,
        'JSON file of reference images, which are not predicted: {"pothole": {"a.jpg": [[x, y, w, h], …]}}, or '
        'without a phrase {"a.jpg": [[x, y, w, h], …]}, in px; or a COCO file. Paths are relative to the file.',
    )


@dataclass
class Sam2PredictArguments(SharedPredictArguments):
    """Prompts of a prediction with SAM 2."""

    options_class: ClassVar[type] = Sam2PredictOptions

    prompt_file: str | None = key(
        None,
        'JSON file {"image": [{"points": [[x, y, 1], [x, y, 0]], "box": [x, y, w, h], "label": "cat"}, …]} in px with '
        "one entry per object, or a COCO file whose boxes are the prompts, such as the results of a detector.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images and self.prompt_file is None:
            raise ValueError(
                "`prompt_file` is missing: SAM 2 needs a prompt for each object. Set it to a JSON file of clicks and "
                "boxes"
            )
