"""Second predictions of a label review: labels of a probably wrong phrase in crops that enlarge them."""

import gc
import logging

import torch
from PIL import Image

from ..data.row_schema import to_rgb
from ..data.samples.transforms import Geometry
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.tiling import View, Views
from ..metrics.label_overlap import ReviewedImage
from ..metrics.label_phrases import measure_supports
from ..metrics.label_review import WRONG_PHRASE, calibrate, review_image
from ..metrics.thresholds import Thresholds
from ..utils.console import progress_bar
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from .review_committee import list_committee
from .review_data import ReviewData
from .review_folds import FoldRuns, get_fold_name


logger = logging.getLogger("sam_ft.run")

MIN_CROP_SCORE = 0.1  # score of a wrong phrase from which on a label is predicted again
CROP_SCALE = 2.0  # side of a crop relative to the long side of the label's box
MAX_ENLARGEMENT = 4.0  # more than this, an image has no further detail
MAX_CROP_PHRASES = 16  # phrases of a crop

Crops = dict[tuple[str, int], dict[str, float]]


def predict_crops(
    runs: FoldRuns,
    data: ReviewData,
    images: dict[str, ReviewedImage],
    fold_of: dict[str, int | None],
    owned: OwnedFiles,
) -> None:
    """
    Predict labels of a probably wrong phrase again, each by the model of its fold in a crop around the label.

    Args:
        runs (`FoldRuns`): Keys of the runs, whose folds are complete.
        data (`ReviewData`): The images.
        images (`dict[str, ReviewedImage]`): Labels and predictions by example; `crops` is set.
        fold_of (`dict[str, int | None]`): Fold that predicted each example.
        owned (`OwnedFiles`): Files of the review's folder, in which the supports are stored for a later call.
    """
    uncertain = find_uncertain(images)
    rows = {name: i for i, name in enumerate(data.rows["example_id"])}
    for fold, member in enumerate(list_committee(runs, data)):
        number = None if data.folds is None else fold
        labels = [key for key in uncertain if fold_of[key[0]] == number]
        name = f"predictions/crops-{get_fold_name(number)}.json"
        crops = _read_crops(owned, name)
        missing = [key for key in labels if key not in crops]
        if missing:
            logger.info("  %s: %d labels to predict in an enlarged crop", member.name, len(missing))
            predictor = member.load()
            predictor.thresholds = Thresholds()  # the predictions of the images are not calibrated either
            for example, index in progress_bar(missing, total=len(missing), caption="crops"):
                image = to_rgb(data.rows[rows[example]]["image"])
                crops[example, index] = predict_crop(predictor, image, images[example], index)
            entries = [[*key, supports] for key, supports in sorted(crops.items())]
            owned.write_text(name, to_json(entries, name), "review_dir")
            del predictor
            gc.collect()
        for example, index in labels:
            images[example].crops[index] = crops[example, index]


def _read_crops(owned: OwnedFiles, name: str) -> Crops:
    if not (owned.folder / name).is_file():
        return {}
    remedy = "Delete it and run the same command again, which predicts the crops again"
    entries = read_json_file(owned.folder / name, "review_dir", remedy=remedy)
    return {(example, index): supports for example, index, supports in entries}


def find_uncertain(images: dict[str, ReviewedImage]) -> list[tuple[str, int]]:
    """
    Find the labels whose phrase is probably wrong and that a crop would enlarge.

    Args:
        images (`dict[str, ReviewedImage]`): Labels and predictions by example.

    Returns:
        `list[tuple[str, int]]`: Example, and index among its labels.
    """
    calibration = calibrate(images.values())
    return [
        (example, index)
        for example, image in images.items()
        for index, score in enumerate(review_image(image, calibration).labels[WRONG_PHRASE])
        if score >= MIN_CROP_SCORE and _choose_window(image, index, 1)[2:] != image.size[::-1]
    ]


def _choose_window(image: ReviewedImage, index: int, min_side: int) -> tuple[int, int, int, int]:
    """Return the window `(x, y, w, h)` of the crop around a label, px."""
    (height, width), (x, y, w, h) = image.size, image.labels[index]["bbox"]
    side = max(round(CROP_SCALE * max(w, h)), min_side)
    sides = min(side, width), min(side, height)
    left, top = (
        int(min(max(center - length / 2, 0), total - length))
        for center, length, total in zip((x + w / 2, y + h / 2), sides, (width, height), strict=True)
    )
    return left, top, *sides


def predict_crop(
    predictor: Sam3Predictor, image: Image.Image, reviewed: ReviewedImage, index: int
) -> dict[str, float]:
    """
    Predict the crop around a label.

    Args:
        predictor (`Sam3Predictor`): Model that was not trained on the image.
        image (`PIL.Image.Image`): The image, RGB.
        reviewed (`ReviewedImage`): Its labels and predictions.
        index (`int`): Index of the label.

    Returns:
        `dict[str, float]`: Support of each phrase at the label, without calibration.
    """
    side = predictor.resolution
    window = _choose_window(reviewed, index, round(side / MAX_ENLARGEMENT))
    canvas = torch.from_numpy(Geometry(window, False, (0, 0, side, side), side).image(image))
    views = Views("crop", reviewed.size, [View(window, canvas)])
    (prediction,) = predictor.predict([views], _choose_phrases(reviewed, index))
    detections = [{**d, "phrase": phrase} for phrase, group in prediction.detections.items() for d in group]
    return measure_supports(ReviewedImage(reviewed.size, reviewed.labels, detections))[index]


def _choose_phrases(reviewed: ReviewedImage, index: int) -> list[str]:
    """Return the phrase of a label, and those with the most support at it or else the highest presence."""
    phrase, supports = reviewed.labels[index]["phrase"], measure_supports(reviewed)[index]
    others = {p for p in (*reviewed.presence, *supports) if p != phrase}
    ranked = sorted(others, key=lambda p: (-supports.get(p, 0.0), -reviewed.presence.get(p, 0.0), p))
    return [phrase, *ranked[: MAX_CROP_PHRASES - 1]]
