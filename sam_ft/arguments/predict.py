"""Keys of the prediction."""

from dataclasses import dataclass

from ..inference.sam2_predictor import Sam2PredictOptions
from ..inference.sam3_predictor import PredictOptions
from .base import arg, take


@dataclass
class SharedPredictArguments:
    """Input images, output formats and device: keys that SAM 3 and SAM 2 share."""

    images: list[str] = arg([], "Image files, folders (searched recursively) or globs such as 'photos/**/*.jpg'.")
    predictions_dir: str = arg(
        "out/predictions", "Output folder. The same command with the same folder continues an interrupted prediction."
    )
    outputs: list[str] = arg(
        ["coco", "overlays"],
        "Output formats, one or several. coco: coco.json and results.json; labelme, yolo: annotation files of these "
        "tools; overlays: images with the predictions drawn; masks: one PNG per phrase or label.",
        choices=["coco", "labelme", "yolo", "overlays", "masks"],
    )
    images_per_batch: int = arg(1, "Number of images or tiles that the vision encoder processes at once, at least 1.")
    workers: int = arg(2, "Number of processes that load images; 0 loads them in the main process.")
    on_bad_images: str = arg(
        "error",
        "Handling of an image file that cannot be read. error: stop; skip: continue without it.",
        choices=["error", "skip"],
    )
    device: str | None = arg(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )

    def __post_init__(self):
        for name, low, high in (
            ("score_threshold", 0, 1), ("nms_iom", 0.01, 1), ("tile_overlap", 0, 0.9), ("tile_size", 32, 1e6),
            ("max_detections", 1, 1e4), ("images_per_batch", 1, 1e4), ("workers", 0, 1e3),
        ):  # fmt: skip
            value = getattr(self, name, None)
            if value is not None and not low <= value <= high:
                raise ValueError(f"`{name}` is {value}; it must lie between {low:g} and {high:g}")


@dataclass
class PredictArguments(SharedPredictArguments):
    """Phrases, exemplars, thresholds and tiling of a prediction with SAM 3."""

    phrases: list[str] = arg([], "Noun phrases to segment. Default: the phrases on which the model was trained.")
    exemplar_file: str | None = arg(
        None,
        'JSON file {"image": [[x, y, w, h], …]} of exemplar boxes in px; a fifth number 0 marks a negative exemplar. '
        "Used together with `phrases` or without them.",
    )
    score_threshold: float | None = arg(
        None,
        "Minimum score of a detection, 0 to 1. Default: the thresholds saved with the model, or 0.5 without them.",
    )
    max_detections: int = arg(100, "Maximum number of detections per phrase and image (or tile), 1 to 10000.")
    nms_iom: float | None = arg(
        None,
        "Non-maximum suppression threshold, 0.01 to 1: of two detections of a phrase whose intersection is at least "
        "this fraction of the smaller mask, the lower score is removed. Default: no suppression.",
    )
    tile_size: int | None = arg(
        None,
        "Side of the tiles in px, at least 32: images larger than this are also predicted tile by tile, to find small "
        "objects. Default: no tiles.",
    )
    tile_overlap: float = arg(0.2, "Overlap of neighbouring tiles as a fraction of `tile_size`, 0 to 0.9.")
    eval_geometry_token: str = arg(
        "never",
        "Geometry token of text-only prompts. never: left out, as in Transformers; always: added, as in the official "
        "package.",
        choices=["always", "never"],
    )

    def options(self) -> PredictOptions:
        """Return the options of the SAM 3 predictor."""
        return take(
            PredictOptions, self, views_per_batch=self.images_per_batch, geometry_token=self.eval_geometry_token
        )


@dataclass
class Sam2PredictArguments(SharedPredictArguments):
    """Prompts of a prediction with SAM 2."""

    prompt_file: str | None = arg(
        None,
        'JSON file {"image": [{"points": [[x, y, 1], [x, y, 0]], "box": [x, y, w, h], "label": "cat"}, …]} in px with '
        "one entry per object, or a COCO file whose boxes are the prompts, such as the results of a detector.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.images and self.prompt_file is None:
            raise ValueError(
                "`prompt_file` is missing: SAM 2 needs a prompt for each object. Set it to a JSON file of clicks and "
                "boxes"
            )

    def options(self) -> Sam2PredictOptions:
        """Return the options of the SAM 2 predictor."""
        return Sam2PredictOptions(self.images_per_batch)
