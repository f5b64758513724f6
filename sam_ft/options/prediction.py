"""Options of the predictors."""

from dataclasses import dataclass

from .keys import check_values, key, key_of


# Formats that predictions are written in.
OUTPUTS = ("coco", "cvat", "labelme", "x_anylabeling", "label_studio", "yolo", "overlays", "masks", "parquet")
PREDICTIONS_DIR = "out/predictions"  # default output folder


@dataclass
class PredictOptions:
    """
    Options of [`Sam3Predictor`].

    Attributes:
        score_threshold (`float`, *optional*): Score threshold of all phrases; the checkpoint's thresholds, or 0.5, by
            default.
        max_detections (`int`): Maximum number of detections per phrase and view, 100 by default.
        nms_iom (`float`, *optional*): Intersection over minimum area from which on the lower score of two detections
            of a phrase is suppressed; no suppression within an untiled image by default.
        tile_size (`int`, *optional*): Side of the tiles of images that are larger, px; no tiles by default.
        tile_overlap (`float`): Share of its side that a tile has in common with the next one, 0.2 by default.
        views_per_batch (`int`): Number of images or tiles per forward pass of the vision encoder, 1 by default.
        bf16 (`bool`, *optional*): Run the model under bfloat16 autocast; by default on a GPU that computes bfloat16.
        geometry_token (`str`): `never` (default) as in Transformers, `always` as in the official package.
        exemplar_method (`str`): Use of references in other images: `tokens` or `canvas`.
    """

    score_threshold: float | None = key(
        None,
        "Minimum score of a detection, 0 to 1. Default: the thresholds saved with the model, or 0.5 without them.",
        low=0,
        high=1,
    )
    max_detections: int = key(
        100,
        "Maximum number of detections per phrase and image (or tile), 1 to 10000.",
        low=1,
        high=10_000,
    )
    nms_iom: float | None = key(
        None,
        "Non-maximum suppression threshold, 0.01 to 1: of two detections of a phrase whose intersection is at least "
        "this fraction of the smaller mask, the lower score is removed. Default: no suppression.",
        low=0.01,
        high=1,
    )
    tile_size: int | None = key(
        None,
        "Side of the tiles in px, at least 32: images larger than this are also predicted tile by tile, to find small "
        "objects. Default: no tiles.",
        low=32,
        high=1_000_000,
    )
    tile_overlap: float = key(
        0.2, "Overlap of neighbouring tiles as a fraction of `tile_size`, 0 to 0.9.", low=0, high=0.9
    )
    views_per_batch: int = key(
        1,
        "Number of images or tiles that the vision encoder processes at once, 1 to 10000.",
        name="images_per_batch",
        low=1,
        high=10_000,
    )
    bf16: bool | None = key(
        None,
        "Run the model under bfloat16 autocast, as training with `bf16: true` does: on a GPU several times faster "
        "than float32, with slightly different scores. Default: true on a GPU that computes bfloat16, else false.",
    )
    geometry_token: str = key(
        "never",
        "Geometry token of text-only prompts. never: left out, as in Transformers; always: added, as in the official "
        "package.",
        name="eval_geometry_token",
        choices=("always", "never"),
    )
    exemplar_method: str = key(
        "canvas",
        "Method for `exemplar_images`. canvas: places at most 5 reference images of a phrase beside each predicted "
        "image; tokens: adds the encoded boxes of any number of reference images to the prompt.",
        choices=("canvas", "tokens"),
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class Sam2PredictOptions:
    """
    Options of [`Sam2Predictor`].

    Attributes:
        views_per_batch (`int`): Number of images per forward pass of the image encoder, 1 by default.
        bf16 (`bool`, *optional*): As [`PredictOptions`].
    """

    views_per_batch: int = key_of(PredictOptions, "images_per_batch")
    bf16: bool | None = key_of(PredictOptions, "bf16")

    def __post_init__(self) -> None:
        check_values(self)
