"""Keys of a prediction."""

from dataclasses import dataclass

from ..inference.sam2_predictor import Sam2PredictOptions
from ..inference.sam3_predictor import PredictOptions
from .base import arg, take


@dataclass
class SharedPredictArguments:
    """Which images, and what is written."""

    images: list[str] = arg([], "Image files, folders (all below them) or globs such as 'photos/**/*.jpg'.")
    predictions_dir: str = arg(
        "out/predictions", "Folder that is written. The same call again goes on where it stopped."
    )
    outputs: list[str] = arg(
        ["coco", "overlays"],
        "coco: coco.json and results.json; labelme, yolo: for labelling further; overlays: pictures; masks: a PNG a phrase or label.",
        choices=["coco", "labelme", "yolo", "overlays", "masks"],
    )
    images_per_batch: int = arg(1, "Images or tiles through the vision encoder at once.")
    workers: int = arg(2, "Processes that load images.")
    on_bad_images: str = arg("error", "A file that cannot be read: stop, or leave it out.", choices=["error", "skip"])
    device: str | None = arg(
        None, "Where it runs: cuda, cuda:1, mps, cpu. Default: the accelerator, where there is one."
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
    """What SAM 3 is asked of which images, and what is written."""

    phrases: list[str] = arg([], "What to find. Default: the phrases that the model was trained on.")
    exemplar_file: str | None = arg(
        None,
        'JSON file {"image": [[x, y, w, h], …]} of boxes, px, that show what is wanted; a fifth number 0: none such. Beside phrases, or alone.',
    )
    score_threshold: float | None = arg(
        None, "Score from which on a detection counts. Default: the thresholds saved with the model, 0.5 without."
    )
    max_detections: int = arg(100, "Detections a phrase and image (or tile) at most.")
    nms_iom: float | None = arg(
        None,
        "Of two detections of a phrase that overlap by this share of the smaller one, keep the better. Default: both.",
    )
    tile_size: int | None = arg(
        None, "Show images that are larger than this, px, in tiles of it, too: for small things."
    )
    tile_overlap: float = arg(0.2, "Share of a tile's side that the next one shows again.")
    eval_geometry_token: str = arg(
        "never", "never: as Transformers answers; always: as the official package does.", choices=["always", "never"]
    )

    def options(self) -> PredictOptions:
        return take(
            PredictOptions, self, views_per_batch=self.images_per_batch, geometry_token=self.eval_geometry_token
        )


@dataclass
class Sam2PredictArguments(SharedPredictArguments):
    """Which objects of which images SAM 2 is to cut out, and what is written."""

    prompt_file: str | None = arg(
        None,
        'JSON file {"image": [{"points": [[x, y, 1], [x, y, 0]], "box": [x, y, w, h], "label": "cat"}, …]}, px, an entry an object; or a COCO file '
        "whose boxes are the prompts, such as a detector's.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.images and self.prompt_file is None:
            raise ValueError("`prompt_file`: SAM 2 is told where to look; give a JSON file of clicks and boxes")

    def options(self) -> Sam2PredictOptions:
        return Sam2PredictOptions(self.images_per_batch)
