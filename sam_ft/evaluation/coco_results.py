"""Other programs' results in COCO's format, checked before they are scored."""

import json
import math
from pathlib import Path

from ..data.safe_text import to_printable
from ..ops.masks import polygons_to_counts, rle_to_counts
from ..utils.text import list_some, short_repr


_FORM = "expected image_id, category_id, a finite score, bbox [x, y, w, h] of finite px, and segmentation"


def read_results(file: str, truth: dict) -> list[dict]:
    """
    Read the results of evaluated (image, category) pairs; those of other pairs are left out.

    Args:
        file (`str`): A JSON list.
        truth (`dict`): Of [`coco_ground_truth`].

    Raises:
        `ValueError`: Names file, record and field: on a score outside [0, 1], a negative width or height, a number
            that is not finite, an unknown image or category, or a mask that cannot be decoded.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"`compare`: {file} is not JSON ({error}). Give a JSON list of COCO results") from error
    if not isinstance(results, list):
        raise ValueError(f"`compare`: {file}, the whole file: expected a list of COCO results")
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
        raise ValueError(f"{_FORM}, found {short_repr(result)}")
    score, box = result.get("score"), result.get("bbox")
    if not _is_number(score):
        raise ValueError(f"{_FORM}; `score` is {short_repr(score)}")
    if not 0 <= score <= 1:
        raise ValueError(f"`score` is {score}; a score must lie between 0 and 1 (apply the sigmoid to logits)")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{_FORM}; `bbox` is {short_repr(box)}")
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
