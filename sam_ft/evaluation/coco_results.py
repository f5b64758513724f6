"""COCO results files of other programs, validated before they are scored."""

import json
import math
from pathlib import Path

from ..data.safe_text import to_printable
from ..ops.masks import polygons_to_counts, rle_to_counts
from ..utils.text import list_some, short_repr


_EXPECTED = "expected image_id, category_id, a finite score, bbox [x, y, w, h] of finite px, and segmentation"


def read_results(file: str, truth: dict) -> list[dict]:
    """
    Read the results of evaluated (image, category) pairs; those of other pairs are left out.

    Args:
        file (`str`): Path of a JSON list of COCO results.
        truth (`dict`): Ground truth of [`coco_ground_truth`].

    Returns:
        `list[dict]`: Results, with masks as compressed RLE.

    Raises:
        `ValueError`: A score is outside [0, 1], a width or height negative, a number not finite, an image or category
            unknown, or a mask cannot be decoded. The message contains file, record and field.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"`compare`: {file} is not JSON ({error}). Pass a JSON list of COCO results.") from error
    if not isinstance(results, list):
        raise ValueError(f"`compare`: {file}: expected a list of COCO results, got {short_repr(results)}")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for i, result in enumerate(results):
        try:
            _check_numbers(result)
            for key, allowed in (("image_id", sizes), ("category_id", categories)):
                _check_id(key, result.get(key), allowed)
            if "segmentation" in result:
                result["segmentation"] = _checked_rle(result["segmentation"], *sizes[result["image_id"]])
        except ValueError as error:
            raise ValueError(to_printable(f"`compare`: {file}, result {i}: {error}")) from error
    pairs = {(pair["image_id"], pair["category_id"]) for pair in truth["pairs"]}
    return [result for result in results if (result["image_id"], result["category_id"]) in pairs]


def _check_numbers(result) -> None:
    if not isinstance(result, dict):
        raise ValueError(f"{_EXPECTED}, got {short_repr(result)}")
    score, box = result.get("score"), result.get("bbox")
    if score is None or not _is_number(score):
        raise ValueError(f"{_EXPECTED}; `score` is {short_repr(score)}")
    if not 0 <= score <= 1:
        raise ValueError(f"`score` is {score}; a score must lie between 0 and 1 (apply the sigmoid to logits)")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{_EXPECTED}; `bbox` is {short_repr(box)}")
    if min(box[2:]) < 0:
        raise ValueError(f"`bbox` is {box}, with a negative width or height; write [x, y, width, height] in px")


def _check_id(key: str, value, allowed) -> None:
    if not isinstance(value, int | str) or value not in allowed:
        raise ValueError(f"`{key}` is {short_repr(value)}; the evaluation has {list_some(sorted(allowed), 6)}")


def _checked_rle(segmentation, height: int, width: int) -> dict:
    try:
        if isinstance(segmentation, dict):
            counts = rle_to_counts(segmentation, height, width)
        else:
            counts = polygons_to_counts(segmentation, height, width)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"`segmentation` cannot be read ({error})") from error
    return {"size": [height, width], "counts": counts}


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
